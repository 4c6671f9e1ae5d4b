"""Kernels: each stands in for one helper, where its predicate lets it, and is written in `codegen/triton/`."""

from archlang.emit.kernels.kernel import Features, Kernel, Served
from archlang.emit.kernels.made import CausalConv, Combine, GroupedLinear, WideDepthwise
from archlang.emit.kernels.near import NearAttention
from archlang.emit.kernels.rational import GroupRational
from archlang.emit.kernels.recurrences import DeltaRule, LinearRecurrence, SelectiveScan
from archlang.emit.kernels.windows import WindowAttention

KERNELS: tuple[Kernel, ...] = (
    WindowAttention(),
    NearAttention(),
    GroupRational(),
    CausalConv(),
    WideDepthwise(),
    LinearRecurrence(),
    Combine(),
    GroupedLinear(),
    DeltaRule(),
    SelectiveScan(),
)

__all__ = ["KERNELS", "Features", "Kernel", "Served"]
