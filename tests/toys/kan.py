"""Networks of learned functions, and networks without attention."""

from tests.toys import Toy

SMALL = {"patch": 8, "resolution": 32, "classes": 5}
RAFTS = {
    "dims": [4, 8],
    "depths": [1, 2],
    "kernels": [[4, 8], [2]],
    "resolution": 32,
    "classes": 5,
    "drop_path": 0,
}
HYPER = {"tasks": 5, "code": 4, "dim": 8, "experts": 3, "units": 6, "resolution": 8, "classes": 5}
TOYS = [
    Toy("kat", "kat", "kat", "tiny", {"dim": 16, "depth": 2, "heads": 2, "groups": 4, "drop_path": 0, **SMALL}),
    Toy("kan_mlp", "kan_mlp", "kan_mlp", "digits", {"dims": [5, 3], "size": 4}),
    Toy("fast_kan", "kan_mlp", "fast_kan", "digits", {"dims": [5, 3], "size": 4, "centers": 4}),
    Toy("mlp_mixer", "mlp_mixer", "mlp_mixer", "base", {"dim": 8, "depth": 2, **SMALL}),
    Toy("gmlp", "gmlp", "gmlp", "small", {"dim": 8, "depth": 2, "ratio": 2, **SMALL}),
    Toy("raft_mlp", "raft_mlp", "raft_mlp", "small", RAFTS),
    Toy("ninformer", "ninformer", "ninformer", "cifar10", {"dim": 8, "hidden": 12, "depth": 2, "drop": 0, **SMALL}),
    Toy("hypernetwork", "hypernetwork", "hypernetwork", "small", HYPER),
    Toy(
        "hyper_resnet",
        "hypernetwork",
        "hyper_resnet",
        "wrn_40_2",
        {"depth": 2, "stem": 4, "side": 4, "code": 3, "resolution": 8, "classes": 5},
    ),
    Toy(
        "tokenformer",
        "tokenformer",
        "tokenformer",
        "small",
        {"vocab": 30, "dim": 16, "depth": 2, "heads": 2},
        ({"b": 2, "t": 9}, {"b": 3, "t": 17}, {"b": 1, "t": 4}),
    ),
]
MAP = "[b, h = 4, w = 5, c = 8]"
TOKENS = "[b, n = 6, c = 8]"
BLOCKS = [
    ("std.kan: kan", TOKENS, "x -> kan(6)"),
    ("std.kan: kan", TOKENS, "x -> kan(6, bspline(grid = 3, order = 2), base = none, scaled = true)"),
    ("std.kan: kan", TOKENS, "x -> kan(6, layer_norm -> rbf(5), bias = true)"),
    ("std.kan: kan", TOKENS, "x -> kan(6, layer_norm -> rswaf(4), base = none)"),
    ("std.kan: kan", TOKENS, "x -> kan(6, tanh -> chebyshev(3), base = none)"),
    ("std.kan: kan", TOKENS, "x -> kan(6, fourier(3))"),
    ("std.kan: learned_activation", TOKENS, "x -> learned_activation -> learned_activation(fourier(2)) as b_"),
    ("std.kan: gr_kan", TOKENS, "x -> gr_kan(2, groups = 4)"),
    ("std.mixer: token_mlp", TOKENS, "x -> token_mlp(5, drop = 0.1)"),
    ("std.mixer: mixer_layer", TOKENS, "x -> mixer_layer(5, 2, drop_path = 0.1)"),
    ("std.mixer: spatial_gating", TOKENS, "x -> spatial_gating"),
    ("std.mixer: gmlp_layer", TOKENS, "x -> gmlp_layer(2)"),
    ("std.mixer: raft_mixing", "[b, h = 4, w = 3, c = 8]", "x -> raft_mixing(2, drop_path = 0.1)"),
    ("std.mixer: axial_shift", MAP, "x -> axial_shift([1, 0, -1])"),
    ("std.mixer: mix_shift", MAP, "x -> mix_shift([1, -1], [3, 1])"),
    ("std.mixer: mixer_gating", TOKENS, "x -> mixer_gating(5)"),
    ("std.dynamic: cond_conv", MAP, "x -> cond_conv(6, experts = 3)"),
    ("std.dynamic: dynamic_depthwise", MAP, "x -> dynamic_depthwise(3)"),
    ("std.dynamic: involution", MAP, "x -> involution(3, groups = 2, spread = depthwise(3) as spread)"),
    ("std.dynamic: generated_linear", TOKENS, "generated_linear(x, x -> mean(on = n), units = 5)"),
    ("std.mixer: pattention", "[b, t, c = 8]", "x -> pattention(6, 5) -> pattention(4) as b_"),
]
