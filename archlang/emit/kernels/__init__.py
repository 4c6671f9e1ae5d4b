"""Kernels: each stands in for one helper, where its predicate lets it, and is written in `codegen/triton/`."""

from functools import cache
from importlib import import_module

from archlang.emit.kernels.kernel import Features, Kernel, Served

FAMILIES = {  # the helpers that kernels stand in for, by file
    "windows": "window_attention",
    "near": "near_attention",
    "decode": "decode_attention",
    "rational": "group_rational",
    "made": "basis_linear basis_curve causal_conv wide_depthwise linear_cross_entropy combine grouped_linear"
    " sorted_choices top_k_routing",
    "recurrences": "linear_recurrence delta_rule recurrence_steps selective_scan",
}
HELPERS = tuple(helper for names in FAMILIES.values() for helper in names.split())
PREFIX = "triton_"
# what others share
COMMON = ("kernels", "map_rows", "heads", "chunks", "chains", "sequential", "tiled", "bases", "grouped", "scores")


@cache
def kernels() -> dict[str, Kernel]:
    """All kernels by helper, `WindowAttention` for `window_attention`. They know operations, which not every network
    has, and are imported where kernels are written.
    """
    files = {
        helper: import_module(f"{__name__}.{file}") for file, names in FAMILIES.items() for helper in names.split()
    }
    return {helper: getattr(file, helper.title().replace("_", ""))() for helper, file in files.items()}


@cache
def entries() -> frozenset[str]:
    """The names by which networks call kernels."""
    return frozenset(f"{PREFIX}{helper}" for helper in HELPERS)


__all__ = ["COMMON", "PREFIX", "Features", "Kernel", "Served", "entries", "kernels"]
