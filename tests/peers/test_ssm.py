"""State space models with the weights of published implementations."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archlang.checkpoint import Key, WeightMap
from archlang.source import BUILTIN
from tests.peers.parity import agree, load


def tokens(vocab: int, length: int = 23) -> Tensor:
    return torch.randint(0, vocab, (2, length), generator=torch.Generator().manual_seed(2))


def same_names(module: nn.Module) -> WeightMap:
    return WeightMap("same names", {key: (Key(key), BUILTIN) for key in module.state_dict()}, ())


def test_mamba():
    transformers = pytest.importorskip("transformers")
    config = transformers.MambaConfig(
        vocab_size=64, hidden_size=32, state_size=8, num_hidden_layers=2, use_mambapy=False, use_cache=False
    )
    network = load("mamba.arch", variant="mamba_130m", vocab=64, dim=32, depth=2, state=8)
    agree(network, transformers.MambaForCausalLM(config), network.map("transformers"), tokens(64))


def test_mamba2():
    transformers = pytest.importorskip("transformers")
    config = transformers.Mamba2Config(
        vocab_size=64, hidden_size=32, state_size=16, num_hidden_layers=2, head_dim=8, num_heads=8, n_groups=1,
        chunk_size=16, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    network = load("mamba2.arch", variant="mamba2_130m", vocab=64, dim=32, depth=2, state=16, head_dim=8)
    agree(network, transformers.Mamba2ForCausalLM(config), network.map("transformers"), tokens(64))


def test_jamba():
    transformers = pytest.importorskip("transformers")
    config = transformers.JambaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, attn_layer_period=4, attn_layer_offset=2, num_experts=1, mamba_d_state=8, mamba_dt_rank=2,
        use_mamba_kernels=False, use_cache=False, tie_word_embeddings=True, pad_token_id=None,
    )  # fmt: skip
    settings = {"vocab": 64, "dim": 32, "depth": 4, "heads": 4, "kv_heads": 2, "hidden": 48, "state": 8}
    network = load("jamba.arch", variant="jamba_3b", every=4, offset=2, **settings)
    agree(network, transformers.JambaForCausalLM(config), network.map("transformers"), tokens(64))


# ---- VMamba, written out
class Direction(nn.Module):
    """x' = A x + B u, y = C x + D u with steps dt, held constant over each: A = exp(dt a), B = dt b."""

    def __init__(self, dim: int, state: int, rank: int) -> None:
        super().__init__()
        self.a_log, self.skip = nn.Parameter(torch.zeros(dim, state)), nn.Parameter(torch.zeros(dim))
        self.x_proj, self.dt_proj = nn.Linear(dim, rank + 2 * state, bias=False), nn.Linear(rank, dim)

    def forward(self, u: Tensor) -> Tensor:
        state = self.a_log.shape[1]
        low, b, c = self.x_proj(u).split([self.dt_proj.in_features, state, state], 2)
        dt, x, y = F.softplus(self.dt_proj(low)), 0, []
        for t in range(u.shape[1]):
            step = dt[:, t, :, None]
            x = torch.exp(step * -self.a_log.exp()) * x + step * b[:, t, None] * u[:, t, :, None]
            y.append((x * c[:, t, None]).sum(2) + self.skip * u[:, t])
        return torch.stack(y, 1)


class Mixer(nn.Module):
    def __init__(self, dim: int, state: int) -> None:
        super().__init__()
        inner = 2 * dim
        self.in_proj, self.conv = nn.Linear(dim, 2 * inner, bias=False), nn.Conv2d(inner, inner, 3, 1, 1, groups=inner)
        self.scans = nn.ModuleList(Direction(inner, state, -(-dim // 16)) for _ in range(4))
        self.out_norm, self.out_proj = nn.LayerNorm(inner), nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.in_proj(x).chunk(2, 3)
        u = F.silu(self.conv(u.permute(0, 3, 1, 2)))
        rows, columns = u.flatten(2).mT, u.mT.flatten(2).mT
        paths = [rows, columns, rows.flip(1), columns.flip(1)]
        a, b, c, d = (scan(path) for scan, path in zip(self.scans, paths, strict=True))
        y = (a + c.flip(1)).mT.reshape(u.shape) + (b + d.flip(1)).mT.reshape(u.mT.shape).mT
        return self.out_proj(self.out_norm(y.permute(0, 2, 3, 1)) * F.silu(z))


class Block(nn.Module):
    def __init__(self, dim: int, state: int) -> None:
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(dim), Mixer(dim, state)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))


class Embed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(3, dim, 4, 4), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Merge(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, 3)))


class Stage(nn.Module):
    def __init__(self, dim: int, depth: int, state: int, first: bool) -> None:
        super().__init__()
        if not first:
            self.patch_merge = Merge(dim // 2)
        self.blocks = nn.ModuleList(Block(dim, state) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "patch_merge"):
            x = self.patch_merge(x)
        for block in self.blocks:
            x = block(x)
        return x


class VMamba(nn.Module):
    def __init__(self, dim: int, depths: list[int], state: int, classes: int) -> None:
        super().__init__()
        self.patch_embed = Embed(dim)
        self.stages = nn.ModuleList(Stage(dim * 2**s, depth, state, s == 0) for s, depth in enumerate(depths))
        self.norm, self.head = (
            nn.LayerNorm(dim * 2 ** (len(depths) - 1)),
            nn.Linear(dim * 2 ** (len(depths) - 1), classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))


def test_vmamba():
    settings = {"dim": 8, "depths": [1, 2], "state": 3, "classes": 5}
    network = load("vmamba.arch", variant="tiny", resolution=32, drop_path=0, **settings)
    peer = VMamba(**settings).double()  # type: ignore[arg-type]
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    agree(network, peer, same_names(peer), x)


# ---- LSSL and S4D, written out step by step
class Lssl(nn.Module):
    """x[t] = (1 - dt A / 2)^-1 ((1 + dt A / 2) x[t - 1] + dt B u[t]), y = C x + D u, for every channel."""

    def __init__(self, dim: int, state: int) -> None:
        super().__init__()
        self.a, self.write = nn.Parameter(torch.zeros(state, state)), nn.Parameter(torch.zeros(state))
        self.read, self.skip = nn.Parameter(torch.zeros(dim, 1, state)), nn.Parameter(torch.zeros(dim, 1))
        self.log_dt, self.mix = nn.Parameter(torch.zeros(dim)), nn.Linear(dim, dim)

    def forward(self, u: Tensor) -> Tensor:
        half, eye = self.log_dt.exp()[:, None, None] * self.a / 2, torch.eye(len(self.a)).to(u)
        inverse = torch.linalg.inv(eye - half)
        x, y = torch.zeros(len(u), u.shape[2], len(self.a)).to(u), []
        for t in range(u.shape[1]):
            kick = self.log_dt.exp()[:, None] * self.write * u[:, t, :, None]
            x = torch.einsum("cij,bcj->bci", inverse, torch.einsum("cij,bcj->bci", eye + half, x) + kick)
            y.append((self.read[:, 0] * x).sum(2) + self.skip[:, 0] * u[:, t])
        return self.mix(F.gelu(torch.stack(y, 1)))


class S4d(nn.Module):
    """x[t] = exp(dt a) x[t - 1] + (exp(dt a) - 1) / a u[t], y = 2 Re(C x) + D u, for every channel."""

    def __init__(self, dim: int, state: int) -> None:
        super().__init__()
        self.log_dt, self.log_decay = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim, state // 2))
        self.frequency, self.read = (
            nn.Parameter(torch.zeros(dim, state // 2)),
            nn.Parameter(torch.zeros(2, dim, state // 2)),
        )
        self.skip, self.mix = nn.Parameter(torch.zeros(dim)), nn.Linear(dim, 2 * dim)

    def forward(self, u: Tensor) -> Tensor:
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        decay = torch.exp(self.log_dt.exp()[:, None] * a)
        x, y = 0, []
        for t in range(u.shape[1]):
            x = decay * x + (decay - 1) / a * u[:, t, :, None]
            y.append(2 * (torch.complex(*self.read) * x).sum(2).real + self.skip * u[:, t])
        left, right = self.mix(F.gelu(torch.stack(y, 1))).chunk(2, 2)
        return left * right.sigmoid()


class Layer(nn.Module):
    def __init__(self, dim: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(dim), mixer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))


class Classifier(nn.Module):
    def __init__(self, mixer: type[nn.Module], channels: int, dim: int, depth: int, state: int) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(channels, dim), nn.Linear(dim, 10)
        self.layers = nn.ModuleList(Layer(dim, mixer(dim, state)) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


@pytest.mark.parametrize("mode", ["convolution", "recurrence"])
def test_s4d(mode: str):
    """Both modes are one function: that of the equations, step by step."""
    network = load("s4.arch", "s4d_cifar", mode, dim=6, depth=2, state=8, drop=0)
    peer = Classifier(S4d, 3, 6, 2, 8).double()
    x = torch.randn(2, 21, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    agree(network, peer, same_names(peer), x)


@pytest.mark.parametrize("mode", ["convolution", "recurrence"])
def test_lssl(mode: str):
    """At a length where a random matrix, which is not stable, has not outgrown the digits of a transform."""
    network = load("s4.arch", "lssl_cifar", mode, dim=6, depth=2, state=4, length=8, drop=0)
    peer = Classifier(Lssl, 1, 6, 2, 4).double()
    x = torch.randn(2, 8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    agree(network, peer, same_names(peer), x)
