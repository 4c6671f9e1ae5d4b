"""Maps cut into the cells of a domain and put together again: what any layer inside a cell needs."""

from collections.abc import Sequence
from typing import ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import AxisMap, Emission, OpError, Primitive, Term, Types, register
from archlang.primitives.attention_code import whole
from archlang.primitives.domain import Cells, Domain, Full
from archlang.primitives.near import Chunks
from archlang.primitives.rearrange import Rearrange
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, divide

Cut = tuple[Axis, Size, Size, Size]  # an axis, its cells, the positions of a cell and how far apart they are


def cuts(facts: Facts, over: Domain, x: TensorType) -> list[Cut]:
    """How each axis of a map is cut."""
    axes = tuple(x[name] for name in x.of_role("space"))
    if not axes:
        raise OpError("A205", f"`{over}` has no space axis to cut in {x}", "x")
    over.check(facts, axes)
    found: list[Cut] = []
    for axis in axes:
        step: Size = 1
        if isinstance(over, Chunks):
            extent = over.reach(axis)
            if not facts.divides(extent, axis.size):
                title = f"`{over}` needs `{axis.name}` to be a multiple of {extent}, and it is {axis.size}"
                raise OpError("A204", title, "over")
        elif isinstance(over, Full):
            extent = axis.size
        elif isinstance(over, Cells) and over.moved(axis) == 0:
            extent, step = over.extent(axis), over.step(axis)
        else:
            help = "`windows(7)`, `grid(7)`, `stripes(h = 7)`, `axial(h)` and `chunks(256)` do"
            raise OpError("A319", f"`{over}` does not cut a map into cells that a layer could run in", "over", help)
        if extent != axis.size:
            found.append((axis, divide(axis.size, extent * step), extent, step))
    return found


def outer(cut: Cut) -> list[tuple[str, Size]]:
    """The axes that count the cells along an axis."""
    axis, tiles, _, step = cut
    return [(f"{axis.name}_{word}", size) for word, size in (("cell", tiles), ("step", step)) if size != 1]


def batch_of(x: TensorType) -> str:
    return next(iter(x.of_role("batch")), "b")


def split(cut: Cut) -> str:
    """An axis, and what it is made of."""
    names = [name for name, _ in outer(cut)]
    before = [name for name in names if name.endswith("_cell")]
    return " ".join([*before, cut[0].name, *(name for name in names if name.endswith("_step"))])


def pattern(parts: Sequence[str], **sizes: Size) -> Rearrange:
    return Rearrange(pattern=", ".join(parts), sizes=AxisMap(tuple(sizes.items())))


@register
class Partition(Primitive):
    """A map cut into the cells of a domain, which join the batch: [b, h, w, ..] becomes [b (cells), h', w', ..] with
    the sizes of a cell. The cells of a sample stay together.
    """

    name: ClassVar[str] = "partition"

    over: Domain

    def moves(self, facts: Facts, x: TensorType) -> Rearrange | None:
        """The same in axes split and merged; nothing where there is one cell."""
        found, batch = cuts(facts, self.over, x), batch_of(x)
        names = [name for cut in found for name, _ in outer(cut)]
        merged = " ".join([batch, *names] if batch in x else names)
        sizes = {cut[0].name: cut[2] for cut in found} | {name: size for cut in found for name, size in outer(cut)[1:]}
        parts = [*(f"{cut[0].name} -> {split(cut)}" for cut in found), f"{merged} -> {batch}"]
        return pattern(parts, **sizes) if found else None

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        moves = self.moves(facts, x)
        return moves.infer(facts, x) if moves else x

    def emit(self, code: Emission, x: Term) -> Term:
        moves = self.moves(Facts(), code.inputs[0])
        return moves.emit(code, x) if moves else x

    def reference(self, types: Types, x: Named) -> Named:
        """Cell after cell, each put behind the last."""
        import torch

        (given,) = types.inputs
        found, batch = cuts(Facts(), self.over, given), batch_of(given)
        cells = [x if batch in x.names else Named(x.tensor[None], (batch, *x.names))]
        for axis, *sizes in found:
            tiles, extent, step = map(whole, sizes)
            starts = [tile * extent * step + at for tile in range(tiles) for at in range(step)]
            cells = [
                cell.select(axis.name, slice(i, i + extent * step - i % step, step)) for cell in cells for i in starts
            ]
        names = cells[0].names
        stacked = torch.stack([cell.tensor for cell in cells], cells[0].at(batch) + 1)
        return Named(stacked.flatten(cells[0].at(batch), cells[0].at(batch) + 1), names) if found else x

    def memory(self, x: TensorType) -> Memory:
        moves = self.moves(Facts(), x)
        return moves.memory(x) if moves else Memory(view=True)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset((*x.of_role("space"), batch_of(x)))


@register
class Unpartition(Primitive):
    """The reverse of `partition`: cells put together again into a map as `like` has it, of cells of any size."""

    name: ClassVar[str] = "unpartition"
    inputs: ClassVar[tuple[str, ...]] = ("x", "like")

    over: Domain

    def moves(self, facts: Facts, x: TensorType, like: TensorType) -> Rearrange | None:
        found, batch = cuts(facts, self.over, like), batch_of(like)
        for axis, *_ in found:
            if axis.name not in x:
                raise OpError("A205", f"there is no axis `{axis.name}` in {x}, of which cells are put together", "x")
        sizes = dict(pair for cut in found for pair in outer(cut))
        made = " ".join([batch, *sizes] if batch in like else sizes)
        parts = [f"{batch} -> {made}", *(f"{split(cut)} -> {cut[0].name}" for cut in found)]
        return pattern(parts, **sizes) if found else None

    def infer(self, facts: Facts, x: TensorType, like: TensorType) -> TensorType:
        moves = self.moves(facts, x, like)
        return moves.infer(facts, x) if moves else x

    def emit(self, code: Emission, x: Term, like: Term) -> Term:
        moves = self.moves(Facts(), *code.inputs)
        return moves.emit(code, x) if moves else x

    def reference(self, types: Types, x: Named, like: Named) -> Named:
        moves = self.moves(Facts(), *types.inputs)
        return moves.reference(Types((types.inputs[0],), types.outputs), x) if moves else x

    def memory(self, x: TensorType, like: TensorType) -> Memory:
        moves = self.moves(Facts(), x, like)
        return moves.memory(x) if moves else Memory(view=True)

    def mixes(self, x: TensorType, like: TensorType) -> frozenset[str]:
        return frozenset((*like.of_role("space"), batch_of(like)))
