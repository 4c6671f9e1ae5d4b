"""Noise in training, and scales that damp a branch."""

from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    Number,
    OpError,
    Param,
    Primitive,
    Term,
    Types,
    Whole,
    axes_of,
    need_axes,
    register,
)
from archlang.primitives.broadcast import refuse
from archlang.shapes import TensorType


@register
class Dropout(Primitive):
    """In training x is 0 with probability `rate`, else x / (1 - rate); otherwise y = x (Srivastava et al., 2014)."""

    name: ClassVar[str] = "dropout"
    random: ClassVar[bool] = True

    rate: Number

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if not 0 <= self.rate < 1:
            raise OpError("A319", f"the rate is from 0 to below 1, and here {self.rate}", "rate")
        if "float" not in x.dtype:
            raise refuse(x, f"`{self.name}` takes a `float`")
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        return code.unless_zero(self.rate, x, f"F.dropout({x.code}, {code.const(self.rate)}, self.training)")

    def memory(self, x: TensorType) -> Memory:
        return Memory(kept=x.bytes) if self.rate else Memory(view=True)

    def reference(self, types: Types, x: Named) -> Named:
        return x


@register
class DropPath(Dropout):
    """In training whole samples are 0 with probability `rate`, the others x / (1 - rate); otherwise y = x.

    A sample is one position of all batch axes (Huang et al., 2016).
    """

    name: ClassVar[str] = "drop_path"

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, ["batch"])
        return super().infer(facts, x)

    def emit(self, code: Emission, x: Term) -> Term:
        places = tuple(x.order.index(name) for name in code.inputs[0].of_role("batch"))
        where = "" if places == (0,) else f", {places}"
        return code.unless_zero(
            self.rate, x, f"{code.helper('drop_path')}({x.code}, {code.const(self.rate)}, self.training{where})"
        )

    def memory(self, x: TensorType) -> Memory:
        samples = x.without(*(name for name in x.names if name not in x.of_role("batch")))
        return Memory(kept=samples.bytes) if self.rate else Memory(view=True)


@register
class StochasticDepth(DropPath):
    """Another name of `drop_path`."""

    name: ClassVar[str] = "stochastic_depth"


@register
class LabelDropout(Primitive):
    """In training a label becomes `null` with probability `rate`; otherwise y = x. `null` stands for no condition, for
    classifier-free guidance (Ho and Salimans, 2022).
    """

    name: ClassVar[str] = "label_dropout"
    random: ClassVar[bool] = True

    rate: Number
    null: Whole

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if not 0 <= self.rate <= 1:
            raise OpError("A319", f"the rate is from 0 to 1, and here {self.rate}", "rate")
        if not x.dtype.startswith(("int", "uint")):
            raise refuse(x, "labels are of whole numbers")
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        drop, rate, null = code.helper("label_dropout"), code.const(self.rate), code.size(self.null)
        return code.unless_zero(self.rate, x, f"{drop}({x.code}, {rate}, {null}, self.training)")

    def reference(self, types: Types, x: Named) -> Named:
        return x


@register
class LayerScale(Primitive):
    """y = gamma x (Touvron et al., 2021). Weight gamma: the axes `on`, `init` everywhere at first."""

    name: ClassVar[str] = "layer_scale"

    init: Number = 1e-5
    on: Axes = ("c",)

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, self.on)
        if "float" not in x.dtype:
            raise refuse(x, "`layer_scale` takes a `float`")
        return x

    def params(self, x: TensorType) -> dict[str, Param]:
        on = axes_of(self.on, x)
        return {"gamma": Param(tuple(x.size(name) for name in on), on)}

    def emit(self, code: Emission, x: Term) -> Term:
        on = axes_of(self.on, code.inputs[0])
        module = code.module(
            "LayerScale", *(code.size(code.inputs[0].size(name)) for name in on), init=code.const(float(self.init))
        )
        if x.order[-len(on) :] == on:
            return Term(f"{module}({x.code})", x.order)
        x, gamma = code.align(x, Term(code.weight("gamma"), on))
        return Term(f"{x.safe} * {gamma.code}", x.order, tight=False)

    def reference(self, types: Types, x: Named, gamma: Any = None) -> Named:
        return x * Named(gamma, axes_of(self.on, types.inputs[0]))
