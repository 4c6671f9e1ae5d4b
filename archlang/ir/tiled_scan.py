"""Scans whose body sums along axes: one kernel walks along the axis of the scan, the carries in tiles of registers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from archlang.ir.chain import fractions
from archlang.ir.fused_scan import FusedScan
from archlang.ir.graph import Node
from archlang.ir.operations import Input
from archlang.primitive import Emission, Term
from archlang.primitives.broadcast import placed
from archlang.shapes import TensorType
from archlang.sizes import Size

RESIDENT = 12288  # numbers of matrices that stay in registers


class NoLayoutError(Exception):
    """Why no program holds what a scan carries."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the numbers of a scan are: a program has one place of the axes `outer`, and holds the others whole, as
    tiles; `sides` has the side of these along which each lies: 0 down, 1 across.
    """

    outer: tuple[str, ...]
    sides: tuple[tuple[str, int], ...]

    @property
    def lanes(self) -> dict[str, int]:
        return dict(self.sides)

    def own(self, type_: TensorType) -> tuple[str, ...]:
        """The axes of a value that a program holds."""
        return tuple(name for name in type_.names if name in self.lanes)

    def own_sizes(self, type_: TensorType) -> tuple[Size, ...]:
        return tuple(type_.size(name) for name in self.own(type_))

    def is_placed(self, type_: TensorType) -> bool:
        """Whether places of the outer axes differ in a value."""
        return any(name in type_ for name in self.outer)

    def order(self, type_: TensorType, axis: str = "") -> tuple[str, ...]:
        """The axes of a value as kernels take them: those of programs, that of the scan, those of tiles."""
        return (*(self.outer if self.is_placed(type_) else ()), *([axis] if axis else []), *self.own(type_))


class TiledScan(FusedScan):
    """A scan with sums, norms, softmaxes and `dot`s along axes that a program holds whole."""

    name: ClassVar[str] = "tiled_scan"

    @property
    def layout(self) -> Layout:
        """Where its numbers are; `NoLayoutError` says why they fit nowhere."""
        carries = [self.graph.inputs[port].type for port in self.carries]
        mixed = {name for node in self.graph for name in _mixed(self.graph, node)}
        shared = [name for name in carries[0].names if all(name in x for x in carries) and name not in mixed]
        seen = [self.graph.inputs[port].type for port in self.each]
        whole = [name for name in shared if all(name in x for x in seen)]
        try:
            return Layout(tuple(whole), self._sides(whole))
        except NoLayoutError:
            return Layout(tuple(shared), self._sides(shared))

    def _sides(self, outer: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """The side of each axis that a program holds, such that no two that meet have one; the last of a value lies
        across.
        """
        groups = [[name for name in group if name not in outer] for group in self._groups()]
        sides: dict[str, int] = {}
        for group in sorted(groups, key=len, reverse=True):
            for name in reversed(group):
                if name not in sides:
                    _colour(name, 1, groups, sides)
        return tuple(sides.items())

    def _groups(self) -> Iterator[tuple[str, ...]]:
        """Axes that meet in a value, or in a product before it is summed."""
        for node in self.graph:
            yield from (type_.names for type_ in node.types)
            if node.op.name != "rename":
                yield tuple(dict.fromkeys(name for x in self.graph.input_types(node) if x for name in x.names))

    def numbers(self, port: str) -> int:
        """How many numbers a program has of what is read under a port; sides of tiles are powers of 2."""
        type_, count = self.graph.inputs[port].type, 1
        for size in self.layout.own_sizes(type_):
            count *= 1 << (int(str(size)) - 1).bit_length()
        return count

    @property
    def streamed(self) -> list[str]:
        """Matrices that are the same at all positions, and too many for registers: they are read at each again."""
        found = [port for port in self.fixed if len(self.layout.own(self.graph.inputs[port].type)) == 2]
        return found if sum(map(self.numbers, found)) > RESIDENT else []

    @property
    def skeleton(self) -> tuple[Any, ...]:
        layout = self.layout
        lies = tuple((value.type.names, layout.own_sizes(value.type)) for value in self.graph.inputs.values())
        return self.name, super().skeleton, lies, layout, self.axis.name, tuple(fractions(self.graph))

    def emit(self, code: Emission, *inputs: Term) -> Term | tuple[Term, ...]:
        given, layout = dict(zip(self.given, inputs, strict=True)), self.layout
        terms = []
        for port in self.arguments:
            order = layout.order(self.graph.inputs[port].type, self.axis.name if port in self.each else "")
            terms.append(placed(code, given[port], order))
        numbers = [self.starts[port] for port in self.carries if port in self.starts]
        numbers += [value for _, _, value in fractions(self.graph)]
        text = f"{code.helper('scan')}({', '.join([*(term.code for term in terms), *map(code.const, numbers)])})"
        orders = [layout.order(value.type, self.axis.name) for value in self.yields]
        return Term(text, orders[0]) if len(orders) == 1 else code.unpack(text, *orders)


def _mixed(graph: Any, node: Node) -> Iterable[str]:
    """The axes along which an operation meets others, and those that it makes of them."""
    types = graph.input_types(node)
    if isinstance(node.op, Input):
        return ()
    op: Any = node.op
    return {*op.mixes(*types), *(dict(op.names.items).values() if op.name == "rename" else ())}


def _colour(name: str, side: int, groups: Sequence[Sequence[str]], sides: dict[str, int]) -> None:
    """Put an axis on a side, and all that it meets on the other."""
    if name in sides:
        if sides[name] != side:
            raise NoLayoutError(f"three axes meet in it, or an axis meets itself: `{name}` has no side of a tile")
        return
    sides[name] = side
    for group in groups:
        if name in group:
            for other in group:
                if other != name:
                    _colour(other, 1 - side, groups, sides)
