"""Convolutions of each channel along an axis that see only what came before, channels last: what a pass makes."""

from collections.abc import Mapping
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import AxisName, Emission, Primitive, Term, Types
from archlang.primitives import CONSTRUCTS
from archlang.primitives.conv import Depthwise
from archlang.primitives.sliding import tail_of
from archlang.shapes import TensorType
from archlang.sizes import Size


class CausalConv(Primitive):
    """y[.., t, c] = bias[c] + sum over k of weight[c, 1, k] x[.., t - (kernel - 1 - k) dilation, c], then silu if asked
    for: `depthwise` and what follows it, with the weight of another layer.
    """

    name: ClassVar[str] = "causal_conv"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight", "bias?")
    prefers: ClassVar[str | None] = "last"

    on: AxisName
    kernel: int
    dilation: int = 1
    silu: bool = False

    @property
    def conv(self) -> Depthwise:
        """The same as a `depthwise`."""
        return Depthwise(kernel=self.kernel, dilation=self.dilation, padding="causal", on=(self.on,))

    def infer(self, facts: Facts, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
        return x

    def emit(self, code: Emission, x: Term, weight: Term, bias: Term | None = None) -> Term:
        return self._written(code, code.last(x, (self.on, "c")), weight, bias)

    def resume(self, code: Emission, x: Term, weight: Term, bias: Term | None = None) -> Term:
        """What windows still see of the past, before the positions at hand."""
        if not self.state(*code.inputs):
            return self.emit(code, x, weight, bias)
        x, tail = tail_of(code, code.last(x, (self.on, "c")), self.on, (self.kernel - 1) * self.dilation)
        x = code.bind(x, "x", part=True)
        return self._written(code, x, weight, bias, f"before={tail}.before({x.code}, {x.order.index(self.on)})")

    def _written(self, code: Emission, x: Term, weight: Term, bias: Term | None, *more: str) -> Term:
        given = [x.code, weight.code, *([bias.code] if bias else [])]
        named = [f"dilation={code.const(self.dilation)}"] if self.dilation != 1 else []
        named += [*(["silu=True"] if self.silu else []), *more]
        return Term(f"{code.helper('causal_conv')}({', '.join([*given, *named])})", x.order)

    def reference(self, types: Types, x: Named, weight: Named, bias: Named | None = None) -> Named:
        kernel = weight.to(("units", "c", "tap"))
        y: Named = self.conv.reference(types, x, weight=kernel, bias=bias and bias.to(("units",)))
        return self._activated(types, y)

    def _activated(self, types: Types, y: Named) -> Named:
        if not self.silu:
            return y
        after: Any = CONSTRUCTS["silu"]()
        done: Named = after.reference(Types(types.outputs, types.outputs), y)
        return done

    def memory(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> Memory:
        """Nothing on the way is kept: the kernel makes it again."""
        return Memory({"x": "", "weight": ""}, order=(*(n for n in x.names if n not in (self.on, "c")), self.on, "c"))

    def state(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> Mapping[str, TensorType]:
        return self.conv.state(x)

    def step(
        self, types: Types, state: Mapping[str, Named], x: Named, *others: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        weight, bias = (*others, None)[:2]
        kernel = weight.to(("units", "c", "tap"))
        y, tail = self.conv.step(types, state, x, weight=kernel, bias=bias and bias.to(("units",)))
        return self._activated(types, y), tail

    def macs(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> Size:
        return self.conv.macs(x)

    def mixes(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> frozenset[str]:
        return self.conv.mixes(x)

    def looks_ahead(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> frozenset[str]:
        return frozenset()
