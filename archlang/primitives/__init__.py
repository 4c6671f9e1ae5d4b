"""The operations of the language, one file per family. A name is found without importing the families that do not hold it."""

from functools import cache
from importlib import import_module

from archlang.primitive import _REGISTRY, Construct

FAMILIES = (
    "linear", "pointwise", "elementwise", "activation", "reduction", "shape", "rearrange", "padding", "indexing", "conv", "conv_transpose", "pool", "norm", "resample", "unfold", "embedding", "noise", "attention",
    "position", "init",
)  # fmt: skip


@cache
def constructs() -> dict[str, type[Construct]]:
    """All constructs by their name in the language."""
    for family in FAMILIES:
        import_module(f"archlang.primitives.{family}")
    return dict(_REGISTRY)
