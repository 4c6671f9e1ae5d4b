"""Networks that differ in how they know where things are, against published implementations."""

from typing import Any

import pytest
import torch
from torch import nn

from archlang.checkpoint import Key, WeightMap
from archlang.source import BUILTIN
from tests.peers.moat import Moat
from tests.peers.parity import agree, load, picture, timm


def in_order(network: Any, peer: nn.Module) -> WeightMap:
    """A map for a peer that makes its weights in our order."""
    pairs = zip(network.module().state_dict(), peer.state_dict(), strict=True)
    return WeightMap("in order", {ours: (Key(theirs), BUILTIN) for ours, theirs in pairs}, ())


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({"window": 4, "pretrained": [0, 0]}, {"window_size": 4}),
        ({"window": 8, "pretrained": [4, 2]}, {"window_size": 8, "pretrained_window_sizes": (4, 2)}),
    ],
)
def test_swin_v2_of_timm(settings: dict[str, object], theirs: dict[str, object]):
    sizes = {"depths": [2, 2], "heads": [2, 4]}
    network = load("swin_v2.arch", dim=24, resolution=64, classes=10, drop_path=0, **sizes, **settings)
    peer = timm(
        "swinv2_tiny_window8_256", img_size=64, embed_dim=24, depths=(2, 2), num_heads=(2, 4), num_classes=10,
        drop_path_rate=0.0, **theirs,
    )  # fmt: skip
    agree(network, peer, network.map("timm"), picture(64))


def test_swin_v2_of_transformers():
    transformers = pytest.importorskip("transformers")
    sizes = {"depths": [2, 2], "heads": [2, 4], "pretrained": [0, 0]}
    network = load("swin_v2.arch", dim=24, window=4, resolution=64, classes=10, drop_path=0, **sizes)
    config = transformers.Swinv2Config(
        image_size=64, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=10, drop_path_rate=0.0
    )
    agree(network, transformers.Swinv2ForImageClassification(config), network.map("transformers"), picture(64))


def test_crossvit():
    network = load("crossvit.arch", dims=[24, 48], heads=3, depths=[[1, 2], [1, 1]], classes=10)
    peer = timm("crossvit_tiny_240", embed_dim=[24, 48], num_heads=[3, 3], depth=[[1, 2, 0], [1, 1, 0]], num_classes=10)
    agree(network, peer, network.map("timm"), picture(240))


def test_moat():
    sizes = {"dims": [8, 16, 16, 24], "depths": [1, 2, 2, 1], "stem": 8, "window": 4}
    network = load("moat.arch", head_dim=8, resolution=64, classes=10, drop_path=0, **sizes)
    peer = Moat(**sizes, head=8, size=64).double()
    assert [stage.window for stage in peer.modules() if hasattr(stage, "window")] == [4, 4, 2]
    agree(network, peer, in_order(network, peer), picture(64).double())


def test_coatnet():
    network = load("coatnet.arch", dims=[32, 64, 96, 128], depths=[1, 2, 2, 1], resolution=64, classes=10, drop_path=0)
    peer = timm(
        "coatnet_0_rw_224",
        embed_dim=(32, 64, 96, 128),
        depths=(1, 2, 2, 1),
        img_size=64,
        num_classes=10,
        drop_path_rate=0.0,
    )
    agree(network, peer, network.map("timm"), picture(64))


@pytest.mark.parametrize(("rank", "side", "window"), [(2, 64, 3), pytest.param(3, 64, 3, marks=pytest.mark.slow)])
def test_swin_unetr(rank: int, side: int, window: int):
    """The smallest map is no smaller than the window; others are padded where it does not divide them. In float32
    the instance norms of 3-D make gradients too rough to compare."""
    nets = pytest.importorskip("monai.networks.nets")
    network = load(
        "swin_unetr.arch", f"swin_unetr_{rank}d", dim=12, depths=[2, 1, 1, 1], heads=[1, 2, 2, 4], window=window,
        side=side, channels=2, classes=3,
    )  # fmt: skip
    peer = nets.SwinUNETR(
        in_channels=2, out_channels=3, feature_size=12, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4),
        window_size=window, spatial_dims=rank,
    ).double()  # fmt: skip
    for module in peer.modules():  # indices are no weights
        module._non_persistent_buffers_set.add("relative_position_index")
    generator = torch.Generator().manual_seed(2)
    agree(network, peer, network.map("monai"), torch.randn(1, 2, *[side] * rank, generator=generator).double())


def test_rope_vit():
    network = load("rope_vit.arch", dim=48, depth=2, heads=3, resolution=64, classes=10)
    peer = timm("vit_small_patch16_rope_224", embed_dim=48, depth=2, num_heads=3, img_size=64, num_classes=10)
    agree(network, peer, network.map("timm"), picture(64))


def test_llama_3_1():
    """Turns that are slowed down for inputs longer than 8,192 tokens: speeds differ at any length."""
    transformers = pytest.importorskip("transformers")
    network = load("llama.arch", variant="toy", heads=2, kv_heads=1, dim=64, rope_base=500000, stretch=8)
    config = transformers.LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, rms_norm_eps=1e-5, tie_word_embeddings=False, max_position_embeddings=131072,
        rope_parameters={
            "rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        },
    )  # fmt: skip
    tokens = torch.randint(0, 128, (1, 300), generator=torch.Generator().manual_seed(2))
    agree(network, transformers.LlamaForCausalLM(config), network.map("transformers"), tokens)
