"""Networks that differ in who sees whom."""

from tests.toys import Toy

TOYS = [
    Toy(
        "dinat", "dinat", "dinat", "small",
        {"dim": 8, "depths": [2, 1], "farthest": [2, 1], "head_dim": 4, "kernel": 3, "resolution": 32, "classes": 5},
    ),
]  # fmt: skip
