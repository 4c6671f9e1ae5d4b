"""Networks of learned functions, and networks without attention."""

from tests.toys import Toy

SMALL = {"patch": 8, "resolution": 32, "classes": 5}
TOYS = [
    Toy("kat", "kat", "kat", "tiny", {"dim": 16, "depth": 2, "heads": 2, "groups": 4, "drop_path": 0, **SMALL}),
    Toy("kan_mlp", "kan_mlp", "kan_mlp", "digits", {"dims": [5, 3], "size": 4}),
    Toy("fast_kan", "kan_mlp", "fast_kan", "digits", {"dims": [5, 3], "size": 4, "centers": 4}),
]
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
]
