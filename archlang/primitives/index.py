"""Positions as data."""

from dataclasses import replace
from typing import ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import AxisName, Emission, Primitive, Term, Types, Whole, register
from archlang.primitives.broadcast import known, need_new
from archlang.primitives.indexing import need_positions
from archlang.shapes import SCALAR, Axis, TensorType, default_role


@register
class OneHot(Primitive):
    """y[.., j] = 1 where index = j along a new axis, else 0."""

    name: ClassVar[str] = "one_hot"
    saves: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("index",)

    axis: AxisName
    size: Whole

    def infer(self, facts: Facts, index: TensorType) -> TensorType:
        need_positions(index)
        need_new(index, self.axis, "axis")
        return replace(index, axes=(*index.axes, self.made), dtype="float")

    @property
    def made(self) -> Axis:
        """The new axis."""
        return Axis(self.axis, self.size, default_role(self.axis))

    def emit(self, code: Emission, index: Term) -> Term:
        return Term(f"F.one_hot({index.code}, {code.size(self.size)}).to({code.working()})", (*index.order, self.axis))

    def reference(self, types: Types, index: Named) -> Named:
        import torch

        places = torch.arange(known(types.outputs[0].size(self.axis)), device=index.tensor.device)
        return Named((index.tensor.unsqueeze(-1) == places).to(torch.get_default_dtype()), (*index.names, self.axis))


@register
class Index(Primitive):
    """The positions 0, 1, .. along an axis: `index(n = 16)` is int[n = 16]."""

    name: ClassVar[str] = "index"
    saves: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ()

    axis: AxisName
    size: Whole

    def infer(self, facts: Facts) -> TensorType:
        return replace(SCALAR, axes=(Axis(self.axis, self.size, default_role(self.axis)),), dtype="int")

    def emit(self, code: Emission) -> Term:
        if isinstance(self.size, int):
            return Term(code.buffer(self.axis, f"torch.arange({code.size(self.size)})"), (self.axis,))
        return Term(f"torch.arange({code.size(self.size)}, device={code.device()})", (self.axis,))

    def resumes(self) -> bool:
        return default_role(self.axis) == "time"

    def resume(self, code: Emission) -> Term:
        """Positions of time count on."""
        (axis,) = code.outputs[0].axes
        if axis.role != "time":
            return self.emit(code)
        past = code.past(axis)
        return Term(f"torch.arange({past}, {past} + {code.size(axis.size)}, device={code.device()})", (self.axis,))

    def reference(self, types: Types) -> Named:
        import torch

        return Named(torch.arange(known(types.outputs[0].size(self.axis))), (self.axis,))
