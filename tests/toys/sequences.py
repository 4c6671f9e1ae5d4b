"""Sequences of other kinds: sound in codes, residues and their pairs, text that a recurrence reads."""

from tests.toys import Toy

TOYS = [
    Toy(
        "griffin", "griffin", "griffin", "gemma_2b",
        {"vocab": 20, "dim": 8, "width": 8, "depth": 3, "heads": 2, "hidden": 12, "window": 3},
        ({"b": 2, "t": 7}, {"b": 3, "t": 9}, {"b": 4, "t": 5}),
    ),
    Toy(
        "dac", "dac", "dac", "khz_44",
        {"dim": 4, "wide": 8, "latent": 6, "strides": [2, 4], "codebooks": 2, "size": 9, "code_dim": 4},
        ({"b": 2, "n": 16}, {"b": 3, "n": 24}, {"b": 5, "n": 32}),
    ),
    Toy(
        "esmfold", "esmfold", "esmfold_trunk", "v1",
        {"dim": 8, "pair": 4, "heads": 2, "pair_heads": 2, "depth": 2, "length": 9},
    ),
]  # fmt: skip
