"""State space models."""

from tests.toys import Toy

TIMES = ({"b": 2, "t": 9}, {"b": 3, "t": 17}, {"b": 1, "t": 4})
SERIES, TOKENS, IMAGE = "[b, t, c = 8]", "[b, n = 6, c = 8]", "[b, c = 4, h = 4, w = 4]"

TOYS = [
    Toy("mamba", "mamba", "mamba_lm", "mamba_130m", {"vocab": 32, "dim": 16, "depth": 2, "state": 4}, TIMES),
]
BLOCKS = [
    ("std.ssm: mamba", SERIES, "x -> mamba(3)"),
    ("std.ssm: mamba", IMAGE, "x -> mamba(2, expand = 1, kernel = 3, over = snake(h, w, reverse = true))"),
    ("std.ssm: mamba", TOKENS, "x -> mamba(2, expand = 1, kernel = 3, over = full)"),
]
