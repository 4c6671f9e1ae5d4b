"""Networks with a layer that runs again and again, and with norms and half steps in unusual places."""

from tests.toys import Toy

SPACE = ({"b": 2, "n": 5}, {"b": 3, "n": 7}, {"b": 4, "n": 3})
TIME = ({"b": 2, "t": 5}, {"b": 3, "t": 7}, {"b": 4, "t": 3})
TOYS = [
    Toy(
        "universal_transformer",
        "universal_transformer",
        "universal_transformer",
        None,
        {"vocab": 20, "dim": 8, "heads": 2, "steps": 4},
        SPACE,
    ),
    Toy(
        "macaron",
        "macaron",
        "macaron",
        None,
        {"vocab": 20, "length": 8, "kinds": 9, "dim": 8, "depth": 2, "heads": 2},
        SPACE,
    ),
    Toy("mix_ln", "mix_ln", "mix_ln", None, {"vocab": 20, "dim": 8, "depth": 4, "heads": 2, "hidden": 12}, TIME),
]
