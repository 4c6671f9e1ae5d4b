"""The windows that a convolution sees as an axis of the tensor, and back."""

from itertools import product as pairs
from typing import ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import (
    Axes,
    AxisMap,
    AxisName,
    Emission,
    OpError,
    PerAxis,
    Primitive,
    Term,
    Types,
    need_named,
    register,
)
from archlang.primitives.sliding import (
    Padding,
    Window,
    adjoint_ahead,
    ahead,
    mixed,
    padded,
    padding_of,
    per_axis,
    slid,
    slide,
    spread,
    steps,
    taps,
    windows,
)
from archlang.shapes import TensorType, axis
from archlang.sizes import product


@register
class Unfold(Primitive):
    """y[.., o, k] = x[.., o stride + k dilation - left], 0 outside of x: what `conv` sees, k along the axis `axis`.

    Padding is that of `conv`, on time causal; k runs over the kernel with the last of the axes t, d, h, w the fastest.
    """

    name: ClassVar[str] = "unfold"
    saves: ClassVar[tuple[str, ...]] = ()

    kernel: PerAxis
    stride: PerAxis = 1
    padding: Padding = "same"
    dilation: PerAxis = 1
    axis: AxisName = "taps"
    on: Axes = ("space", "time")

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        found = windows(self, x)
        if self.axis in x:
            raise OpError("A206", f"{x} has an axis `{self.axis}` already", "axis", help="`axis = ...` names another")
        y = x.resized(**slide(self, facts, found))
        return y.swapped((), (axis(self.axis, product(window.kernel for window in found)),))

    def emit(self, code: Emission, x: Term) -> Term:
        found = windows(self, code.inputs[0])
        if any((window.left, window.right) != (0, 0) for window in found):
            x = padded(code, code.last(x, [window.name for window in found]), found)
        for window in found:
            step = f"[..., ::{code.const(window.dilation)}]" if window.dilation > 1 else ""
            call = f"unfold({x.order.index(window.name)}, {code.const(window.reach + 1)}, {code.const(window.stride)})"
            x = Term(f"{x.safe}.{call}{step}", (*x.order, f"{window.name}'"))
        return code.flat(x, [f"{window.name}'" for window in found], self.axis)

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        seen = [value for _, value in taps(x, windows(self, types.inputs[0]))]
        return Named(torch.stack([value.tensor for value in seen], -1), (*seen[0].names, self.axis))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return mixed(windows(self, x))

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        found = windows(self, x)
        return ahead(found) & mixed(found)


@register
class Fold(Primitive):
    """The adjoint of `unfold`: y[.., o stride + k dilation - left] sums x[.., o, k] over windows o and `axis` k.

    `size` is what `unfold` had: `fold([h = 14, w = 14], kernel = 3)`. On time left is 0: a window adds to no earlier
    position.
    """

    name: ClassVar[str] = "fold"
    saves: ClassVar[tuple[str, ...]] = ()

    size: PerAxis
    kernel: PerAxis
    stride: PerAxis = 1
    padding: Padding = "same"
    dilation: PerAxis = 1
    axis: AxisName = "taps"
    on: Axes = ("space", "time")

    def windows(self, x: TensorType) -> tuple[Window, ...]:
        """The windows over the result."""
        on = tuple(name for name, _ in self.size.items) if isinstance(self.size, AxisMap) else self.on
        names = slid(on, x, self)
        sizes = dict(zip(names, per_axis(self.size, names, "size"), strict=True))
        y, found = x.resized(**sizes), []
        for name, (word, k, s, d) in zip(names, steps(self, names), strict=True):
            left, right = padding_of(word, y[name], d * (k - 1), s)
            if y[name].role == "time" and word == "same":
                left, right = right, left
            found.append(Window(y[name], k, s, d, left, right))
        return tuple(found)

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_named(x, (self.axis,))
        found = self.windows(x)
        if any(window.name == self.axis for window in found):
            raise OpError("A206", f"`{self.axis}` holds the taps, and is no axis of the result", "axis")
        wanted = {
            self.axis: product(window.kernel for window in found),
            **{window.name: window.count for window in found},
        }
        for name, size in wanted.items():
            if not facts.equal(x.size(name), size):
                raise OpError(
                    "A204", f"`fold` needs {name} = {size}, and x is {x}", "size" if name != self.axis else "kernel"
                )
        return x.without(self.axis).resized(**{window.name: window.axis.size for window in found})

    def emit(self, code: Emission, x: Term) -> Term:
        found = self.windows(code.inputs[0])
        x = code.last(x, (*(window.name for window in found), self.axis))
        columns = zip(*((w.kernel, w.stride, w.dilation, w.left) for w in found), strict=True)
        size = ", ".join(code.size(window.axis.size) for window in found)
        rest = ", ".join(f"({', '.join(map(code.size, column))}{',' * (len(found) == 1)})" for column in columns)
        return Term(f"{code.helper('overlap_add')}({x.code}, ({size}{',' * (len(found) == 1)}), {rest})", x.order[:-1])

    def reference(self, types: Types, x: Named) -> Named:
        found, parts = self.windows(types.inputs[0]), []
        for column, tap in enumerate(pairs(*(range(window.kernel) for window in found))):
            y = x.select(self.axis, column)
            for window, k in zip(found, tap, strict=True):
                y = spread(y, window, k, window.axis.size)
            parts.append(y)
        return sum(parts[1:], parts[0])

    def mixes(self, x: TensorType) -> frozenset[str]:
        return mixed(self.windows(x)) | {self.axis}

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        return frozenset(window.name for window in self.windows(x) if adjoint_ahead(window)) | {self.axis}
