"""Networks with experts against their published implementations: equal weights, equal results, gradients and losses."""

import math

import pytest
import torch

import archlang
from tests.peers.parity import EXACT, EXAMPLES, TOLERANCE, agree, copied, difference, load, picture, timm


def tokens(vocab: int = 128) -> torch.Tensor:
    return torch.randint(0, vocab, (2, 23), generator=torch.Generator().manual_seed(2))


def mixtral(depth: int = 2) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=depth, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, rms_norm_eps=1e-5, rope_theta=10000.0,
        output_router_logits=True, sliding_window=None,
    )  # fmt: skip
    return transformers.MixtralForCausalLM(config)


def test_mixtral():
    network = load("mixtral.arch", variant="toy")
    agree(network, mixtral(), network.map("transformers"), tokens())


def test_stacked_experts():
    """In memory, theirs are one tensor for all experts: rows of its rows."""
    text = (EXAMPLES / "mixtral.arch").read_text()
    stacked = """
    layers[i].moe.router.gate = "model.layers.{i}.mlp.gate"
    layers[i].moe.experts[e].gate.weight = rows(reshape("model.layers.{i}.mlp.experts.gate_up_proj", [4, 96, 32]), 2 * e, 8)
    layers[i].moe.experts[e].up.weight = rows(reshape("model.layers.{i}.mlp.experts.gate_up_proj", [4, 96, 32]), 2 * e + 1, 8)
    layers[i].moe.experts[e].down.weight = rows(reshape("model.layers.{i}.mlp.experts.down_proj", [4, 32, 48]), e, 4)
"""
    start, end = text.index("    layers[i].moe.router"), text.index("    norm = ")
    network = archlang.loads(text[:start] + stacked + text[end:]).architecture(variant="toy")
    peer, module, weights = mixtral().eval(), network.module().eval(), network.map("transformers")
    theirs = peer.state_dict()
    module.load_state_dict(weights.load(theirs, module.state_dict()))
    assert difference(module(tokens()), peer(tokens()).logits) <= TOLERANCE
    saved = weights.save(module.state_dict())
    assert saved.keys() == theirs.keys()
    assert all(torch.equal(saved[key], tensor) for key, tensor in theirs.items())


def test_balance_loss_of_mixtral():
    """Of one layer: theirs means over all layers before it multiplies, ours is one for each."""
    network, peer = load("mixtral.arch", variant="toy", depth=1), mixtral(depth=1)
    module = copied(network, peer, network.map("transformers")).train()
    module(tokens())
    torch.testing.assert_close(module.losses["balance"].sum(), peer(tokens()).aux_loss)


def test_evit_that_keeps_all_is_a_deit():
    network = load("evit.arch", variant="small", keep=1, depth=2)
    agree(network, timm("vit_small_patch16_224", depth=2, drop_path_rate=0.0), network.map("timm"), picture(224))


def evit(x: torch.Tensor, weights: dict[str, torch.Tensor], heads: int, keep: float) -> torch.Tensor:
    """A layer of EViT as its paper states it, section 3: x is [b, 1 + n, c], cls first."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6
        )

    samples = []
    for sample in x:
        q, k, v = linear(norm(sample, "norm1"), "attn.qkv").view(len(sample), 3, heads, -1).unbind(1)
        attention = torch.stack([(q[:, h] @ k[:, h].T / q.shape[-1] ** 0.5).softmax(-1) for h in range(heads)])
        mixed = torch.cat([attention[h] @ v[:, h] for h in range(heads)], -1)
        sample = sample + linear(mixed, "attn.proj")
        rank = attention.mean(0)[0, 1:]
        order = rank.argsort(descending=True)
        kept = order[: math.ceil(keep * len(rank))]
        others = order[len(kept) :]
        fused = sum(rank[i] * sample[1 + i] for i in others)
        sample = torch.stack([sample[0], *(sample[1 + i] for i in kept), fused])
        hidden = torch.nn.functional.gelu(linear(norm(sample, "norm2"), "mlp.fc1"))
        samples.append(sample + linear(hidden, "mlp.fc2"))
    return torch.stack(samples)


def test_evit():
    """One layer that keeps 0.7 of the patches, in double precision."""
    settings = {"dim": 12, "depth": 1, "heads": 3, "reduce": [0], "patch": 8, "resolution": 32, "classes": 5}
    module = load("evit.arch", **settings).module(seed=0).double().eval()
    image = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tokens = module.patch_embed.proj(image).flatten(2).transpose(1, 2)
    x = torch.cat([module.cls_token.expand(3, 1, 12), tokens], 1) + module.pos_embed
    weights = {name.removeprefix("blocks.0."): tensor for name, tensor in module.state_dict().items()}
    wanted = module.head(module.norm(evit(x, weights, 3, 0.7))[:, 0])
    assert difference(module(image), wanted) <= EXACT
    wanted.square().sum().backward()
    gradient = module.pos_embed.grad.clone()
    module.zero_grad()
    module(image).square().sum().backward()
    assert difference(module.pos_embed.grad, gradient) <= EXACT
