"""Networks that differ in who sees whom."""

from tests.toys import Toy

TOYS = [
    Toy(
        "dinat", "dinat", "dinat", "small",
        {"dim": 8, "depths": [2, 1], "farthest": [2, 1], "head_dim": 4, "kernel": 3, "resolution": 32, "classes": 5},
    ),
    Toy(
        "cswin", "cswin", "cswin", "tiny",
        {"dim": 8, "depths": [1, 1], "heads": [2, 2], "widths": [2, 4], "resolution": 32, "classes": 5},
    ),
]  # fmt: skip

BLOCKS = [
    ("std.wiring: within", "[b, h = 8, w = 8, c = 4]", "x -> within(windows(4), depthwise(3))"),
    ("std.wiring: within", "[b, n = 12, c = 4]", "x -> within(chunks(4), layer_norm)"),
]
