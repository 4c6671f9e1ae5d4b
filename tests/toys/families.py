"""Conditioning, modulation, large kernels, channels, graphs and memories."""

from tests.toys import Toy

GRAPHS = ({"n": 5, "e": 7, "b": 4}, {"n": 6, "e": 9, "b": 5}, {"n": 9, "e": 4, "b": 7})

TOYS = [
    Toy("focalnet", "focalnet", "focalnet", "tiny_lrf", {"dim": 8, "depths": [1, 2], "resolution": 32, "classes": 5}),
    Toy(
        "van",
        "van",
        "van",
        "b0",
        {"dims": [6, 8], "depths": [1, 2], "ratios": [2, 2], "resolution": 32, "classes": 5},
    ),
    Toy("dit", "dit", "dit", "S_2", {"dim": 16, "depth": 2, "heads": 2, "side": 8, "channels": 2, "classes": 5}),
    Toy(
        "hopfield",
        "hopfield",
        "mil",
        "small",
        {"features": 6, "dim": 8, "heads": 2, "key": 4, "patterns": 5},
        ({"b": 2, "n": 5}, {"b": 3, "n": 4}, {"b": 5, "n": 7}),
    ),
    Toy(
        "itransformer",
        "itransformer",
        "itransformer",
        "solar",
        {"lookback": 12, "horizon": 6, "covariates": 2, "dim": 8, "hidden": 12, "heads": 2},
        ({"b": 2, "n": 3}, {"b": 3, "n": 4}, {"b": 5, "n": 6}),
    ),
    Toy(
        "l2vit",
        "l2vit",
        "l2vit",
        "tiny",
        {"dims": [4, 8], "depths": [2, 1], "head_dim": 4, "window": 4, "resolution": 32, "classes": 5},
    ),
    Toy(
        "ravlt",
        "ravlt",
        "ravlt",
        "tiny",
        {
            "dims": [8, 16],
            "depths": [2, 1],
            "heads": [1, 2],
            "linear_stages": 1,
            "ratio": 2,
            "width": 12,
            "resolution": 32,
            "classes": 5,
        },
    ),
    Toy("vig_gla", "vig_gla", "vig", "tiny", {"dim": 12, "depth": 2, "patch": 8, "resolution": 32, "classes": 5}),
    Toy(
        "slab",
        "slab",
        "slab_deit",
        "tiny",
        {"dim": 12, "depth": 2, "heads": 3, "patch": 8, "resolution": 32, "classes": 5},
    ),
    Toy("gcn", "gcn", "gcn", "cora", {"features": 6, "hidden": 4, "classes": 3}, GRAPHS),
    Toy("gat", "gcn", "gat", "cora", {"features": 6, "hidden": 8, "heads": 2, "classes": 3}, GRAPHS),
    Toy("lightgcn", "gcn", "lightgcn", "gowalla", {"users": 4, "items": 4, "dim": 6}, GRAPHS),
    Toy(
        "graph_gps",
        "graph_gps",
        "graph_gps",
        "zinc",
        {"dim": 12, "depth": 2, "heads": 2, "walk": 4, "walk_dim": 4},
        GRAPHS,
    ),
]

IMAGE, MAP = "[b, c = 8, h = 6, w = 5]", "[b, c = 8, n = 6]"
GRAPH = "[n = 6, c = 8]"
EDGES = "source = index(e = 6), target = (index(e = 6) * 5 + 1) % 4"
BLOCKS = [
    ("std.focal: focal_modulation", IMAGE, "x -> focal_modulation(2)"),
    ("std.focal: focal_modulation", MAP, "x -> focal_modulation(3, normalize = true, norm = layer_norm, drop = 0.1)"),
    ("std.large_kernel: large_kernel_attention", IMAGE, "x -> large_kernel_attention(3, 3, 2)"),
    ("std.large_kernel: large_kernel_mixer", IMAGE, "x -> large_kernel_mixer(3, 3, 2)"),
    ("std.ffn: conv_mlp", IMAGE, "x -> conv_mlp(2, drop = 0.1)"),
    ("std.channel_attention: channel_attention", IMAGE, "x -> channel_attention(2, mix = depthwise(3))"),
    ("std.channel_attention: channel_attention", MAP, "x -> channel_attention(4, bias = false)"),
    ("std.channel_attention: efficient_channel_gate", IMAGE, "x -> efficient_channel_gate"),
    ("std.channel_attention: channel_space_gate", IMAGE, "x -> channel_space_gate(4, kernel = 3)"),
    ("std.channel_attention: energy_gate", IMAGE, "x -> energy_gate"),
    ("std.conditioning: sincos", "[b]", "x -> sincos(6)"),
    ("std.conditioning: timestep_embedding", "[b]", "x -> timestep_embedding(6, base = 100)"),
    ("std.conditioning: fourier_features", "[b, n = 3, c = 2]", "x -> fourier_features(6, scale = 2)"),
    ("std.conditioning: film", MAP, "x -> film(cond = x[n = 0])"),
    ("std.conditioning: modulate", MAP, "x -> modulate(shift = x[n = 0], scale = x[n = 1])"),
    ("std.conditioning: adaptive_norm", IMAGE, "x -> adaptive_norm(cond = x -> mean(on = space) -> linear(3))"),
    ("std.conditioning: adaptive_layer", MAP, "x -> adaptive_layer(linear(c), linear(c), cond = x[n = 0])"),
    ("std.vision: sincos_2d", IMAGE, "x + sincos_2d(x)"),
    ("std.hopfield: hopfield", MAP, "hopfield(x, x[n = 1::2], x[n = 1::2], heads = 2, key = 3, steps = 2, beta = 0.7)"),
    ("std.hopfield: hopfield_pooling", MAP, "x -> hopfield_pooling(2, 3, queries = 2, steps = 3)"),
    ("std.hopfield: hopfield_layer", MAP, "x -> hopfield_layer(2, 3, patterns = 5)"),
    (
        "std.linear_attention: kernel_sums",
        "[b, n = 5, heads = 2, c = 4]",
        "kernel_sums(relu(x), relu(x), x, position = rope)[0]",
    ),
    ("std.linear_attention: relu_attention", IMAGE, "x -> relu_attention(2, least = 0.1)"),
    ("std.linear_attention: simplified_linear_attention", IMAGE, "x -> simplified_linear_attention(2, kernel = 3)"),
    ("std.linear_attention: rank_augmented_attention", MAP, "x -> rank_augmented_attention(2, kernel = 3)"),
    ("std.linear_attention: gated_linear_scan", IMAGE, "x -> gated_linear_scan(2, rank = 3, act = identity)"),
    ("std.norm: rep_batch_norm", MAP, "x -> rep_batch_norm"),
    ("std.norm: progressive_norm", MAP, "x -> progressive_norm(start = 0.5)"),
    ("std.graph: normalised_sum", GRAPH, f"x -> normalised_sum({EDGES})"),
    ("std.graph: gcn_layer", GRAPH, f"x -> gcn_layer(6, {EDGES})"),
    ("std.graph: gin_layer", GRAPH, f"x -> gin_layer(linear(4), 0.5, {EDGES})"),
    ("std.graph: gine_layer", GRAPH, f"x -> gine_layer(linear(4), edge = rename(x, n = e), {EDGES})"),
    (
        "std.graph: neighbour_softmax",
        GRAPH,
        "neighbour_softmax(rename(x, n = e, c = heads), x, target = index(e = 6) // 2)",
    ),
    ("std.graph: gat_layer", GRAPH, f"x -> gat_layer(6, heads = 2, {EDGES})"),
    ("std.graph: gated_gcn", GRAPH, f"gated_gcn(x, rename(x, n = e), {EDGES})[0]"),
]
