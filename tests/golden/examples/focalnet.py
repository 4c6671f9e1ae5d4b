"""FocalNet: Focal Modulation Networks (Yang et al., NeurIPS 2022)."""

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


class PatchEmbed(nn.Module):
    def __init__(self, in_dim: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FocalLayer(nn.Module):
    def __init__(self, dim: int, conv2: int, conv3: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, conv2, padding=conv3, groups=dim, bias=False)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.conv(context))


class FocalModulation(nn.Module):
    """y = proj(q * h(sum over l of gate_l context_l)), where context_l = gelu(depthwise(context_l-1))
    has kernels of `window`, `window` + `growth`, .. and the last is the mean of the map
    (Yang et al., NeurIPS 2022).
    """

    def __init__(self, dim: int, f2: int) -> None:
        super().__init__()
        self.dim = dim
        self.f = nn.Linear(dim, f2)
        self.focal_layers = nn.ModuleList(
            FocalLayer(dim, conv2=conv2, conv3=conv3) for conv2, conv3 in zip((3, 5, 7), (1, 2, 3))
        )
        self.h = nn.Conv2d(dim, dim, 1)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, context, gates = self.f(x).split((self.dim, self.dim, 4), -1)
        context = context.permute(0, 3, 1, 2)
        contexts = []
        for focal_layer in self.focal_layers:
            context = focal_layer(context)
            contexts.append(context)
        gates0, gates1, gathered, gates3 = gates.unbind(-1)
        gates0 = contexts[0] * gates0[:, None] + contexts[1] * gates1[:, None]
        context = F.gelu(context.mean((2, 3)))[..., None, None] * gates3[:, None]
        gathered = gates0 + contexts[2] * gathered[:, None] + context
        modulator = self.h(gathered).permute(0, 2, 3, 1)
        return self.proj(q * modulator)


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim: int, f2: int, stochastic_depth: float) -> None:
        super().__init__()
        self.stochastic_depth = stochastic_depth
        self.norm1 = nn.LayerNorm(dim)
        self.modulation = FocalModulation(dim, f2=f2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + drop_path(self.modulation(self.norm1(x)), self.stochastic_depth, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.stochastic_depth, self.training)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(8, f2=20, stochastic_depth=0.0)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = PatchEmbed(8, dim=16, patch=2)
        self.blocks = nn.ModuleList(
            Block(16, f2=36, stochastic_depth=stochastic_depth) for stochastic_depth in (0.1, 0.2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return x


class Focalnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(3, dim=8, patch=4)
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.patch_embed(image).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))
