"""Linear recurrences against flash-linear-attention: its sequential functions, and its models in double
precision with their Triton kernels written out.
"""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archlang.helpers.delta_rule import delta_rule
from archlang.helpers.linear_recurrence import linear_recurrence
from tests.peers.parity import agree, difference, load

pytest.importorskip("fla")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def naive(family: str, function: str) -> Any:
    return getattr(import_module(f"fla.ops.{family}.naive"), function)


def made(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def swap(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


# ---- the operation
Q, K, V = made(2, 3, 150, 8), F.normalize(made(2, 3, 150, 8, seed=1), dim=-1), made(2, 3, 150, 12, seed=2)
GATE, BETA = F.logsigmoid(made(2, 3, 150, 8, seed=3)), made(2, 3, 150, 1, seed=4).sigmoid()
HEAD, SCALE = GATE[..., :1], 8**-0.5


def test_functions():
    q, k, v, gate, head, beta = (swap(x) for x in (Q, K, V, GATE, HEAD, BETA))
    wanted = [
        naive("gla", "naive_recurrent_gla")(q, k, v, gate)[0],
        naive("simple_gla", "naive_recurrent_simple_gla")(q, k, v, head[..., 0])[0],
        swap(naive("delta_rule", "delta_rule_recurrence")(Q, K, V, BETA[..., 0])[0]),
        naive("gated_delta_rule", "naive_recurrent_gated_delta_rule")(q, k, v, beta[..., 0], head[..., 0])[0],
    ]
    ours = [
        linear_recurrence(Q, K, V, GATE, SCALE),
        linear_recurrence(Q, K, V, HEAD, SCALE),
        delta_rule(Q, K, V, BETA, scale=SCALE),
        delta_rule(Q, K, V, BETA, HEAD, SCALE),
    ]
    for theirs, mine in zip(wanted, ours, strict=True):
        assert difference(swap(mine), theirs) <= 1e-5


# ---- the models
class Norm(nn.Module):
    """RMSNorm, of x and a residual if there is one; with `prenorm` that sum too."""

    def __init__(self, hidden_size: int, elementwise_affine: bool = True, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(hidden_size)), eps

    def forward(self, x: Tensor, residual: Tensor | None = None, prenorm: bool = False) -> Any:
        x = x if residual is None else x + residual
        y = F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return (y, x) if prenorm else y


class GatedNorm(Norm):
    """RMSNorm, times silu of a gate."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return super().forward(x) * F.silu(gate)


class Convolution(nn.Conv1d):
    """Depthwise and causal, then silu."""

    def __init__(self, hidden_size: int, kernel_size: int, **_: Any) -> None:
        super().__init__(hidden_size, hidden_size, kernel_size, groups=hidden_size, padding=kernel_size - 1, bias=False)

    def forward(self, x: Tensor, **_: Any) -> tuple[Tensor, None]:
        return F.silu(swap(super().forward(swap(x))[..., : x.shape[1]])), None


def kernel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    beta: Tensor | None = None,
    num_householder: int = 1,
    **more: Any,
) -> tuple[Tensor, None]:
    """S = exp(g) S, then S = S + beta k (v - S k)^T for every factor, then o = S q; of q: [b, t, h, c]."""
    g = more.get("gk", g)
    if more.get("use_gate_in_kernel"):
        g, beta = -more["A_log"].exp() * F.softplus(g + more["dt_bias"]), beta.sigmoid()
    if beta is not None:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    state, outputs = torch.zeros(*q.shape[:1], *q.shape[2:], v.shape[-1], dtype=q.dtype), []
    for t in range(q.shape[1]):
        if g is not None:
            state = state * g[:, t].exp().reshape(*q.shape[:1], q.shape[2], -1, 1)
        for i in range(num_householder * t, num_householder * (t + 1)):
            new = v[:, i]
            if beta is not None:
                new = beta[:, i, :, None] * (new - torch.einsum("bhc,bhcd->bhd", k[:, i], state))
            state = state + k[:, i, :, :, None] * new[:, :, None]
        outputs.append(torch.einsum("bhc,bhcd->bhd", q[:, t] * q.shape[-1] ** -0.5, state))
    return torch.stack(outputs, 1), None


OPERATIONS = "gla delta_rule gated_delta_rule gated_delta_product"
KERNELS = {
    **{f"{way}_{name}": kernel for way in ("chunk", "fused_recurrent") for name in OPERATIONS.split()},
    "FusedRMSNormGated": GatedNorm,
    "RMSNorm": Norm,
    "ShortConvolution": Convolution,
    "swiglu": lambda gate, x: F.silu(gate) * x,
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2, "intermediate_size": 48, "vocab_size": 64}
OURS = {"dim": 32, "depth": 2, "heads": 2, "hidden": 48, "vocab": 64}


@pytest.mark.parametrize(
    ("layer", "config", "theirs", "file", "model", "ours"),
    [
        ("gla", "GLA", {}, "gla.arch", None, {}),
        ("delta_net", "DeltaNet", {}, "delta_net.arch", "delta_net_lm", {}),
        ("gated_deltanet", "GatedDeltaNet", {"head_dim": 8}, "delta_net.arch", "gated_delta_net_lm", {"head_dim": 8}),
        (
            "gated_deltaproduct",
            "GatedDeltaProduct",
            {"head_dim": 8, "num_householder": 3, "use_forget_gate": True, "allow_neg_eigval": True},
            "delta_product.arch",
            None,
            {"head_dim": 8, "factors": 3},
        ),
    ],
)
def test_models(
    layer: str,
    config: str,
    theirs: dict[str, Any],
    file: str,
    model: str | None,
    ours: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
):
    models = import_module(f"fla.models.{layer}.modeling_{layer}")
    layers = import_module(f"fla.layers.{layer}")
    for module in (models, layers, import_module("fla.modules.mlp")):
        for name in KERNELS.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, KERNELS[name])
    if layer == "gated_deltanet":
        monkeypatch.setattr(layers.GatedDeltaNet, "_use_fused_qkv_conv", lambda *_, **__: False)
    monkeypatch.setattr(Tensor, "float", lambda x: x)  # they round gates to single precision
    settings = {**SMALL, **theirs, "fuse_swiglu": False, "fuse_cross_entropy": False, "use_cache": False}
    peer = getattr(models, f"{config}ForCausalLM")(getattr(models, f"{config}Config")(**settings)).double()
    network = load(file, model, **OURS, **ours)
    tokens = torch.randint(0, 64, (2, 23), generator=torch.Generator().manual_seed(2))
    agree(network, peer, network.map("fla"), tokens)
