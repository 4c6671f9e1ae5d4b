"""Positions are those of published implementations: buckets of T5, rotations for longer inputs, positions of a map."""

from typing import Any

import pytest
import torch
from torch import nn

import archlang
from tests.peers.parity import TOLERANCE, difference

Scaling = dict[str, Any]
SCALINGS: list[tuple[str, Scaling]] = [
    ("position_interpolation(4)", {"rope_type": "linear", "factor": 4.0}),
    (
        "llama3(8, original = 64)",
        {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64, "low_freq_factor": 1.0,
         "high_freq_factor": 4.0},
    ),
    (
        "yarn(4, original = 256)",
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
    ),
    (
        "yarn(8, original = 64, truncate = false, attention_factor = 1)",
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "truncate": False,
         "attention_factor": 1.0},
    ),
]  # fmt: skip


def built(text: str) -> nn.Module:
    return archlang.loads(text).architecture().module(seed=0).eval()


@pytest.mark.parametrize(("scaling", "theirs"), SCALINGS)
def test_rope_for_longer_inputs(scaling: str, theirs: Scaling):
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = llama.LlamaConfig(
        hidden_size=64, num_attention_heads=2, head_dim=32, max_position_embeddings=512,
        rope_parameters={"rope_theta": 10000.0, **theirs},
    )  # fmt: skip
    x = torch.randn(2, 200, 2, 32, generator=torch.Generator().manual_seed(0))
    cos, sin = llama.LlamaRotaryEmbedding(config)(x, torch.arange(200)[None])
    turned, _ = llama.apply_rotary_pos_emb(x, x, cos, sin, unsqueeze_dim=2)
    net = built(
        f"model net {{ input x: [b, t, heads = 2, c = 32]\n output y: [b, t, heads, c] = x -> rope(scaling = {scaling}) }}"
    )
    assert difference(net(x), turned) <= TOLERANCE


@pytest.mark.parametrize("role", ["n", "t"])
def test_t5_buckets(role: str):
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    net = built(
        f"model net {{ input x: [b, {role} = 300, heads = 2, c = 1]\n"
        f" output y: [heads, query = 300, key = 300] = t5_buckets(x, x) as bias }}"
    )
    config = t5.T5Config(d_model=8, num_heads=2, is_decoder=role == "t")
    peer = t5.T5Attention(config, has_relative_attention_bias=True)
    net.bias.weight.data.copy_(peer.relative_attention_bias.weight)
    assert torch.equal(net(torch.zeros(1, 300, 2, 1)), peer.compute_bias(300, 300)[0])


def test_rope_on_a_map():
    layers = pytest.importorskip("timm.layers")
    peer = layers.RotaryEmbeddingCat(32, max_res=None, in_pixels=False, feat_shape=[5, 7], temperature=100.0)
    x = torch.randn(2, 3, 35, 32, generator=torch.Generator().manual_seed(0))
    turned = layers.apply_rot_embed_cat(x, peer.get_embed())
    net = built(
        "model net { input x: [b, heads = 3, h = 5, w = 7, c = 32]\n"
        " output y: [b, heads, h, w, c] = x -> rope(100, on = [h, w], interleaved = true) }"
    )
    assert difference(net(x.unflatten(2, (5, 7))), turned.unflatten(2, (5, 7))) <= TOLERANCE


def test_sinusoids_of_a_map():
    """Of MAE: sines and cosines of the column, then of the row, c / 4 speeds each."""
    speeds = 10000 ** -(torch.arange(8) / 8)
    row, column = (
        place[..., None] * speeds for place in torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")
    )
    meant = torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], -1)
    net = built(
        "use std.vision: sincos_2d\nmodel net { input x: [b, h = 5, w = 7, c = 32]\n"
        " output y: [h, w, c] = x -> sincos_2d }"
    )
    assert difference(net(torch.zeros(1, 5, 7, 32)), meant) <= TOLERANCE


def test_distances_between_maps_of_two_sizes():
    """LeViT's attention that halves the map: a query stands at every second place of the keys."""
    levit = pytest.importorskip("timm.models.levit")
    peer = levit.AttentionDownsample(8, 8, key_dim=4, num_heads=2, stride=2, resolution=6)
    peer.eval()
    net = built("""
        model net {
          input q: [b, h = 3, w = 3, heads = 2, c = 4]
          input k: [b, h = 6, w = 6, heads = 2, c = 4]
          places = distance(k, k) as table -> rearrange("query -> h w, key -> h_key w_key", h = 6, w = 6, h_key = 6, w_key = 6)
          output o: [b, h, w, heads, c] = attend(q, k, k, over = full, position = places[h = 0::2, w = 0::2])
        }""")
    biases = torch.randn(2, 36, generator=torch.Generator().manual_seed(0))
    peer.attention_biases.data.copy_(biases)
    net.table.weight.data.copy_(biases.T)
    q, k = (torch.randn(2, n, n, 2, 4, generator=torch.Generator().manual_seed(n)) for n in (3, 6))
    scores = torch.einsum("bqhc,bkhc->bhqk", q.flatten(1, 2), k.flatten(1, 2)) / 2
    weights = (scores + peer.get_attention_biases(q.device)).softmax(-1)
    meant = torch.einsum("bhqk,bkhc->bqhc", weights, k.flatten(1, 2)).unflatten(1, (3, 3))
    assert difference(net(q, k), meant) <= TOLERANCE


def test_offsets_beside_a_class_token():
    timm = pytest.importorskip("timm.layers")
    net = built(
        "use std.position: class_relative\n"
        "model net { input x: [b, n = 13, n_key = 13]\n"
        "  output y: [b, heads, n, n_key] = x + (class_relative(2, 3, width = 4) as bias) }"
    )
    peer = timm.RelPosBias((3, 4), 2, prefix_tokens=1)
    net.bias.weight.data.copy_(peer.relative_position_bias_table.data)
    assert torch.equal(net(torch.zeros(1, 13, 13)), peer.get_bias())
