"""Pools: the maximum or mean of windows over space and time. The mean over whole axes is `mean(on = space)`."""

from functools import reduce
from typing import ClassVar

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Axes, AxisMap, Emission, OpError, PerAxis, Primitive, Term, Types, register
from archlang.primitives.sliding import (
    Padding,
    Window,
    ahead,
    even,
    keywords,
    map_order,
    mixed,
    need_float,
    padded,
    per_axis,
    slid,
    slid_memory,
    slide,
    spell,
    spell_sizes,
    stacked,
    taps,
    unstacked,
    windows,
)
from archlang.shapes import TensorType
from archlang.sizes import Size


class _Pool(Primitive):
    """What pools with a kernel share."""

    prefers: ClassVar[str | None] = "first"

    kernel: PerAxis
    stride: PerAxis | None = None
    padding: Padding = "same"

    def windows(self, x: TensorType) -> tuple[Window, ...]:
        return windows(self, x)

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        return x.resized(**slide(self, facts, self.windows(x)))

    def arguments(self, code: Emission, x: TensorType, within: bool) -> str:
        """Those of PyTorch's function: kernel, stride where it is another, padding unless done before, dilation."""
        found = self.windows(x)
        kernel, stride = [window.kernel for window in found], [window.stride for window in found]
        steps = {"stride": spell(code, stride)} if stride != kernel else {}
        padding = [window.left if within else 0 for window in found]
        named = {**steps, **keywords(code, padding=padding, dilation=[window.dilation for window in found])}
        return ", ".join([spell(code, kernel), *(f"{name}={value}" for name, value in named.items())])

    def mixes(self, x: TensorType) -> frozenset[str]:
        return mixed(self.windows(x))

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        return ahead(self.windows(x)) & self.mixes(x)

    def resumes(self, x: TensorType) -> bool:
        """Windows of time that each are a stride."""
        return all(w.reach < w.stride and (w.left, w.right) == (0, 0) for w in self.windows(x) if w.axis.role == "time")


def _within(found: tuple[Window, ...]) -> bool:
    """PyTorch's pools pad evenly and at most half of the kernel."""
    return even(found) and all(2 * window.left <= window.kernel for window in found)


@register
class MaxPool(_Pool):
    """y[.., o] = max over k < kernel of x[.., o stride + k dilation - left], which is -inf outside of x.

    `stride` is `kernel` unless given. Padding is that of `conv`: with stride = kernel none, 3 at stride 2 pads 1.
    """

    name: ClassVar[str] = "max_pool"

    dilation: PerAxis = 1
    on: Axes = ("space", "time")

    def emit(self, code: Emission, x: Term) -> Term:
        found = self.windows(code.inputs[0])
        planes, others = stacked(code, x, [window.name for window in found], most=2)
        within = _within(found)
        planes = planes if within else padded(code, planes, found, ', value=float("-inf")')
        y = f"F.max_pool{len(found)}d({planes.code}, {self.arguments(code, code.inputs[0], within)})"
        return unstacked(code, Term(y, planes.order), others)

    def memory(self, x: TensorType) -> Memory:
        """The place of each maximum."""
        found = self.windows(x)
        places = self.infer(Facts(), x).cast("int").bytes
        return slid_memory(x, found, _within(found), most=2, more=places)

    def reference(self, types: Types, x: Named) -> Named:
        seen = [value for _, value in taps(x, self.windows(types.inputs[0]), fill=float("-inf"))]
        return reduce(lambda a, b: a.combine(b, lambda p, q: p.maximum(q)), seen)


@register
class AvgPool(_Pool):
    """y[.., o] = mean over k < kernel of x[.., o stride + k - left], which is 0 outside of x.

    `stride` is `kernel` unless given; padding is that of `conv`. With `count_include_pad = false` the
    mean is only over positions inside x.
    """

    name: ClassVar[str] = "avg_pool"

    count_include_pad: bool = True
    on: Axes = ("space", "time")

    def emit(self, code: Emission, x: Term) -> Term:
        found = self.windows(code.inputs[0])
        planes, others = stacked(code, x, [window.name for window in found], most=2)
        if _within(found):
            only_inside = not self.count_include_pad and any(window.left != 0 for window in found)
            y = self._mean(code, planes, ", count_include_pad=False" if only_inside else "")
        elif self.count_include_pad:
            y = self._mean(code, padded(code, planes, found))
        else:
            planes = code.bind(planes, "x")
            share = Term(f"torch.ones_like({planes.safe}[:1])", planes.order)
            y = f"{self._mean(code, padded(code, planes, found))} / {self._mean(code, padded(code, share, found))}"
        return unstacked(code, Term(y, planes.order, tight=" / " not in y), others)

    def _mean(self, code: Emission, x: Term, more: str = "") -> str:
        found = self.windows(code.inputs[0])
        return f"F.avg_pool{len(found)}d({x.code}, {self.arguments(code, code.inputs[0], _within(found))}{more})"

    def memory(self, x: TensorType) -> Memory:
        found = self.windows(x)
        return slid_memory(x, found, _within(found), most=2)

    def reference(self, types: Types, x: Named) -> Named:
        found = self.windows(types.inputs[0])
        inside = x.map(lambda tensor: tensor.new_ones(tensor.shape))
        total = sum((value for _, value in taps(x, found)), start=Named(x.tensor.new_zeros(()), ()))
        return total / sum(
            (value for _, value in taps(inside, found, fill=float(self.count_include_pad))),
            start=Named(x.tensor.new_zeros(()), ()),
        )


class _Adaptive(Primitive):
    """What pools to a given size share: output o sees those from floor(o s / size) to ceil((o + 1) s / size) - 1."""

    prefers: ClassVar[str | None] = "first"
    kind_of_pool: ClassVar[str]

    size: PerAxis
    on: Axes = ("space",)

    def sizes(self, x: TensorType) -> dict[str, Size]:
        """The new size of each axis: those that `size` names, else all of `on`."""
        on = tuple(name for name, _ in self.size.items) if isinstance(self.size, AxisMap) else self.on
        names = slid(on, x, self)
        return dict(zip(names, per_axis(self.size, names, "size"), strict=True))

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        sizes = self.sizes(x)
        for name, size in sizes.items():
            if not facts.require(Condition("<=", 1, size), f"`{self.name}` leaves something of `{name}`"):
                raise OpError("A319", f"`size` must be at least 1, and is {size}", "size")
        return x.resized(**sizes)

    def emit(self, code: Emission, x: Term) -> Term:
        sizes = self.sizes(code.inputs[0])
        planes, others = stacked(code, x, tuple(sizes), most=2)
        new = spell_sizes(code, tuple(sizes.values()))
        y = f"F.adaptive_{self.kind_of_pool}_pool{len(sizes)}d({planes.code}, {new})"
        return unstacked(code, Term(y, planes.order), others)

    def memory(self, x: TensorType) -> Memory:
        """The place of each maximum; a mean of everything needs nothing."""
        order = map_order(x, tuple(self.sizes(x)))
        if self.kind_of_pool == "max":
            return Memory({"x": ""}, kept=self.infer(Facts(), x).cast("int").bytes, order=order)
        return Memory({} if set(self.sizes(x).values()) == {1} else {"x": ""}, order=order)

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        for name, size in self.sizes(types.inputs[0]).items():
            old, new = x.size(name), int(size)  # type: ignore[arg-type]
            parts = [x.select(name, slice(o * old // new, -(-(o + 1) * old // new))) for o in range(new)]
            x = Named(torch.stack([self._pooled(part, name).tensor for part in parts], x.at(name)), x.names)
        return x

    def _pooled(self, x: Named, name: str) -> Named:
        raise NotImplementedError

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(self.sizes(x))


@register
class AdaptiveAvgPool(_Adaptive):
    """The mean over each of `size` near-equal parts of an axis: `adaptive_avg_pool([h = 7, w = 1])`."""

    name: ClassVar[str] = "adaptive_avg_pool"
    kind_of_pool: ClassVar[str] = "avg"

    def _pooled(self, x: Named, name: str) -> Named:
        return x.mean((name,))


@register
class AdaptiveMaxPool(_Adaptive):
    """The maximum over each of `size` near-equal parts of an axis: `adaptive_max_pool([h = 7, w = 1])`."""

    name: ClassVar[str] = "adaptive_max_pool"
    kind_of_pool: ClassVar[str] = "max"

    def _pooled(self, x: Named, name: str) -> Named:
        return x.reduce(lambda tensor, dim: tensor.amax(dim), (name,))
