"""The networks that the language was built on."""

from tests.toys import Toy

TOYS = [
    Toy(
        "maxvit",
        "maxvit",
        "maxvit",
        None,
        {"dims": [16, 32], "depths": [2, 1], "stem": 8, "head_dim": 8, "resolution": 64, "classes": 5},
    ),
    Toy("maxvit_digits", "maxvit", "maxvit", "digits", {"dims": [8, 16, 16, 16], "head_dim": 8, "stem": 8}),
    Toy(
        "convnext", "convnext", "convnext", "tiny", {"dims": [8, 16], "depths": [1, 2], "resolution": 32, "classes": 5}
    ),
    Toy("swin", "swin", "swin", "tiny", {"dim": 12, "depths": [2, 2], "heads": [1, 2], "resolution": 56, "classes": 5}),
    Toy(
        "mobilenet_v2",
        "mobilenet_v2",
        "mobilenet_v2",
        "x140",
        {"dims": [8, 16], "depths": [1, 2], "strides": [1, 2], "resolution": 16, "classes": 5},
    ),
    Toy("vit", "vit", "vit", "tiny", {"dim": 12, "depth": 2, "heads": 2, "patch": 8, "resolution": 32, "classes": 5}),
    Toy(
        "unet_2d",
        "unet",
        "unet_2d",
        "small",
        {"dim": 4, "depth": 2},
        ({"b": 2, "h": 16, "w": 24}, {"b": 3, "h": 8, "w": 16}, {"b": 1, "h": 12, "w": 32}),
    ),
    Toy(
        "unet_3d",
        "unet",
        "unet_3d",
        "small",
        {"dim": 4, "depth": 1},
        ({"b": 2, "d": 8, "h": 6, "w": 10}, {"b": 3, "d": 4, "h": 8, "w": 6}, {"b": 1, "d": 6, "h": 4, "w": 12}),
    ),
    Toy("llama", "llama", "llama", "toy", {}, ({"b": 2, "t": 9}, {"b": 3, "t": 17}, {"b": 1, "t": 4})),
    Toy(
        "llama_tied",
        "llama",
        "llama",
        "toy_tied",
        {"depth": 1},
        ({"b": 2, "t": 9}, {"b": 3, "t": 17}, {"b": 1, "t": 4}),
    ),
]
