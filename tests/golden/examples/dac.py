"""Descript Audio Codec (Kumar et al., NeurIPS 2023): snakes, strided convolutions, residual vector quantisation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Losses(dict[str, torch.Tensor]):
    """Auxiliary losses by name, one value for each place of the network; copies and saved modules go without them."""

    def __deepcopy__(self, memo: object) -> "Losses":
        return Losses()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Losses, ()


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha (Ziyin et al., NeurIPS 2020)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sin(self.alpha[:, None] * x) ** 2 / (self.alpha + 1e-9)[:, None]


class Unit(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.snake1 = Snake(dim)
        self.conv1 = nn.Conv1d(dim, dim, 7, padding=3)
        self.snake2 = Snake(dim)
        self.conv2 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.snake2(self.conv1(self.snake1(x))))


class Unit2(nn.Module):
    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.snake1 = Snake(dim)
        self.conv1 = nn.Conv1d(dim, dim, 7, padding=3 * dilation, dilation=dilation)
        self.snake2 = Snake(dim)
        self.conv2 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.snake2(self.conv1(self.snake1(x))))


class Encoder(nn.Module):
    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.unit1 = Unit(dim)
        self.unit2 = Unit2(dim, dilation=3)
        self.unit3 = Unit2(dim, dilation=9)
        self.snake = Snake(dim)
        self.conv = nn.Conv1d(dim, 2 * dim, dim, stride=stride, padding=dim // 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.snake(self.unit3(self.unit2(self.unit1(x)))))


class Quantizer(nn.Module):
    """The nearest code by direction, with the gradient of x."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj = nn.Linear(6, 4)
        self.table = nn.Parameter(torch.randn(9, 4))
        self.out_proj = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        latent = self.in_proj(x)
        code = F.linear(F.normalize(latent, dim=-1), F.normalize(self.table, dim=-1)).argmax(-1)
        found = self.table[code]
        commitment = ((latent - found.detach()) ** 2).mean((0, 1, 2))
        codebook = ((latent.detach() - found) ** 2).mean((0, 1, 2))
        return self.out_proj(latent + (found - latent).detach()), code, commitment, codebook


class Quantizer2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vq = Quantizer()

    def forward(
        self, rest: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        value, code, commitment, codebook = self.vq(rest)
        return value, rest - value, code, commitment, codebook


class Quantizer3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vq = Quantizer()

    def forward(
        self, rest: torch.Tensor, quantised: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        value, code, commitment, codebook = self.vq(rest)
        return quantised + value.transpose(1, 2), rest - value, code, commitment, codebook


class Decoder(nn.Module):
    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.snake = Snake(dim)
        self.conv = nn.ConvTranspose1d(dim, stride, dim, stride=stride, padding=dim // 4)
        self.unit1 = Unit(stride)
        self.unit2 = Unit2(stride, dilation=3)
        self.unit3 = Unit2(stride, dilation=9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.unit3(self.unit2(self.unit1(self.conv(self.snake(x)))))


class Dac(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.losses = Losses()
        self.encoder_in = nn.Conv1d(1, 4, 7, padding=3)
        self.encoder = nn.ModuleList(Encoder(dim, stride=stride) for dim, stride in zip((4, 8), (2, 4)))
        self.encoder_snake = Snake(16)
        self.encoder_out = nn.Conv1d(16, 6, 3, padding=1)
        self.quantizers = nn.ModuleList([Quantizer2(), Quantizer3()])
        self.decoder_in = nn.Conv1d(6, 8, 7, padding=3)
        self.decoder = nn.ModuleList(Decoder(dim, stride=stride) for dim, stride in zip((8, 4), (4, 2)))
        self.decoder_snake = Snake(2)
        self.decoder_out = nn.Conv1d(2, 1, 7, padding=3)

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise ValueError(f"audio must be [b, c = 1, n], and is {list(audio.shape)}")
        n = audio.shape[-1]
        if n % 8 != 0:
            raise ValueError(f"n must be a multiple of 8, and n = {n}")
        x = self.encoder_in(audio)
        for encoder in self.encoder:
            x = encoder(x)
        x = self.encoder_out(self.encoder_snake(x)).transpose(1, 2)
        quantised, rest, codes, commitment, codebook = self.quantizers[0](x)
        quantised, _, codes2, commitment2, codebook2 = self.quantizers[1](rest, quantised.transpose(1, 2))
        x = self.decoder_in(quantised)
        for decoder in self.decoder:
            x = decoder(x)
        if self.training:
            self.losses = Losses(
                {"commitment": torch.stack([commitment, commitment2]), "codebook": torch.stack([codebook, codebook2])}
            )
        y = torch.tanh(self.decoder_out(self.decoder_snake(x)))
        return y, torch.stack((codes, codes2)).transpose(0, 1)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Snake):
                module.compile(**options)
