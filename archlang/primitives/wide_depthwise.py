"""Convolutions of each channel of an image by large kernels: what passes make for a GPU."""

from typing import ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Axes, Emission, PerAxis, Primitive, Term, Types
from archlang.primitives.conv import Depthwise
from archlang.shapes import TensorType
from archlang.sizes import Size


class WideDepthwise(Primitive):
    """y[.., h, w, c] = bias[c] + sum over i, j of weight[c, 1, i, j] x[.., h + i - above, w + j - before, c]:
    `depthwise` over an image, of the same size, with the weight of another layer.
    """

    name: ClassVar[str] = "wide_depthwise"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight", "bias?")
    prefers: ClassVar[str | None] = "last"

    on: Axes
    kernel: PerAxis

    @property
    def conv(self) -> Depthwise:
        """The same as a `depthwise`."""
        return Depthwise(kernel=self.kernel, on=self.on)

    def infer(self, facts: Facts, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
        return x

    def emit(self, code: Emission, x: Term, weight: Term, bias: Term | None = None) -> Term:
        x = code.last(x, (*self.on, "c"))
        given = [x.code, weight.code, *([bias.code] if bias else [])]
        return Term(f"{code.helper('wide_depthwise')}({', '.join(given)})", x.order)

    def reference(self, types: Types, x: Named, weight: Named, bias: Named | None = None) -> Named:
        kernel = weight.to(("units", "c", "high", "wide"))
        y: Named = self.conv.reference(types, x, weight=kernel, bias=bias and bias.to(("units",)))
        return y

    def memory(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> Memory:
        """The kernel reads what it was given again."""
        return Memory({"x": "", "weight": ""}, order=(*(n for n in x.names if n not in (*self.on, "c")), *self.on, "c"))

    def macs(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> Size:
        return self.conv.macs(x)

    def mixes(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> frozenset[str]:
        return self.conv.mixes(x)

    def looks_ahead(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> frozenset[str]:
        return frozenset(self.on)
