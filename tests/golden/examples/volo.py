"""VOLO: Vision Outlooker for Visual Recognition (Yuan et al., TPAMI 2022)."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))


def overlap_add(
    x: torch.Tensor,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    left: tuple[int, ...],
) -> torch.Tensor:
    """Sum windows [.., *counts, taps] to [.., *size]: tap k of window o goes to o * stride + k * dilation - left."""
    axes = range(len(size))
    counts = x.shape[-1 - len(size) : -1]
    spans = [(counts[i] - 1) * stride[i] + 1 for i in axes]
    ends = [max(left[i] + size[i], dilation[i] * (kernel[i] - 1) + spans[i]) for i in axes]
    y = x.new_zeros((*x.shape[: -1 - len(size)], *ends))
    for tap, k in enumerate(itertools.product(*map(range, kernel))):
        starts = [k[i] * dilation[i] for i in axes]
        places: tuple[Any, ...] = (..., *(slice(starts[i], starts[i] + spans[i], stride[i]) for i in axes))
        y[places] += x[..., tap]
    inside: tuple[Any, ...] = (..., *(slice(left[i], left[i] + size[i]) for i in axes))
    return y[inside]


class ConvBn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class ConvBn2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class OutlookAttention(nn.Module):
    """Places of a window read each other by weights that its mean gives; where windows overlap, they sum."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Linear(4, 4, bias=False)
        self.attn = nn.Linear(4, 162)
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rearrange = self.v(x).unflatten(-1, (2, -1))
        v = F.pad(rearrange.permute(0, 3, 4, 1, 2), (1, 1, 1, 1)).unfold(3, 3, 2).unfold(4, 3, 2)
        v = v.flatten(5)
        weight = F.avg_pool2d(x.permute(0, 3, 1, 2), 2)
        weight = self.attn(weight.permute(0, 2, 3, 1)).unflatten(-1, (2, 9, 9))
        weight = (weight * 0.7071067811865476).softmax(-1)
        y = torch.einsum("bhweot,bechwt->bhweoc", weight, v)
        fold = overlap_add(y.permute(0, 3, 5, 1, 2, 4), (4, 4), (3, 3), (2, 2), (1, 1), (1, 1))
        y = fold.permute(0, 3, 4, 1, 2)
        return self.proj(y.flatten(3))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 3 * dim)
        self.fc2 = nn.Linear(3 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Outlooker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(4)
        self.attn = OutlookAttention()
        self.norm2 = nn.LayerNorm(4)
        self.mlp = Mlp(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24, bias=False)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 4, 2))
        q, k, v = qkv.unbind(3)
        o = F.scaled_dot_product_attention(
            q.flatten(1, 2).transpose(1, 2), k.flatten(1, 2).transpose(1, 2), v.flatten(1, 2).transpose(1, 2)
        )
        return self.proj(o.transpose(1, 2).unflatten(1, (-1, 2)).flatten(3))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.attn = SelfAttention()
        self.norm2 = nn.LayerNorm(8)
        self.mlp = Mlp(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + drop_path(self.attn(self.norm1(x)), 0.1, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), 0.1, self.training)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class ClassLayer(nn.Module):
    """The class token, which is the first, attends to all."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.kv = nn.Linear(8, 16, bias=False)
        self.q = nn.Linear(8, 8, bias=False)
        self.proj = nn.Linear(8, 8)
        self.norm2 = nn.LayerNorm(8)
        self.mlp = Mlp(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        kv = self.kv(y).unflatten(-1, (2, 4, 2))
        q = self.q(y[:, 0]).unflatten(-1, (4, 2))
        k, v = kv.unbind(2)
        token = F.scaled_dot_product_attention(q[:, :, None], k.transpose(1, 2), v.transpose(1, 2)).squeeze(2)
        token = x[:, 0] + self.proj(token.flatten(1))
        token = token + self.mlp(self.norm2(token))
        return torch.cat((token[:, None], x[:, 1:]), 1)


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_layer = ClassLayer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.class_layer(x)


class Volo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(2, 2, 8), std=0.02))
        self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(8), std=0.02))
        self.stem1 = ConvBn()
        self.stem2 = ConvBn2()
        self.stem3 = ConvBn2()
        self.patches = nn.Conv2d(4, 4, 4, stride=4)
        self.outlookers = nn.ModuleList([Outlooker()])
        self.down = nn.Conv2d(4, 8, 2, stride=2)
        self.stages = nn.ModuleList([Stage()])
        self.last = nn.ModuleList(Last() for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.aux_head = nn.Linear(8, 5)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        b = image.shape[0]
        x = self.patches(self.stem3(self.stem2(self.stem1(image)))).permute(0, 2, 3, 1)
        for outlooker in self.outlookers:
            x = outlooker(x)
        x = self.down(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.pos_embed
        for stage in self.stages:
            x = stage(x)
        x = torch.cat((self.cls_token[None].expand(b, -1, -1), x.flatten(1, 2)), 1)
        for last in self.last:
            x = last(x)
        x = self.norm(x)
        dense = self.aux_head(x[:, 1:])
        return self.head(x[:, 0]) + 0.5 * dense.amax(1)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Mlp):
                module.compile(**options)
