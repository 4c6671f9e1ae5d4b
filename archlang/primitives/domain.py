"""Who sees whom in attention: domains are compile-time values that `attend`, `relative` and their like take as `over`.

A domain is a product over the attended axes: a query sees a key where it does along each of them.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any, ClassVar

from archlang.facts import Condition, Facts
from archlang.primitive import Axes as Names
from archlang.primitive import AxisMap, Construct, Emission, OpError, PerAxis, PerName, register
from archlang.shapes import Axis
from archlang.sizes import Size, divide, floor, minimum, product

Axes = tuple[Axis, ...]


class Domain(Construct):
    """Which keys a query sees."""

    kind: ClassVar[str] = "domain"
    near: ClassVar[bool] = False  # whether what a query sees moves with it, so that a map is cut into overlapping tiles

    def meet(self, other: "Domain") -> "Domain":
        """`self & other`: the keys in both."""
        return Meet(left=self, right=other)

    def parts(self) -> "Iterator[Domain]":
        """The domains that it is the meet of."""
        yield self

    def check(self, facts: Facts, axes: Axes) -> None:
        """Refuse axes that it cannot serve; raises `OpError`."""

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        """The meaning along one axis: whether a query at `i` sees a key at `j` (positions that broadcast)."""
        raise NotImplementedError

    def restricts(self, axes: Axes, axis: Axis) -> bool:
        """Whether some keys along an axis are not seen; queries then need the axis too."""
        return True

    def looks_ahead(self, axes: Axes, axis: Axis) -> bool:
        """Whether a query sees later positions along an axis."""
        return True

    def is_causal(self, axes: Axes, axis: Axis) -> bool:
        """Whether it is the plain lower triangle along an axis."""
        return False

    def mask(self, code: Emission, axes: Axes, axis: Axis, device: str) -> str | None:
        """A bool matrix [query, key] along one axis as code; None where all see all. `device` ends the arguments of
        its constructor.
        """
        return None

    def most(self, axes: Axes) -> Size:
        """The number of keys that a query sees at most."""
        return product(axis.size for axis in axes)

    def disc(self) -> Size | None:
        """How near a key is that is seen, where that is no matter of one axis alone."""
        return None


class Meet(Domain):
    """`left & right`: the keys that both see."""

    left: Domain
    right: Domain

    def __str__(self) -> str:
        return f"{self.left} & {self.right}"

    def parts(self) -> Iterator[Domain]:
        yield from self.left.parts()
        yield from self.right.parts()

    def check(self, facts: Facts, axes: Axes) -> None:
        parts = list(self.parts())
        for part in parts:
            part.check(facts, axes)
        if cells_of(self) is not None or not any(part.near or isinstance(part, Cells) for part in parts):
            return
        for part in parts:
            if isinstance(part, Cells) and any(part.step(axis) != 1 for axis in axes):
                title = (
                    f"`{self}` is not a domain: the cells of `{part}` are spread over the map, and meet `causal` alone"
                )
                raise OpError("A319", title, "over")

    def most(self, axes: Axes) -> Size:
        return reduce(minimum, (part.most(axes) for part in self.parts()))

    def disc(self) -> Size | None:
        found = [disc for part in self.parts() if (disc := part.disc()) is not None]
        return reduce(minimum, found) if found else None

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        return self.left.sees(axes, axis, i, j) & self.right.sees(axes, axis, i, j)

    def restricts(self, axes: Axes, axis: Axis) -> bool:
        return any(part.restricts(axes, axis) for part in self.parts())

    def looks_ahead(self, axes: Axes, axis: Axis) -> bool:
        return all(part.looks_ahead(axes, axis) for part in self.parts())


@register
class Full(Domain):
    """Every query sees every key."""

    name: ClassVar[str] = "full"

    def restricts(self, axes: Axes, axis: Axis) -> bool:
        return False

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        return (i == i) & (j == j)


@register
class Causal(Domain):
    """A query sees itself and what is before it: along the time axes or, where there are none, along the one axis
    attended over.
    """

    name: ClassVar[str] = "causal"

    def check(self, facts: Facts, axes: Axes) -> None:
        if len(axes) > 1 and not any(axis.role == "time" for axis in axes):
            names = ", ".join(axis.name for axis in axes)
            raise OpError("A319", f"`causal` needs a time axis or a single axis, not {names}", "over")

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        return i >= j if self.restricts(axes, axis) else (i == i) & (j == j)

    def looks_ahead(self, axes: Axes, axis: Axis) -> bool:
        return not self.restricts(axes, axis)

    def is_causal(self, axes: Axes, axis: Axis) -> bool:
        return self.restricts(axes, axis)

    def mask(self, code: Emission, axes: Axes, axis: Axis, device: str) -> str | None:
        n = code.size(axis.size)
        return f"torch.ones({n}, {n}, dtype=torch.bool{device}).tril()" if self.restricts(axes, axis) else None

    def restricts(self, axes: Axes, axis: Axis) -> bool:
        return axis.role == "time" or len(axes) == 1


class Cells(Domain):
    """A partition of the map into cells of equal shape; a query sees its cell. Along an axis a cell has `extent`
    positions, `step` apart from each other.
    """

    def check(self, facts: Facts, axes: Axes) -> None:
        for axis in axes:
            if not facts.divides(self.extent(axis), axis.size):
                raise OpError(
                    "A204",
                    f"`{self}` needs `{axis.name}` to be a multiple of {self.extent(axis)}, and it is {axis.size}",
                    "over",
                )

    def restricts(self, axes: Axes, axis: Axis) -> bool:
        return self.extent(axis) != axis.size

    def looks_ahead(self, axes: Axes, axis: Axis) -> bool:
        return self.extent(axis) != 1

    def extent(self, axis: Axis) -> Size:
        """The size of a cell along an axis."""
        raise NotImplementedError

    def step(self, axis: Axis) -> Size:
        """How far apart the neighbours in a cell are."""
        return 1

    def moved(self, axis: Axis) -> Size:
        """How far the cells are moved along an axis."""
        return 0

    def most(self, axes: Axes) -> Size:
        return product(self.extent(axis) for axis in axes)

    def place(self, axis: Axis, i: Any) -> Any:
        """The position of `i` inside its cell."""
        return i // self.step(axis) % self.extent(axis)

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        extent, step = self.extent(axis), self.step(axis)
        return (i // (extent * step) == j // (extent * step)) & (i % step == j % step)


@register
class Windows(Cells):
    """Windows of `size` side by side, moved by `shift` as in Swin; a window that the shift cuts at the border does not
    join its two halves. With a `dilation` the positions of a window are that far apart. A window that would be larger
    than the map is the map.
    """

    name: ClassVar[str] = "windows"

    size: PerAxis
    shift: PerAxis = 0
    dilation: PerAxis = 1

    def check(self, facts: Facts, axes: Axes) -> None:
        for about, value in (("size", self.size), ("dilation", self.dilation)):
            check_sizes(self, value, axes, about)
        super().check(facts, axes)
        for axis in axes:
            moved, step = 0 if self.moved(axis) == 0 else per_axis(self.shift, axis, 0), self.step(axis)
            if (isinstance(moved, int) and moved < 0) or not facts.require(Condition("<", moved, self.extent(axis))):
                raise OpError(
                    "A319",
                    f"`shift` must be at least 0 and less than the window of {self.extent(axis)}, and is {moved}",
                    "over",
                )
            if moved != 0 and step != 1:
                raise OpError("A319", f"`{self}`: windows with a dilation do not shift", "over")
            if step != 1 and not facts.divides(self.extent(axis) * step, axis.size):
                sizes = f"{self.extent(axis)} * {step} = {self.extent(axis) * step}"
                title = f"`{self}` needs `{axis.name}` to be a multiple of {sizes}, and it is {axis.size}"
                raise OpError("A204", title, "over")

    def extent(self, axis: Axis) -> Size:
        size = per_axis(self.size, axis)
        return axis.size if isinstance(size, int) and isinstance(axis.size, int) and size > axis.size else size

    def step(self, axis: Axis) -> Size:
        return 1 if self.extent(axis) == axis.size else per_axis(self.dilation, axis, 1)

    def moved(self, axis: Axis) -> Size:
        """The shift along an axis; none where the window is the map, which a free size may turn out to be."""
        others = floor(divide(axis.size, self.extent(axis))) - 1
        return per_axis(self.shift, axis, 0) * minimum(1, others)

    def place(self, axis: Axis, i: Any) -> Any:
        return super().place(axis, (i - self.moved(axis)) % axis.size)

    def sees(self, axes: Axes, axis: Axis, i: Any, j: Any) -> Any:
        shift = self.moved(axis)
        same = super().sees(axes, axis, (i - shift) % axis.size, (j - shift) % axis.size)
        return same & ((i < shift) == (j < shift))


@register
class Grid(Cells):
    """`size` positions per axis, spread evenly over the map (MaxViT's dilated global attention): a query sees those at
    its own offset.
    """

    name: ClassVar[str] = "grid"

    size: PerAxis

    def check(self, facts: Facts, axes: Axes) -> None:
        check_sizes(self, self.size, axes, "size")
        super().check(facts, axes)

    def extent(self, axis: Axis) -> Size:
        size = per_axis(self.size, axis)
        return axis.size if isinstance(size, int) and isinstance(axis.size, int) and size > axis.size else size

    def step(self, axis: Axis) -> Size:
        return divide(axis.size, self.extent(axis))


@register
class Stripes(Cells):
    """Stripes of so many positions along the axes that are named, whole along the others (CSWin Transformer, Dong et
    al., CVPR 2022): `stripes(h = 7)`.
    """

    name: ClassVar[str] = "stripes"

    sizes: PerName

    def __str__(self) -> str:
        return f"stripes({str(self.sizes)[1:-1]})"

    def check(self, facts: Facts, axes: Axes) -> None:
        check_sizes(self, self.sizes, axes, "sizes")
        super().check(facts, axes)

    def extent(self, axis: Axis) -> Size:
        return per_axis(self.sizes, axis)


@register
class Axial(Cells):
    """Along some axes only (Ho et al., 2019): `axial(h)` lets a query see its column."""

    name: ClassVar[str] = "axial"

    on: Names

    def check(self, facts: Facts, axes: Axes) -> None:
        for name in self.on:
            if name not in [axis.name for axis in axes] and name not in [axis.role for axis in axes]:
                raise OpError("A205", f"there is no axis `{name}` to attend over", "over")

    def extent(self, axis: Axis) -> Size:
        return axis.size if axis.name in self.on or axis.role in self.on else 1


def per_axis(value: Any, axis: Axis, absent: Size | None = None) -> Size:
    """The value of a `PerAxis` for an axis; an axis that a map does not name is taken whole."""
    if not isinstance(value, AxisMap):
        size: Size = value
    else:
        size = dict(value.items).get(axis.name, axis.size if absent is None else absent)
    return size


def check_sizes(domain: Domain, value: Any, axes: Axes, about: str) -> None:
    if isinstance(value, AxisMap):
        for name, _ in value.items:
            if name not in [axis.name for axis in axes]:
                raise OpError("A205", f"there is no axis `{name}` to attend over", "over")
    for size in (per_axis(value, axis) for axis in axes):
        if isinstance(size, int) and size < 1:
            raise OpError("A319", f"`{about}` of `{domain}` must be at least 1, and is {size}", "over")


def cells_of(domain: Domain) -> Cells | None:
    """The partition that a domain makes, if any: what meets another, or moves inside its cells, makes none."""
    parts = list(domain.parts())
    cells = [part for part in parts if isinstance(part, Cells)]
    return cells[0] if len(cells) == 1 and not any(part.near for part in parts) else None


def extents(domain: Domain, axes: Axes) -> tuple[Size, ...]:
    """The sizes, per axis, of what a query may see at most: its cell or the map."""
    cells = cells_of(domain)
    return tuple(cells.extent(axis) if cells else axis.size for axis in axes)


def is_whole(domain: Domain, axes: Axes) -> bool:
    """Whether a partition has one cell only, the map."""
    return extents(domain, axes) == tuple(axis.size for axis in axes)


def default_domain(axes: Iterable[Axis]) -> Domain:
    """Causal on time and full on space."""
    return Causal() if any(axis.role == "time" for axis in axes) else Full()
