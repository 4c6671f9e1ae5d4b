"""Networks that differ in how they know where things are."""

from tests.toys import Toy

TOYS = [
    Toy(
        "swin_v2", "swin_v2", "swin_v2", "tiny",
        {"dim": 12, "depths": [2, 2], "heads": [1, 2], "pretrained": [0, 2], "window": 4, "resolution": 32, "classes": 5},
    ),
    Toy(
        "crossvit", "crossvit", "crossvit", "tiny",
        {"dims": [12, 8], "heads": 2, "depths": [[1, 2], [1, 1]], "patches": [6, 8], "sides": [24, 32], "resolution": 32,
         "classes": 5},
    ),
    Toy(
        "moat", "moat", "moat", "tiny_0",
        {"dims": [4, 8, 8, 8], "depths": [1, 1, 2, 1], "stem": 4, "head_dim": 4, "resolution": 64, "window": 4, "classes": 5},
    ),
    Toy(
        "coatnet", "coatnet", "coatnet", "rw_0",
        {"dims": [4, 8, 12, 8], "depths": [1, 2, 2, 1], "stem": [4, 6], "head_dim": 4, "resolution": 64, "classes": 5},
    ),
    Toy(
        "swin_unetr_2d", "swin_unetr", "swin_unetr_2d", None,
        {"dim": 4, "depths": [2, 1], "heads": [1, 2], "window": 3, "side": 32},
    ),
    Toy(
        "swin_unetr_3d", "swin_unetr", "swin_unetr_3d", None,
        {"dim": 2, "depths": [2, 1], "heads": [1, 2], "window": 3, "side": 16},
    ),
    Toy(
        "rope_vit", "rope_vit", "rope_vit", "small",
        {"dim": 16, "depth": 2, "heads": 2, "patch": 8, "resolution": 32, "classes": 5},
    ),
]  # fmt: skip

IMAGE, MAP = "[b, c = 4, h = 4, w = 4]", "[b, c = 8, h = 4, w = 6]"
BLOCKS = [
    ("std.attention: causal_attention", "[b, t, c = 8]", "x -> causal_attention(2, position = rope(scaling = ntk(2)))"),
    ("std.position: conditional_position", IMAGE, "x -> conditional_position"),
    ("std.position: conditional_position", "[b, c = 4, n = 6]", "x -> conditional_position(5)"),
    ("std.position: lepe_attention", MAP, "x -> lepe_attention(2)"),
    ("std.position: lepe_attention", MAP, "x -> lepe_attention(4, windows(2), kernel = 5, bias = false)"),
    ("std.position: class_relative", MAP, "x + class_relative(2, height = 2, width = 3)[n = 0, heads = 1, n_key = 3]"),
]
