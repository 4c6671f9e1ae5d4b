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
    Toy("mixtral", "mixtral", "mixtral", "toy", {}, ({"b": 2, "t": 9}, {"b": 3, "t": 17}, {"b": 1, "t": 4})),
    Toy(
        "evit",
        "evit",
        "evit",
        None,
        {"dim": 12, "depth": 3, "heads": 2, "reduce": [1], "patch": 8, "resolution": 32, "classes": 5},
    ),
]

TOKENS, MAP, SERIES = "[b, n = 6, c = 8]", "[b, c = 4, h = 2, w = 3]", "[b, t, c = 8]"
BLOCKS = [
    ("std.moe: moe", SERIES, "x -> moe(linear(c) -> relu, experts = 4, top = 2, capacity = 1)"),
    ("std.moe: moe", MAP, "x -> moe(linear(4), 3, 1, shared = linear(4))"),
    ("std.moe: top_softmax", TOKENS, "sum((x -> top_softmax(4))[1], on = route)"),
    ("std.moe: top_sigmoid", TOKENS, "sum((x -> top_sigmoid(4))[1], on = route)"),
    ("std.moe: expert_choice", TOKENS, "x -> expert_choice(linear(c), 3, 1)"),
    ("std.moe: soft_moe", TOKENS, "x -> soft_moe(linear(c), 3, 2)"),
    ("std.tokens: ranked_attention", TOKENS, "(x -> ranked_attention(2))[1]"),
    ("std.tokens: top_tokens", TOKENS, "top_tokens(x, sum(x, on = c), keep = 3)"),
]
