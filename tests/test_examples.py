"""Every example checks; at a small size its module runs, trains, compiles as one graph and exports with free sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch

import archlang

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL: list[tuple[str, str, dict[str, Any], tuple[int, ...]]] = [
    (
        "maxvit",
        "maxvit",
        {"dims": [16, 32], "depths": [2, 1], "stem": 8, "head_dim": 8, "resolution": 64},
        (2, 3, 64, 64),
    ),
    ("convnext", "convnext", {"dims": [8, 16], "depths": [1, 2], "resolution": 32}, (2, 3, 32, 32)),
    ("swin", "swin", {"dim": 12, "depths": [2, 2], "heads": [1, 2], "resolution": 56}, (2, 3, 56, 56)),
    ("mobilenet_v2", "mobilenet_v2", {"width": 0.25, "resolution": 64}, (2, 3, 64, 64)),
    ("vit", "vit", {"dim": 12, "depth": 2, "heads": 2, "patch": 8, "resolution": 32}, (2, 3, 32, 32)),
    ("unet", "unet_2d", {"dim": 4, "depth": 2}, (2, 1, 16, 24)),
    ("unet", "unet_3d", {"dim": 4, "depth": 1}, (2, 3, 8, 6, 4)),
    ("llama", "llama", {"vocab": 64, "dim": 16, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 24}, (2, 9)),
    (
        "llama",
        "llama",
        {"vocab": 64, "dim": 16, "depth": 1, "heads": 4, "kv_heads": 2, "hidden": 24, "tied": True},
        (2, 9),
    ),
]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.arch")), ids=lambda file: file.stem)
def test_checks(file: Path):
    """Every model, every variant, every expectation and every map."""
    assert archlang.check(file) == []
    assert file.stem in {name for name, *_ in SMALL}


@pytest.mark.parametrize(
    ("file", "model", "settings", "shape"), SMALL, ids=lambda value: value if isinstance(value, str) else ""
)
def test_runs_trains_compiles_and_exports(file: str, model: str, settings: dict[str, Any], shape: tuple[int, ...]):
    network = archlang.load(EXAMPLES / f"{file}.arch").architecture(model, settings=settings)
    module = network.module(seed=0).eval()
    x = torch.randint(0, 64, shape) if len(shape) == 2 else torch.randn(shape)
    expected = module(x)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    exported = torch.export.export(module, (x,), dynamic_shapes=network.dynamic_shapes()).module()
    torch.testing.assert_close(exported(torch.cat([x, x]))[: len(x)], expected)
    assert sum(p.numel() for p in module.parameters()) == network.params
    module.train()(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
