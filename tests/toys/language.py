"""Language models with attention of several kinds in turn."""

from tests.toys import Toy

TIME = ({"b": 2, "t": 7}, {"b": 3, "t": 9}, {"b": 4, "t": 5})
TOYS = [
    Toy(
        "gpt_oss",
        "gpt_oss",
        "gpt_oss",
        None,
        {"vocab": 20, "dim": 8, "depth": 4, "heads": 4, "kv_heads": 2, "head_dim": 4, "hidden": 12, "experts": 4, "top": 2,
         "window": 3},
        TIME,
    ),
    Toy(
        "t5", "t5", "t5", None, {"vocab": 20, "dim": 8, "depth": 2, "heads": 2, "key": 4, "hidden": 12},
        tuple({**sizes, "n": n} for sizes, n in zip(TIME, (9, 4, 6), strict=True)),
    ),
    Toy(
        "deepseek_v3",
        "deepseek_v3",
        "deepseek_v3",
        None,
        {"vocab": 20, "dim": 8, "depth": 2, "dense": 1, "heads": 2, "q_rank": 6, "kv_rank": 4, "plain": 4, "turned": 2,
         "value": 3, "hidden": 12, "expert": 6, "experts": 8, "top": 3, "groups": 4, "kept": 2},
        TIME,
    ),
]  # fmt: skip
