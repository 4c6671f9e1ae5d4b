"""Networks in which data chooses the way: experts, selected tokens, early exits."""

from tests.toys import Toy

TOYS = [
    Toy(
        "branchy_resnet",
        "branchy_resnet",
        "branchy_resnet",
        None,
        {"dims": [4, 4, 8], "depth": 1, "classes": 5, "threshold": 1.5, "resolution": 16},
    ),
]
