"""Networks that differ in who sees whom, against published implementations and their equations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.peers.parity import agree, load, picture


def neighbors(size: int, kernel: int, dilation: int) -> Tensor:
    """index[i] holds the positions that i sees: those of its residue class around it, moved inwards at borders."""
    rows = []
    for i in range(size):
        own = list(range(i % dilation, size, dilation))
        start = min(max(own.index(i) - kernel // 2, 0), len(own) - kernel)
        rows.append(own[start : start + kernel])
    return torch.tensor(rows)


def gathered(x: Tensor, kernel: int, dilation: int) -> Tensor:
    """x[b, heads, h, w, c] as [b, heads, h, w, kernel * kernel, c]."""
    rows, columns = (neighbors(size, kernel, dilation) for size in x.shape[2:4])
    return x[:, :, rows[:, None, :, None], columns[None, :, None, :]].flatten(4, 5)


def scores(q: Tensor, k: Tensor, rpb: Tensor, kernel: int, dilation: int) -> Tensor:
    """What NATTEN's first kernel computes; transformers hands [b, w, h, heads, c] to it."""
    q, k = (x.permute(0, 3, 2, 1, 4) for x in (q, k))
    rows, columns = (
        (neighbors(size, kernel, dilation) - torch.arange(size)[:, None]) // dilation + kernel - 1
        for size in q.shape[2:4]
    )
    bias = rpb[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3)
    return (q[..., None, :] * gathered(k, kernel, dilation)).sum(-1) + bias


def values(weights: Tensor, v: Tensor, kernel: int, dilation: int) -> Tensor:
    """What its second kernel computes."""
    return (weights[..., None] * gathered(v.permute(0, 3, 2, 1, 4), kernel, dilation)).sum(4)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_dinat(scale: float | None, monkeypatch: pytest.MonkeyPatch):
    """The model of transformers around the equations of the kernels, which do not run here."""
    module: Any = pytest.importorskip("transformers.models.dinat.modeling_dinat")
    monkeypatch.setattr(module, "natten2dqkrpb", scores)
    monkeypatch.setattr(module, "natten2dav", values)
    monkeypatch.setattr(module, "requires_backends", lambda *_: None)
    sizes = {"depths": [2, 3], "kernel": 3, "resolution": 44, "classes": 10, "drop_path": 0}
    network = load("dinat.arch", dim=16, farthest=[3, 2], head_dim=8, scale=scale, **sizes)
    config = module.DinatConfig(
        embed_dim=16, depths=[2, 3], num_heads=[2, 4], kernel_size=3, dilations=[[1, 3], [1, 2, 1]], num_labels=10,
        drop_path_rate=0.0, layer_scale_init_value=scale or 0.0,
    )  # fmt: skip
    agree(network, module.DinatForImageClassification(config), network.map("transformers"), picture(44))
