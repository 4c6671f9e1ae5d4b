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
    Toy(
        "mossformer", "mossformer", "mossformer", "large",
        {"dim": 8, "depth": 2, "kernel": 4, "size": 6, "group": 4, "turned": 4},
        ({"b": 2, "n": 22}, {"b": 3, "n": 30}, {"b": 5, "n": 18}),
    ),
]  # fmt: skip

BLOCKS = [
    ("std.wiring: within", "[b, h = 8, w = 8, c = 4]", "x -> within(windows(4), depthwise(3))"),
    ("std.wiring: within", "[b, n = 12, c = 4]", "x -> within(chunks(4), layer_norm)"),
]
