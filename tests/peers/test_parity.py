"""The examples are what they say: with the weights of published implementations, they give equal results."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from tests.peers.parity import agree, evaluates, in_order, load, picture, timm


@pytest.mark.parametrize(
    ("file", "variant", "peer"),
    [
        ("maxvit.arch", "tiny", "maxvit_tiny_tf_224"),
        ("convnext.arch", "tiny", "convnext_tiny"),
        ("swin.arch", "tiny", "swin_tiny_patch4_window7_224"),
        ("mobilenet_v2.arch", "x100", "mobilenetv2_100"),
        ("vit.arch", "small", "vit_small_patch16_224"),
        ("repvgg.arch", "a0", "repvgg_a0"),
    ],
)
def test_timm(file: str, variant: str, peer: str):
    rates = {"mobilenet_v2.arch": {"drop": 0}, "repvgg.arch": {}}.get(file, {"drop_path": 0})
    network, theirs = load(file, variant=variant, **rates), timm(peer, drop_path_rate=0.0)
    evaluates(network, theirs, network.map("timm"), picture(224))
    agree(network, theirs.double(), network.map("timm"), picture(224).double())


def test_swin_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(drop_path_rate=0.0, num_labels=1000)
    peer = transformers.SwinForImageClassification(config)
    network = load("swin.arch", variant="tiny", drop_path=0)
    agree(network, peer, network.map("transformers"), picture(224))


@pytest.mark.parametrize("tied", [False, True])
def test_llama(tied: bool):
    transformers = pytest.importorskip("transformers")
    network = load("llama.arch", variant="toy_tied" if tied else "toy")
    config = transformers.LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=tied, rope_theta=10000.0,
    )  # fmt: skip
    tokens = torch.randint(0, 128, (2, 23), generator=torch.Generator().manual_seed(2))
    agree(network, transformers.LlamaForCausalLM(config), network.map("transformers"), tokens)


class DoubleConv(nn.Sequential):
    def __init__(self, rank: int, dims: tuple[int, int, int]) -> None:
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if rank == 2 else (nn.Conv3d, nn.BatchNorm3d)
        layers = [[conv(a, b, 3, padding=1, bias=False), norm(b), nn.ReLU()] for a, b in pairwise(dims)]
        super().__init__(*(layer for part in layers for layer in part))


class Up(nn.Module):
    def __init__(self, rank: int, dim: int, up: int) -> None:
        super().__init__()
        self.rise = (nn.ConvTranspose2d if rank == 2 else nn.ConvTranspose3d)(2 * dim, up * dim, 2, stride=2)
        self.conv = DoubleConv(rank, ((1 + up) * dim, dim, dim))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([skip, self.rise(x)], 1))


class UNet(nn.Module):
    """A U-Net as papers' code writes it: the map of each level is joined to that of the same level on the way up."""

    def __init__(self, rank: int, channels: int, classes: int, dim: int, depth: int, between: float, up: int) -> None:
        super().__init__()
        sizes = [dim * 2**i for i in range(depth + 1)]
        pairs = pairwise([channels, *sizes])
        self.pool = nn.MaxPool2d(2) if rank == 2 else nn.MaxPool3d(2)
        self.down = nn.ModuleList(DoubleConv(rank, (a, int(between * b), b)) for a, b in pairs)
        self.up = nn.ModuleList(Up(rank, size, up) for size in sizes[-2::-1])
        self.head = (nn.Conv2d if rank == 2 else nn.Conv3d)(dim, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(self.pool(x) if i else x)
            skips.append(x)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            x = up(x, skip)
        return self.head(x)


@pytest.mark.parametrize(
    ("model", "peer", "shape"),
    [
        ("unet_2d", UNet(2, 1, 2, 8, 3, 1, 1), (2, 1, 32, 48)),
        ("unet_3d", UNet(3, 3, 3, 8, 2, 0.5, 2), (1, 3, 8, 16, 12)),
    ],
)
def test_unet(model: str, peer: UNet, shape: tuple[int, ...]):
    """The same blocks over images and over volumes."""
    network = load("unet.arch", model, "small")
    agree(network, peer, in_order(network, peer), torch.randn(shape, generator=torch.Generator().manual_seed(2)))
