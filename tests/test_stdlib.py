"""Blocks of the standard library, and attention in the language: what is emitted equals the meaning of the graph."""

import re

import pytest
import torch

import archlang
from archlang.resources import folder
from archlang.testing.laws import check_emitted
from tests.toys import family_blocks

ALL = {
    f"std.{file.name.removesuffix('.arch')}: {name}"
    for file in folder("stdlib").iterdir()
    if file.name.endswith(".arch")
    for name in re.findall(r"^block (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
}
IMAGE, MAP, VOLUME = "[b, c = 4, h = 4, w = 4]", "[b, c = 4, h = 8, w = 8]", "[b, c = 4, h = 2, w = 4, d = 2]"
TOKENS, SERIES = "[b, n = 6, c = 8]", "[b, t, c = 8]"
BLOCKS = [  # what is used, the type of x, what is made of it
    ("std.conv: conv_bn", IMAGE, "x -> conv_bn(6, stride = 2)"),
    ("std.conv: conv_stem", IMAGE, 'x -> conv_stem(6, silu, padding = "tf_same")'),
    ("std.conv: squeeze_excite", "[b, c = 4, n = 6]", "x -> squeeze_excite(2)"),
    ("std.conv: mbconv", IMAGE, "x -> mbconv(4, stride = 2) -> mbconv(4, expansion = 2, drop_path = 0.1) as b_"),
    ("std.conv: inverted_residual", IMAGE, "x -> inverted_residual(4, expansion = 1) -> inverted_residual(6, 2) as b_"),
    ("std.conv: convnext_block", "[b, c = 4, n = 9]", "x -> convnext_block(scale = 0.5)"),
    ("std.ffn: mlp", TOKENS, "x -> mlp(2, relu, drop = 0.1)"),
    ("std.ffn: glu_mlp", TOKENS, "x -> glu_mlp(12, gelu_tanh)"),
    ("std.ffn: swiglu", SERIES, "x -> swiglu(12)"),
    ("std.wiring: residual", TOKENS, "x -> residual(layer_norm -> linear(c) as fc, 0.1)"),
    ("std.vision: patch_embed", IMAGE, "x -> patch_embed(6)"),
    ("std.vision: patchify", IMAGE, "x -> patchify(6, patch = 2)"),
    ("std.vision: patch_merge", IMAGE, "x -> patch_merge"),
    ("std.attention: self_attention", TOKENS, "x -> self_attention(2)"),
    ("std.attention: self_attention", TOKENS, "x -> self_attention(2, qk_norm = rms_norm, bias = false)"),
    ("std.attention: self_attention", TOKENS, "x -> self_attention(2, position = rope, attn_drop = 0.1)"),
    ("std.attention: self_attention", SERIES, "x -> self_attention(2, over = sliding(3), position = alibi)"),
    ("std.attention: self_attention", MAP, "x -> self_attention(2, over = windows(4, shift = 2), position = relative)"),
    ("std.attention: self_attention", MAP, "x -> self_attention(2, over = windows([h = 2]))"),
    ("std.attention: self_attention", MAP, "x -> self_attention(2, over = grid(4), position = relative)"),
    ("std.attention: self_attention", VOLUME, "x -> self_attention(2, over = windows(2), position = relative)"),
    ("std.attention: causal_attention", SERIES, "x -> causal_attention(4, kv_heads = 2)"),
    ("std.attention: causal_attention", SERIES, "x -> causal_attention(2, head_dim = 2, over = causal & sliding(2))"),
    ("std.attention: cross_attention", TOKENS, "x -> cross_attention(2, memory = x[n = 1::2] -> linear(6) as m)"),
    ("std.transformer: pre_norm_layer", TOKENS, "x -> pre_norm_layer(linear(c), linear(c), drop_path = 0.1)"),
    ("std.transformer: post_norm_layer", TOKENS, "x -> post_norm_layer(linear(c), linear(c))"),
    ("std.transformer: mixed_norm_layer", SERIES, "x -> mixed_norm_layer(linear(c), linear(c))"),
    ("std.unet: double_conv", IMAGE, "x -> double_conv(4, 6, instance_norm, leaky_relu)"),
    ("std.unet: unet_down", IMAGE, "x -> unet_down(6)"),
    ("std.unet: unet_up", IMAGE, "unet_up(x -> max_pool(2), x, dim = 4)"),
]
BLOCKS += family_blocks()


@pytest.mark.parametrize(("used", "type_", "made"), BLOCKS)
def test_blocks(used: str, type_: str, made: str):
    made = made.replace("(c)", "(8)")
    check(f"use {used}\nmodel net() {{\n  input x: {type_}\n  output y = {made}\n}}")


def test_all_blocks_are_here():
    assert {used for used, _, _ in BLOCKS} == ALL


def check(text: str) -> archlang.Program:
    program = archlang.loads(text)
    network = program.architecture()
    generator = torch.Generator().manual_seed(0)
    sizes = [[axis.size if isinstance(axis.size, int) else 5 for axis in type_] for type_ in network.inputs.values()]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in sizes]
    masks = [type_.dtype == "bool" for type_ in network.inputs.values()]
    tensors = [x > -0.5 if mask else x for x, mask in zip(inputs, masks, strict=True)]
    check_emitted(network.graph, dict(zip(network.inputs, tensors, strict=True)))
    return program


QKV = """
  q = x -> linear([heads = 2, c = 4]) as q
  k = x -> linear([heads = 2, c = 4]) as k
  v = x -> linear([heads = 2, c = 3]) as v
"""


@pytest.mark.parametrize(
    "call",
    [
        "attend(q, k, v, position = seen)",
        "attend(q, k, v, mask = seen > 0)",
        "attend(l2_norm(q), l2_norm(k), v, scale = exp(gain))",
        "attend(q, k, v, scale = 1, over = full, drop = 0.2)",
        "attend(q -> rms_norm as q_norm, k, v, position = rope(base = 100, dim = 2, interleaved = true))",
        "attend(q[n = 0], k, v)",
        "attend(q, k, v, over = causal)",
        "attend(q, k, v, position = relative, over = causal)",
        "attend(q, k, v, over = windows(3) & causal, position = alibi)",
    ],
)
def test_attention_in_the_language(call: str):
    body = f"  param gain: [heads = 2] = zeros\n{QKV}  output y = {call}"
    check(f"model net() {{\n  input x: [b, n = 6, c = 8]\n  input seen: [heads = 2, n = 6, n_key = 6]\n{body}\n}}")


def test_one_table_serves_all_layers_that_share_it():
    layers = "\n".join(f"  o{i} = attend(q, k, v, position = look)" for i in range(2))
    text = f"model net() {{\n  input x: [b, n = 6, c = 8]\n  look = relative\n{QKV}{layers}\n  output y = o0 + o1\n}}"
    state = check(text).architecture().module().state_dict()
    assert [key for key in state if "look" in key] == ["look.weight"]


def test_a_domain_that_looks_ahead_on_time_is_an_error():
    with pytest.raises(archlang.ArchError, match="looks ahead along the time axis `t`"):
        check(f"model net() {{\n  input x: [b, t = 6, c = 8]\n{QKV}  output y = attend(q, k, v, over = full)\n}}")
