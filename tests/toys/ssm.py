"""State space models."""

from tests.toys import Toy

TIMES = ({"b": 2, "t": 9}, {"b": 3, "t": 17}, {"b": 1, "t": 4})
SERIES, TOKENS, IMAGE = "[b, t, c = 8]", "[b, n = 6, c = 8]", "[b, c = 4, h = 4, w = 4]"

TOYS = [
    Toy("mamba", "mamba", "mamba_lm", "mamba_130m", {"vocab": 32, "dim": 16, "depth": 2, "state": 4}, TIMES),
    Toy(
        "mamba2",
        "mamba2",
        "mamba2_lm",
        "mamba2_130m",
        {"vocab": 32, "dim": 16, "depth": 2, "state": 4, "head_dim": 8},
        TIMES,
    ),
    Toy("vmamba", "vmamba", "vmamba", "tiny", {"dim": 8, "depths": [1, 1], "state": 2, "resolution": 16, "classes": 5}),
    Toy(
        "jamba",
        "jamba",
        "jamba",
        "hybrid_3_1",
        {
            "vocab": 32,
            "dim": 16,
            "depth": 3,
            "heads": 4,
            "kv_heads": 2,
            "hidden": 24,
            "state": 3,
            "every": 3,
            "offset": 1,
            "window": 4,
        },
        TIMES,
    ),
    Toy("lssl", "s4", "lssl_cifar", "convolution", {"dim": 6, "depth": 1, "state": 4, "length": 8}),
    Toy("lssl_recurrence", "s4", "lssl_cifar", "recurrence", {"dim": 6, "depth": 1, "state": 4, "length": 8}),
    Toy("s4d", "s4", "s4d_cifar", "convolution", {"dim": 6, "depth": 1, "state": 4}, TIMES),
]
BLOCKS = [
    ("std.ssm: mamba", SERIES, "x -> mamba(3)"),
    ("std.ssm: mamba", IMAGE, "x -> mamba(2, expand = 1, kernel = 3, over = snake(h, w, reverse = true))"),
    ("std.ssm: mamba2", SERIES, "x -> mamba2(4, head_dim = 4)"),
    ("std.ssm: mamba2", IMAGE, "x -> mamba2(3, 2, kernel = 3, over = along(w, h))"),
    ("std.ssm: ss2d", IMAGE, "x -> ss2d(2)"),
    ("std.ssm: s4d", SERIES, "x -> s4d(6)"),
    ("std.ssm: s4d", SERIES, 'x -> s4d(6, "recurrence")'),
    ("std.ssm: mamba", TOKENS, "x -> mamba(2, expand = 1, kernel = 3, over = full)"),
]
