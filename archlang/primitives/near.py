"""Domains that move with the query: what is near it. A map is cut into tiles of queries, each beside the keys that one
of them sees, so that time and memory grow with tokens times domain.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import isqrt, lcm
from typing import Any, ClassVar

from archlang.facts import Condition, Facts
from archlang.primitive import Emission, OpError, PerAxis, Whole, register
from archlang.primitives.domain import Axes, Causal, Cells, Domain, check_sizes, per_axis
from archlang.shapes import Axis
from archlang.sizes import Size, ceil, divide, floor, maximum, minimum, product


@dataclass(frozen=True, slots=True)
class Span:
    """What a query sees along an axis: at most `count` positions, `step` apart, from a first to a last one. `text`
    names the helper that says which, with its arguments but for the size and the device. Aligned spans are equal for
    `count` queries side by side; at borders, spans that move `inwards` keep all of their positions.
    """

    helper: str
    arguments: tuple[Any, ...]
    count: Size
    step: Size = 1
    aligned: bool = False
    inwards: bool = False

    def sides(self) -> tuple[Size, Size]:
        """How many of the positions are before a query at most, and after it, away from borders that they avoid."""
        if self.helper == "band_span":
            before, after = self.arguments
            return divide(before, self.step), divide(after, self.step)
        side = self.count - 1 if self.aligned else floor(divide(self.count, 2))
        return side, side


@dataclass(frozen=True, slots=True)
class Tiling:
    """An axis in tiles of queries, each beside `width` keys; along the first axis of a map these begin `lead` steps
    before every tile.
    """

    tile: Size
    width: Size
    step: Size
    lead: Size | None = None

    def padded(self, size: Size) -> Size:
        """The number of queries with those that fill the last tiles."""
        return ceil(divide(ceil(divide(size, self.step)), self.tile)) * self.tile * self.step


class Near(Domain):
    """A domain that moves with the query, along every axis a span."""

    near: ClassVar[bool] = True

    def span(self, axes: Axes, axis: Axis) -> Span:
        """What a query sees along an axis."""
        raise NotImplementedError

    def reach(self, axis: Axis) -> Size:
        """No key is seen that is this many steps away, or more."""
        raise NotImplementedError

    def looks_ahead(self, axes: Axes, axis: Axis) -> bool:
        return axis.role != "time"

    def most(self, axes: Axes) -> Size:
        return product(minimum(self.span(axes, axis).count, axis.size) for axis in axes)


@register
class Sliding(Near):
    """On time the `n` most recent positions, itself included; on space those closer than `n` along each axis, on
    either side.
    """

    name: ClassVar[str] = "sliding"

    n: PerAxis

    def check(self, facts: Facts, axes: Axes) -> None:
        check_sizes(self, self.n, axes, "n")

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        near = (i - j < self.reach(axis)) & (j - i < self.reach(axis))
        return near & (i >= j) if axis.role == "time" else near

    def reach(self, axis: Axis) -> Size:
        return per_axis(self.n, axis)

    def span(self, axes: Axes, axis: Axis) -> Span:
        reach = self.reach(axis)
        if axis.role == "time":
            return Span("band_span", (reach - 1, 0), reach)
        return Span("band_span", (reach - 1, reach - 1), 2 * reach - 1)

    def restricts(self, axes: Axes, axis: Axis) -> bool:
        return axis.role == "time" or not self._reaches_all(axis)

    def is_causal(self, axes: Axes, axis: Axis) -> bool:
        return axis.role == "time" and self._reaches_all(axis)

    def _reaches_all(self, axis: Axis) -> bool:
        reach = self.reach(axis)
        return isinstance(axis.size, int) and isinstance(reach, int) and reach >= axis.size

    def mask(self, code: Emission, axes: Axes, axis: Axis, device: str) -> str | None:
        n, reach = code.size(axis.size), self.reach(axis)
        if self._reaches_all(axis):
            return Causal().mask(code, axes, axis, device) if axis.role == "time" else None
        causal = ".tril()" if axis.role == "time" else f".tril({code.size(reach - 1)})"
        return f"torch.ones({n}, {n}, dtype=torch.bool{device}){causal}.triu({code.size(1 - reach)})"


@register
class Neighborhood(Near):
    """The `size` nearest positions along each axis, `dilation` apart: a query at i sees those of its own residue class
    i mod dilation around it, and at a border the window moves inwards, so that every query sees equally many
    (Neighborhood Attention Transformer, Hassani et al., CVPR 2023; with dilation, Hassani and Shi, 2022). On time: the
    `size` most recent ones.
    """

    name: ClassVar[str] = "neighborhood"

    size: PerAxis
    dilation: PerAxis = 1

    def check(self, facts: Facts, axes: Axes) -> None:
        for about, value in (("size", self.size), ("dilation", self.dilation)):
            check_sizes(self, value, axes, about)
        for axis in axes:
            size, step = self.reach(axis), self.step(axis)
            if axis.role == "time":
                continue
            if isinstance(size, int) and size % 2 == 0 and size != axis.size:
                raise OpError(
                    "A319", f"a neighborhood has a query in its middle, so its size is odd and not {size}", "over"
                )
            if not facts.require(Condition("<=", size * step, axis.size)):
                arithmetic = f"{size} * {step} = {size * step}" if step != 1 else f"{size}"
                title = f"`{self}` needs {arithmetic} positions along `{axis.name}`, and there are {axis.size}"
                raise OpError("A319", title, "over")

    def reach(self, axis: Axis) -> Size:
        return per_axis(self.size, axis)

    def step(self, axis: Axis) -> Size:
        return per_axis(self.dilation, axis, 1)

    def span(self, axes: Axes, axis: Axis) -> Span:
        size, step = self.reach(axis), self.step(axis)
        if axis.role == "time":
            return Span("band_span", ((size - 1) * step, 0), size, step)
        return Span("neighbor_span", (size, step) if step != 1 else (size,), size, step, inwards=True)

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        size, step = self.reach(axis), self.step(axis)
        p, r, same = i // step, j // step, i % step == j % step
        if axis.role == "time":
            return same & (r <= p) & (p - r < size)
        last = (axis.size - 1 - i % step) // step  # of the class
        first = (p - size // 2).clamp(min=0).minimum(last - size + 1)
        return same & (r >= first) & (r < first + size)


@register
class Radius(Near):
    """Keys closer than `r`: the sum of squares of the distances along the axes is below r^2, a disc on a map (CLEAR,
    Liu et al., 2024).
    """

    name: ClassVar[str] = "radius"

    r: Whole

    def check(self, facts: Facts, axes: Axes) -> None:
        check_sizes(self, self.r, axes, "r")

    def reach(self, axis: Axis) -> Size:
        size: Size = self.r
        return size

    def looks_ahead(self, axes: Axes, axis: Axis) -> bool:
        return True

    def span(self, axes: Axes, axis: Axis) -> Span:
        return Span("band_span", (self.r - 1, self.r - 1), 2 * self.r - 1)

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        return (i - j).abs() < self.r

    def disc(self) -> Size | None:
        size: Size = self.r
        return size

    def most(self, axes: Axes) -> Size:
        if len(axes) != 2 or not isinstance(self.r, int):
            return super().most(axes)
        return sum(2 * isqrt(self.r**2 - 1 - d * d) + 1 for d in range(1 - self.r, self.r))


@register
class Chunks(Near):
    """Blocks of `size` positions of one axis, the last of which may be shorter: a query sees its block, on time as far
    as it is past.
    """

    name: ClassVar[str] = "chunks"

    size: Whole

    def check(self, facts: Facts, axes: Axes) -> None:
        check_sizes(self, self.size, axes, "size")
        if len(axes) != 1:
            names = ", ".join(axis.name for axis in axes)
            raise OpError("A319", f"`chunks` are of one axis, not of {names}", "over", help="name it: `on = n`")

    def reach(self, axis: Axis) -> Size:
        size: Size = self.size
        return size

    def span(self, axes: Axes, axis: Axis) -> Span:
        causal = (True,) if axis.role == "time" else ()
        return Span("chunk_span", (self.size, *causal), self.size, aligned=True)

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        same = i // self.size == j // self.size
        return same & (i >= j) if axis.role == "time" else same


# ---- tilings
def spans(domain: Domain, axes: Axes, axis: Axis) -> list[Span]:
    """What bounds a query along an axis; nothing where it sees all."""
    found = [part.span(axes, axis) for part in domain.parts() if isinstance(part, Near)]
    found += [_in_cell(part, axis) for part in domain.parts() if isinstance(part, Cells) and part.restricts(axes, axis)]
    behind = any(span.arguments[-1] is True or span.arguments[1:] == (0,) for span in found)  # the past at most
    if not behind and any(isinstance(part, Causal) and part.restricts(axes, axis) for part in domain.parts()):
        found.append(Span("band_span", (axis.size - 1, 0), axis.size))
    return [
        span
        for span in found
        if span.helper != "band_span" or any(_below(side, axis.size - 1) for side in span.arguments)
    ]


def bounds(domain: Domain, axes: Axes, axis: Axis) -> dict[str, Size] | None:
    """What bounds a query along an axis, by the names of `NearAxis`; None where two bounds are of one kind."""
    found: dict[str, Size] = {}
    for span in spans(domain, axes, axis):
        own = _named(span)
        if span.helper != "band_span" and found.keys() & own.keys() & {"chunk", "nearest"}:
            return None
        found |= {name: minimum(value, found.get(name, value)) for name, value in own.items()}
    return {name: value for name, value in found.items() if name not in ("before", "after") or value != axis.size - 1}


def _named(span: Span) -> dict[str, Size]:
    if span.helper == "band_span":
        return dict(zip(("before", "after"), span.arguments, strict=True))
    if span.helper == "neighbor_span":
        return {"nearest": span.count}
    given = dict(zip(("chunk", "causal", "start"), span.arguments, strict=False))
    behind = {"after": 0} if given.pop("causal", False) else {}
    return {**given, **behind}


def _in_cell(part: Cells, axis: Axis) -> Span:
    """What a query sees in a cell. Where cells are moved, tiles begin inside them."""
    size, moved = part.extent(axis), part.moved(axis)
    if moved == 0:
        return Span("chunk_span", (size,), size, aligned=True)
    return Span("chunk_span", (size, False, moved), 2 * size - 1)


def is_local(domain: Domain) -> bool:
    """Whether tiles of queries serve a domain: something in it moves with the query, or several partitions meet."""
    parts = list(domain.parts())
    return any(part.near for part in parts) or sum(isinstance(part, Cells) for part in parts) > 1


def _below(side: Size, bound: Size) -> bool:
    return not (isinstance(side, int) and isinstance(bound, int)) or side < bound


def tiling(domain: Domain, axes: Axes, axis: Axis) -> Tiling:
    """How an axis is cut: into tiles of half of what a query sees, in fours. Wider tiles see more that is masked,
    narrower ones copy more along all axes but the first, and few or many queries are slower to multiply (measured on a
    CPU: 16 to 32 of a sequence, at most 16 along each axis of a map).
    """
    found = [span for span in spans(domain, axes, axis) if (span.count, span.step) != (axis.size, 1)]
    first = axis is axes[0]
    if not found:
        return Tiling(axis.size, axis.size, 1, 0 if first else None)
    span = next((s for s in found if all(not _below(o.count, s.count) for o in found)), found[0])
    step = common_step(found)
    if span.aligned and step == 1:
        return _within(Tiling(span.count, span.count, step, 0 if first else None), axis)
    half = ceil(divide(span.count, 8)) * 4
    tile = minimum(half, 16) if len(axes) > 1 else maximum(minimum(half, 32), 16)
    if not first:
        return _within(Tiling(tile, tile + span.count - 1, step), axis)
    lead, width = _reach(span, tile, ceil(divide(axis.size, step)))
    return _within(Tiling(tile, width, step, lead), axis)


def _reach(span: Span, tile: Size, size: Size) -> tuple[Size, Size]:
    """How far before a tile its keys begin, and how many there are, so that they serve the tiles at borders too."""
    before, after = span.sides()
    if not span.inwards:
        return before, before + tile + after
    last = size - (ceil(divide(size, tile)) - 1) * tile if isinstance(size, int) else 1  # queries of the last tile
    lead = maximum(before, span.count - last)
    return lead, lead + maximum(tile + after, span.count)


def _within(cut: Tiling, axis: Axis) -> Tiling:
    """One tile for all, where it would be as wide."""
    if not all(isinstance(size, int) for size in (axis.size, cut.width, cut.step)):
        return cut
    steps: Size = ceil(divide(axis.size, cut.step))
    return cut if _below(cut.width, steps) else Tiling(steps, steps, cut.step, None if cut.lead is None else 0)


def common_step(found: Iterable[Span]) -> Size:
    """How far apart the positions are that spans have in common."""
    steps = {span.step for span in found}
    known = [step for step in steps if isinstance(step, int)]
    return lcm(*known) if len(known) == len(steps) else product(steps)


def reaches(domain: Domain, axes: Axes) -> tuple[tuple[Size, Size], ...] | None:
    """Per axis, how many steps away no key is seen any more, and the size of a step; None where the domain does not
    move with the query.
    """
    parts = [part for part in domain.parts() if isinstance(part, Near)]
    if not parts:
        return None
    found: list[tuple[Size, Size]] = []
    for axis in axes:
        own = [(part.reach(axis), part.span(axes, axis).step) for part in parts]
        step = common_step(part.span(axes, axis) for part in parts)
        reach = reduce(minimum, (floor(divide((count - 1) * gap, step)) + 1 for count, gap in own))
        found.append((minimum(reach, axis.size) if isinstance(axis.size, int) else reach, step))
    return tuple(found)
