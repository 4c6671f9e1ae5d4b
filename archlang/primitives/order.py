"""Orders over the axes of a map: how what runs along one axis runs over several."""

from collections.abc import Iterator, Sequence
from itertools import product as every
from typing import Annotated, ClassVar

from archlang.primitive import Construct, Kind, OpError, register
from archlang.sizes import Size

Place = tuple[int, ...]


class Order(Construct):
    """A path that visits every position of a map once; `reverse` walks it from its end."""

    kind: ClassVar[str] = "order"
    helper: ClassVar[str] = ""  # what makes the positions of the path in order; none for rows one after another

    axes: Annotated[tuple[str, ...], Kind("names")]
    reverse: bool = False

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.axes)}{', reverse = true' if self.reverse else ''})"

    def check(self, sizes: Sequence[Size]) -> None:
        """Refuse a map that it cannot walk; raises `OpError`."""
        if len(set(self.axes)) < len(self.axes):
            raise OpError("A206", f"`{self}` names an axis twice", "over")

    def arguments(self, sizes: Sequence[Size]) -> Sequence[Size]:
        """What the helper takes."""
        return sizes

    def path(self, sizes: Sequence[int]) -> Iterator[Place]:
        """The positions in order, each a place per axis; `reverse` left out."""
        raise NotImplementedError


@register
class Along(Order):
    """Line by line, the first axis the slowest: `along(h, w)` reads the rows of an image, `along(w, h)` its columns."""

    name: ClassVar[str] = "along"

    def path(self, sizes: Sequence[int]) -> Iterator[Place]:
        yield from every(*map(range, sizes))


@register
class Snake(Order):
    """Line by line as `along`, every second line backwards, so that neighbours on the path are neighbours on the
    map.
    """

    name: ClassVar[str] = "snake"
    helper: ClassVar[str] = "snake_order"

    def path(self, sizes: Sequence[int]) -> Iterator[Place]:
        if not sizes:
            yield ()
            return
        for line, place in enumerate(self.path(sizes[:-1])):
            steps = range(sizes[-1]) if line % 2 == 0 else reversed(range(sizes[-1]))
            yield from ((*place, step) for step in steps)


@register
class Hilbert(Order):
    """The curve of Hilbert (1891) over a square whose side is a power of two: what is near on the path is near on the
    map, at every scale.
    """

    name: ClassVar[str] = "hilbert"
    helper: ClassVar[str] = "hilbert_order"

    def check(self, sizes: Sequence[Size]) -> None:
        super().check(sizes)
        shown = " x ".join(map(str, sizes))
        if len(sizes) != 2 or sizes[0] != sizes[1]:
            raise OpError("A204", f"`{self}` walks a square, and the map is {shown}", "over", "`snake` walks any map")
        side = sizes[0]
        if not isinstance(side, int) or side & (side - 1):
            title = f"`{self}` needs sides that are a power of two, and the map is {shown}"
            raise OpError("A204", title, "over", "`snake` walks any map")

    def arguments(self, sizes: Sequence[Size]) -> Sequence[Size]:
        return sizes[:1]

    def path(self, sizes: Sequence[int]) -> Iterator[Place]:
        for step in range(sizes[0] ** 2):
            yield _turned(step, sizes[0])


def _turned(step: int, side: int) -> Place:
    """The position of a step of Hilbert's curve, from its digits to the base of 4, the lowest first."""
    row = column = 0
    half = 1
    while half < side:
        across, down = step // 2 % 2, (step ^ step // 2) % 2
        if not down:
            row, column = (half - 1 - column, half - 1 - row) if across else (column, row)
        row, column = row + half * down, column + half * across
        step, half = step // 4, half * 2
    return row, column
