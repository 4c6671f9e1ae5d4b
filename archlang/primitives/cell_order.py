"""Maps with their places in the order of a partition: cell after cell. What works on each place alone does not care,
and what works inside cells finds them side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product as every
from typing import Any, ClassVar

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types
from archlang.primitives.attention_code import whole
from archlang.primitives.domain import Cells
from archlang.shapes import Axis, TensorType
from archlang.sizes import divide, product

CELL = "cell"


@dataclass(frozen=True)
class Order:
    """A partition of the places along some axes of known size: the order in which the places of a cell follow one
    another.
    """

    over: Cells
    space: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"{self.over} of {' x '.join(str(axis.size) for axis in self.space)}"

    def __hash__(self) -> int:
        """Worked out once: values are looked up by their order again and again."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.over, self.space))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.space)

    @property
    def inner(self) -> tuple[Axis, ...]:
        """The places in a cell."""
        return tuple(Axis(axis.name, self.over.extent(axis), axis.role) for axis in self.space)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The cells, and the places in each."""
        count = divide(product(axis.size for axis in self.space), product(axis.size for axis in self.inner))
        return Axis(CELL, count, "space"), *self.inner

    @property
    def shifts(self) -> bool:
        return any(self.over.moved(axis) for axis in self.space)

    @property
    def is_natural(self) -> bool:
        """Whether it is the order of the map."""
        return _is_natural(self)

    @property
    def places(self) -> list[int]:
        """Which place of the flattened map comes at each place."""
        return _places(self)

    def at(self, at: Sequence[int]) -> int:
        """The place of the flattened map."""
        flat = 0
        for axis, i in zip(self.space, at, strict=True):
            flat = flat * whole(axis.size) + i
        return flat

    def rank(self, at: Sequence[int]) -> tuple[Any, ...]:
        """The cell along each axis, and the place in it along each."""
        outer, inner = [], []
        for axis, i in zip(self.space, at, strict=True):
            extent, step = whole(self.over.extent(axis)), whole(self.over.step(axis))
            moved = (i - whole(self.over.moved(axis))) % whole(axis.size)
            outer += [moved // (extent * step), moved % step]
            inner.append(moved // step % extent)
        return *outer, *inner

    def code(self, code: Emission) -> str:
        """The helper that makes `places`."""
        sizes, cell = ([axis.size for axis in axes] for axes in (self.space, self.inner))
        named = {"shift": [self.over.moved(axis) for axis in self.space]} if self.shifts else {}
        steps = [self.over.step(axis) for axis in self.space]
        named |= {"step": steps} if set(steps) != {1} else {}
        given = [_tuple(code, sizes), _tuple(code, cell), *(f"{name}={_tuple(code, x)}" for name, x in named.items())]
        return f"{code.helper('cell_order')}({', '.join(given)})"


@cache
def order(over: Cells, space: tuple[Axis, ...]) -> Order:
    """The order of a partition: one for all who name it."""
    return Order(over, space)


@cache
def _is_natural(order: Order) -> bool:
    """Whether tiles, places and steps along each axis follow one another as in the map."""
    made, over = [], order.over
    for at, axis in enumerate(order.space):
        outer = divide(axis.size, over.extent(axis) * over.step(axis)), over.step(axis)
        made += [(at, kind) for kind, size in zip((0, 2), outer, strict=True) if size != 1]
    made += [(at, 1) for at, axis in enumerate(order.inner) if axis.size != 1]
    return not order.shifts and made == sorted(made)


@cache
def _places(order: Order) -> list[int]:
    return [order.at(at) for at in sorted(every(*(range(whole(axis.size)) for axis in order.space)), key=order.rank)]


@cache
def _index(before: Order | None, after: Order | None) -> list[int]:
    if before is None:
        return after.places if after else []
    back = {place: i for i, place in enumerate(before.places)}
    return [back[place] for place in (after.places if after else range(len(back)))]


def _tuple(code: Emission, sizes: Sequence[Any]) -> str:
    return f"({', '.join(map(code.size, sizes))}{',' if len(sizes) == 1 else ''})"


class CellOrder(Primitive):
    """The places of x in another order: those of a map in the order of its cells, of cells in the order of the map, or
    of one partition in that of another.
    """

    name: ClassVar[str] = "cell_order"
    prefers: ClassVar[str | None] = "last"
    saves: ClassVar[tuple[str, ...] | None] = ()

    before: InstanceOf[Order] | None = None
    after: InstanceOf[Order] | None = None

    def __str__(self) -> str:
        return f"cell_order({self.before or 'map'} -> {self.after or 'map'})"

    @property
    def map(self) -> Order:
        found = self.before or self.after
        assert found is not None
        return found

    @property
    def old(self) -> tuple[Axis, ...]:
        return self.before.axes if self.before else self.map.space

    @property
    def new(self) -> tuple[Axis, ...]:
        return self.after.axes if self.after else self.map.space

    @property
    def index(self) -> list[int]:
        """Which place of x comes at each place of y."""
        return _index(self.before, self.after)

    @property
    def is_view(self) -> bool:
        """Whether the places stay where they are."""
        return self.before == self.after or all(
            order is None or order.is_natural for order in (self.before, self.after)
        )

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        return x.swapped([axis.name for axis in self.old], self.new)

    def emit(self, code: Emission, x: Term) -> Term:
        old, new = ([axis.name for axis in axes] for axes in (self.old, self.new))
        if self.is_view and self.old == self.new:
            return x
        batch = [name for name in code.inputs[0].of_role("batch") if name in x.order]
        others = [name for name in x.order if name not in (*batch, *old)]
        x, at = code.permute(x, (*batch, *old, *others)), len(batch)
        text = f"{x.safe}.flatten({at}, {at + len(old) - 1})" if len(old) > 1 else x.safe
        text += "" if self.is_view else f".index_select({at}, {code.buffer('order', self._index(code))})"
        text += f".unflatten({at}, {_tuple(code, [axis.size for axis in self.new])})" if len(new) > 1 else ""
        return Term(text, (*batch, *new, *others))

    def _index(self, code: Emission) -> str:
        if self.before is None:
            return self.map.code(code)
        return f"{self.before.code(code)}.argsort(){f'[{self.after.code(code)}]' if self.after else ''}"

    def reference(self, types: Types, x: Named) -> Named:
        old, new = ([axis.name for axis in axes] for axes in (self.old, self.new))
        others = [name for name in x.names if name not in old]
        flat = x.to((*others, *old)).flatten(len(others))[..., self.index]
        return Named(flat.unflatten(-1, [whole(axis.size) for axis in self.new]), (*others, *new))

    def memory(self, x: TensorType) -> Memory:
        batch = x.of_role("batch")
        old, new = ([axis.name for axis in axes] for axes in (self.old, self.new))
        if self.is_view and self.old == self.new:
            return Memory(view=True)
        order = (*batch, *new, *(name for name in x.names if name not in (*batch, *old)))
        if self.is_view:
            return Memory(view=True, order=order)
        return Memory({}, constant=8 * product(axis.size for axis in self.map.space), order=order)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axis.name for axis in self.old)


class CellBorder(Primitive):
    """border[cell, i, j] = 0 where places i and j of a shifted cell are neighbours on the map, -inf where the shift
    wrapped one of them.
    """

    name: ClassVar[str] = "cell_border"
    inputs: ClassVar[tuple[str, ...]] = ()

    order: InstanceOf[Order]

    def __str__(self) -> str:
        return f"cell_border({self.order})"

    def infer(self, facts: Facts) -> TensorType:
        cells, *inner = self.order.axes
        count = product(axis.size for axis in inner)
        return TensorType((cells, Axis("query", count, "free"), Axis("key", count, "free")))

    def emit(self, code: Emission) -> Term:
        sizes = [[axis.size for axis in axes] for axes in (self.order.space, self.order.inner)]
        moved = [self.order.over.moved(axis) for axis in self.order.space]
        given = ", ".join(_tuple(code, x) for x in (*sizes, moved))
        return Term(code.buffer("border", f"{code.helper('shift_bias')}({given}).squeeze(1)"), (CELL, "query", "key"))

    def reference(self, types: Types) -> Named:
        import torch

        (made,) = types.outputs
        places = torch.tensor(self.order.places).reshape([whole(axis.size) for axis in made][:2])
        seen = torch.tensor(True)
        for axis, at in zip(self.order.space, self._along(places), strict=True):
            seen = seen & self.order.over.sees(self.order.space, axis, at[:, :, None], at[:, None])
        return Named(torch.zeros(()).where(seen, float("-inf")), (CELL, "query", "key"))

    def _along(self, places: Any) -> list[Any]:
        """Positions along each axis of places of the flattened map."""
        import torch

        return list(torch.unravel_index(places, [whole(axis.size) for axis in self.order.space]))

    def memory(self) -> Memory:
        return Memory(constant=self.infer(Facts()).bytes, weight=True)
