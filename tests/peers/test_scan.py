"""Universal Transformer, Macaron, Mix-LN, RetNet and TransNormer against their equations, written out in float64."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.testing.laws import random_weights
from archlang.testing.networks import module_of
from tests.peers.parity import EXACT, difference, load

Weights = Mapping[str, Tensor]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def layer_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def rms_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"]


def heads_of(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return (scores.softmax(-1) @ v).transpose(-3, -2).flatten(-2)


def self_attention(w: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    q, k, v = (heads_of(part, heads) for part in linear(w, f"{name}.qkv", x).chunk(3, -1))
    return linear(w, f"{name}.proj", attention(q, k, v))


def waves(count: int, dim: int) -> Tensor:
    """sin and cos of positions at the speeds 10000^(-2 i / dim)."""
    angles = torch.arange(count).double()[:, None] * 10000.0 ** (-torch.arange(0, dim, 2).double() / dim)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


# ---- the networks
def universal(w: Weights, tokens: Tensor, steps: int = 4, epsilon: float = 0.01) -> list[Tensor]:
    """Each token by itself: it goes on until its probabilities of halting have added up, and the states on the way are
    averaged with these, the last with what is left to 1."""
    h = w["embed.weight"][tokens] * 8**0.5
    total, state = torch.zeros(tokens.shape).double(), torch.zeros_like(h)
    thought = torch.zeros_like(total)
    for step in range(steps):
        x = h + waves(tokens.shape[1], 8) + waves(steps, 8)[step]
        p = linear(w, "halting", x)[..., 0].sigmoid()
        a = layer_norm(w, "norm1", x + self_attention(w, "attention", x, 2), 1e-5)
        transition = linear(w, "transition.fc2", linear(w, "transition.fc1", a).relu())
        h = layer_norm(w, "norm2", a + transition, 1e-5)
        new = state.clone()
        for i in range(tokens.shape[0]):
            for j in range(tokens.shape[1]):
                if total[i, j] >= 1:
                    continue
                last = bool(total[i, j] + p[i, j] > 1 - epsilon)
                share = 1 - total[i, j] if last else p[i, j]
                new[i, j] = share * h[i, j] + (1 - share) * state[i, j]
                change = torch.zeros_like(total)
                change[i, j] = 1 + (1 - total[i, j] if last else 0)
                thought = thought + change
                change = torch.zeros_like(total)
                change[i, j] = share if not last else 1 - total[i, j]
                total = total + change
        state = new
    return [state, thought.mean()]


def macaron(w: Weights, tokens: Tensor, segment: Tensor) -> list[Tensor]:
    def half_step(name: str, x: Tensor) -> Tensor:
        return 0.5 * linear(w, f"{name}.fc2", F.gelu(linear(w, f"{name}.fc1", x)))

    x = w["word.weight"][tokens] + w["place.weight"][: tokens.shape[1]] + w["kind.weight"][segment]
    x = layer_norm(w, "norm", x, 1e-12)
    for i in range(2):
        layer = f"layers.{i}.macaron_layer"
        x = layer_norm(w, f"{layer}.norm1", x + half_step(f"{layer}.before", x), 1e-12)
        x = layer_norm(w, f"{layer}.norm2", x + self_attention(w, f"{layer}.attention", x, 2), 1e-12)
        x = layer_norm(w, f"{layer}.norm3", x + half_step(f"{layer}.after", x), 1e-12)
    return [x, linear(w, "pooler", x[:, 0]).tanh()]


def mix_ln(w: Weights, tokens: Tensor) -> list[Tensor]:
    """Four layers, the first with norms after the residual."""

    def turned(x: Tensor) -> Tensor:
        at, half = torch.arange(x.shape[-2]).double()[:, None], x.shape[-1] // 2
        angle = at * 10000.0 ** (-torch.arange(half).double() / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def attend(name: str, x: Tensor) -> Tensor:
        q, k, v = (heads_of(linear(w, f"{name}.{part}_proj", x), 2) for part in "qkv")
        return linear(w, f"{name}.o_proj", attention(turned(q), turned(k), v, causal=True))

    def feed_forward(name: str, x: Tensor) -> Tensor:
        return linear(w, f"{name}.down", F.silu(linear(w, f"{name}.gate", x)) * linear(w, f"{name}.up", x))

    x = w["embed.weight"][tokens]
    for i in range(4):
        branches: tuple[tuple[str, str, Callable[[str, Tensor], Tensor]], ...] = (
            ("norm1", "attn", attend),
            ("norm2", "mlp", feed_forward),
        )
        for norm, name, branch in branches:
            label, scale = f"layers.{i}.{name}", f"layers.{i}.{norm}"
            x = rms_norm(w, scale, x + branch(label, x)) if i == 0 else x + branch(label, rms_norm(w, scale, x))
    return [linear(w, "head", rms_norm(w, "norm", x))]


def decayed(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
    """(Q K^T * D) V with D_nm = gamma^(n - m) for m <= n: retention in its parallel form, heads side by side."""
    n = torch.arange(q.shape[-2])
    seen = torch.exp((n[:, None] - n) * log_decay[:, None, None]).tril()
    return ((q @ k.mT * seen) @ v).transpose(-3, -2)


def retnet(w: Weights, tokens: Tensor) -> list[Tensor]:
    x = w["embed.weight"][tokens]
    for i in range(2):
        y = layer_norm(w, f"layers.{i}.norm1", x, 1e-5)
        q, k, v, gate = (heads_of(linear(w, f"layers.{i}.attn.{name}", y), 2) for name in ("q", "k", "v", "gate"))
        pairs = q.shape[-1] // 2
        angles = torch.arange(y.shape[1])[:, None] * 10000.0 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        turns = torch.polar(torch.ones_like(angles), angles)
        q, k = (torch.complex(*part.chunk(2, -1)) * turns for part in (q, k))
        q, k = (torch.cat([part.real, part.imag], -1) for part in (q, k))
        seen = decayed(q * (2 * pairs) ** -0.5, k, v, w[f"layers.{i}.attn.log_decay"])
        seen = seen / (seen.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"layers.{i}.attn.norm.weight"]
        x = x + linear(w, f"layers.{i}.attn.out", (F.silu(gate.transpose(1, 2)) * seen).flatten(-2))
        y = layer_norm(w, f"layers.{i}.norm2", x, 1e-5)
        x = x + linear(w, f"layers.{i}.mlp.fc2", F.gelu(linear(w, f"layers.{i}.mlp.fc1", y)))
    return [layer_norm(w, "norm", x, 1e-5) @ w["embed.weight"].mT]


def transnormer(w: Weights, tokens: Tensor) -> list[Tensor]:
    def norm(x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    x = w["embed.weight"][tokens]
    for i in range(2):
        y = norm(x)
        q, k, v = (heads_of(linear(w, f"layers.{i}.attn.{name}", y), 2) for name in ("q", "k", "v"))
        q, k = F.silu(q), F.silu(k)
        if i == 0:
            angles = torch.arange(y.shape[1])[:, None] * w["layers.0.attn.speed"][:, None]
            q, k = (torch.cat([part * angles.cos(), part * angles.sin()], -1) for part in (q, k))
        seen = decayed(q, k, v, w[f"layers.{i}.attn.log_decay"]).flatten(-2)
        x = x + linear(w, f"layers.{i}.attn.out", linear(w, f"layers.{i}.attn.gate", y) * norm(seen))
        y = norm(x)
        gated = linear(w, f"layers.{i}.mlp.gate", y) * linear(w, f"layers.{i}.mlp.up", y)
        x = x + linear(w, f"layers.{i}.mlp.down", gated)
    return [linear(w, "head", norm(x))]


def test_fixed_decays() -> None:
    """Of every head, as the papers give them."""
    retention = load("retnet.arch", dim=16, depth=1, heads=4, vocab=8).module().layers[0].attn.log_decay
    torch.testing.assert_close(retention.exp(), 1 - 2.0 ** (-5 - torch.arange(4)))
    layers = load("transnormer.arch", dim=16, depth=2, heads=4, hidden=8, vocab=8).module().layers
    heads = torch.arange(1, 5) * 8 / 4
    for i in range(2):
        torch.testing.assert_close(layers[i].attn.log_decay, -heads * (1 - i / 2))
    torch.testing.assert_close(layers[0].attn.speed.flatten(), 10000 ** (-2 / 16 * torch.arange(16)))


SETTINGS: dict[str, tuple[Callable[..., list[Tensor]], dict[str, Any]]] = {
    "universal_transformer": (universal, {"vocab": 20, "dim": 8, "heads": 2, "steps": 4, "drop": 0}),
    "macaron": (macaron, {"vocab": 20, "length": 8, "dim": 8, "depth": 2, "heads": 2, "drop": 0}),
    "mix_ln": (mix_ln, {"vocab": 20, "dim": 8, "depth": 4, "heads": 2, "hidden": 12}),
    "retnet": (retnet, {"vocab": 20, "dim": 8, "depth": 2, "heads": 2}),
    "transnormer": (transnormer, {"vocab": 20, "dim": 8, "depth": 2, "heads": 2, "hidden": 12}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_equals_its_equations(name: str) -> None:
    """Results and the gradients of all weights."""
    equations, settings = SETTINGS[name]
    network = load(f"{name}.arch", **settings)
    weights = random_weights(network.graph, 0)
    module = module_of(network, weights).train()
    random = torch.Generator().manual_seed(1)
    inputs = [torch.randint(0, 20 if i == 0 else 2, (3, 6), generator=random) for i in range(len(network.inputs))]
    made = module(*inputs)
    made = [made] if isinstance(made, Tensor) else list(made)
    made += [loss.mean() for loss in getattr(module, "losses", {}).values()]
    leaves = {path: x.clone().requires_grad_() for path, x in weights.items()}
    wanted = equations(leaves, *inputs)
    for a, b in zip(made, wanted, strict=True):
        assert difference(a, b) <= EXACT
    parameters = dict(module.named_parameters())
    mine = torch.autograd.grad(sum((x * x.detach().cos()).sum() for x in made), list(parameters.values()))
    theirs = torch.autograd.grad(
        sum((x * x.detach().cos()).sum() for x in wanted), [leaves[path] for path in parameters]
    )
    largest = max(float(g.abs().max()) for g in theirs)
    for path, a, b in zip(parameters, mine, theirs, strict=True):
        assert float((a - b).abs().max()) <= EXACT * (float(b.abs().max()) + 0.1 * largest), path


def test_tokens_think_for_as_long_as_they_need() -> None:
    """Some halt early, some never: the states of tokens that halted stay as they are."""
    settings = SETTINGS["universal_transformer"][1]
    network = load("universal_transformer.arch", **settings)
    weights = random_weights(network.graph, 0)
    tokens = torch.randint(0, 20, (3, 6), generator=torch.Generator().manual_seed(1))
    short, long = (
        module_of(load("universal_transformer.arch", **{**settings, "steps": steps}), weights)(tokens)
        for steps in (4, 5)
    )
    same = (short - long).abs().amax(-1) < 1e-12
    assert bool(same.any())
    assert not bool(same.all())
