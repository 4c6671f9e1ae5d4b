"""XCiT: Cross-Covariance Image Transformers (El-Nouby et al., NeurIPS 2021)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class LayerScale(nn.Module):
    """y = gamma x over the last axes."""

    def __init__(self, *shape: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class ConvBn(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.bn(self.conv(x)))


class Stem(nn.Module):
    def __init__(self, dim: int, dim2: int) -> None:
        super().__init__()
        self.conv_bn = ConvBn(dim, dim=dim2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_bn(x)


class ConvBn2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class Stem2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_bn = ConvBn2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_bn(x)


class Place(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("h", 1 + torch.arange(2), persistent=False)
        self.register_buffer("c", torch.arange(16), persistent=False)
        self.token_projection = nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        angle = (
            6.283185307179586
            * (self.h.to(dtype) / 2.000001)
            * torch.exp(self.c.to(dtype) * -0.5756462732485115)[:, None]
        )
        row = torch.stack((torch.sin(angle), torch.cos(angle))).transpose(0, 1).flatten(0, 1)
        angle = (
            6.283185307179586
            * (self.h.to(dtype) / 2.000001)
            * torch.exp(self.c.to(dtype) * -0.5756462732485115)[:, None]
        )
        column = torch.stack((torch.sin(angle), torch.cos(angle))).transpose(0, 1).flatten(0, 1)
        row = torch.cat((row.expand(2, -1, -1), column.transpose(0, 1)[..., None].expand(-1, -1, 2)), 1)
        return self.token_projection(row.transpose(1, 2))


class ChannelAttention(nn.Module):
    """Channels attend to the channels of their head by how alike their maps are: v softmax(temperature k^T q),
    where q and k have length 1 over space; `mix` may filter q, k and v first (El-Nouby et al., XCiT, NeurIPS
    2021; Zamir et al., Restormer, CVPR 2022).
    """

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(2))
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, -1))
        q, k, v = qkv.unbind(3)
        q = F.normalize(q, dim=(1, 2))
        k = F.normalize(k, dim=(1, 2))
        weights = (self.temperature[:, None, None] * torch.einsum("bhwec,bhweo->beco", q, k)).softmax(-1)
        return self.proj(torch.einsum("bhco,bawho->bhcaw", weights, v).flatten(1, 2).permute(0, 2, 3, 1))


class LocalInteraction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.bn = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.bn(F.gelu(self.conv1(x))))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, 64)
        self.fc2 = nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(16, eps=1e-6)
        self.attn = ChannelAttention()
        self.scale1 = LayerScale(16, init=1.0)
        self.norm3 = nn.LayerNorm(16, eps=1e-6)
        self.local = LocalInteraction()
        self.scale3 = LayerScale(16, init=1.0)
        self.norm2 = nn.LayerNorm(16, eps=1e-6)
        self.mlp = Mlp()
        self.scale2 = LayerScale(16, init=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.scale1(self.attn(self.norm1(x)))
        stochastic_depth = self.local(self.norm3(x).permute(0, 3, 1, 2)) * self.scale3.gamma[:, None, None]
        x = x + stochastic_depth.permute(0, 2, 3, 1)
        return x + self.scale2(self.mlp(self.norm2(x)))


class ClassLayer(nn.Module):
    """The class token attends to all tokens; they are but normed."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(16, eps=1e-6)
        self.q = nn.Linear(16, 16)
        self.k = nn.Linear(16, 16)
        self.v = nn.Linear(16, 16)
        self.proj = nn.Linear(16, 16)
        self.scale1 = LayerScale(16, init=1.0)
        self.norm2 = nn.LayerNorm(16, eps=1e-6)
        self.mlp = Mlp()
        self.scale2 = LayerScale(16, init=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        q = self.q(y[:, 0]).unflatten(-1, (2, 8))
        k = self.k(y).unflatten(-1, (2, 8))
        v = self.v(y).unflatten(-1, (2, 8))
        seen = F.scaled_dot_product_attention(q[:, :, None], k.transpose(1, 2), v.transpose(1, 2)).squeeze(2)
        seen = self.proj(seen.flatten(1))
        x = x + self.scale1(torch.cat((seen[:, None], y[:, 1:]), 1))
        x = torch.cat((self.norm2(x[:, :1]), x[:, 1:]), 1)
        token = self.scale2(self.mlp(x[:, :1]))
        return x + torch.cat((token, x[:, 1:]), 1)


class ClassBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_layer = ClassLayer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.class_layer(x)


class Xcit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(16), std=0.02))
        self.stem = nn.ModuleList([*(Stem(dim, dim2=dim2) for dim, dim2 in zip((3, 2, 4), (2, 4, 8))), Stem2()])
        self.pos_embed = Place()
        self.blocks = nn.ModuleList([Block()])
        self.class_blocks = nn.ModuleList(ClassBlock() for _ in range(2))
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        b = image.shape[0]
        for stem in self.stem:
            image = stem(image)
        x = (image + self.pos_embed(image).transpose(0, 2)).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        x = torch.cat((self.cls_token[None].expand(b, -1, -1), x.flatten(1, 2)), 1)
        for class_block in self.class_blocks:
            x = class_block(x)
        return self.head(self.norm(x[:, 0]))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Mlp):
                module.compile(**options)
