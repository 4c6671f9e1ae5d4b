"""The algebra of views: operations that only cut, join, move and name axes. Chains collapse, inverse pairs vanish."""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from archlang.facts import Facts
from archlang.ir import Node, Value
from archlang.passes.simplify import same
from archlang.primitive import AxisMap, axes_of
from archlang.primitives.broadcast import one_axis
from archlang.rewrite import Match, Result, Rule, rule
from archlang.shapes import TensorType
from archlang.sizes import Size, divide, product


# ---- names and groups of axes
@rule("rename(rename_1(x))", "exact", shared="rename_1")
def renamed_twice(m: Match) -> Result:
    """Names after names are names."""
    first, second = (dict(node.op.names.items) for node in (m.rename_1, m.rename))
    names = {name: first.get(name, name) for name in m.x.type.names}
    names = {old: second.get(new, new) for old, new in names.items()}
    changed = {old: new for old, new in names.items() if old != new}
    return same(m, m.call("rename", m.x, names=AxisMap(tuple(changed.items()))) if changed else m.x)


@rule("rearrange(rearrange_1(x))", "exact", shared="rearrange_1")
def rearranged_twice(m: Match) -> Result:
    """Axes split and merged again are what they were. Else two steps are one, where no merged axis is split again."""
    steps = [*_steps(m.rearrange_1.op, m.x.type), *_steps(m.rearrange.op, m.result(m.rearrange_1).type)]
    if _is_nothing(m.x.type, steps):
        return same(m, m.x)
    if m.graph.name_of(m.result(m.rearrange_1)) or not _is_one_step(steps):
        return None
    pattern = f"{m.rearrange_1.op.pattern}, {m.rearrange.op.pattern}"
    sizes = AxisMap((*m.rearrange_1.op.sizes.items, *m.rearrange.op.sizes.items))
    return same(m, m.call("rearrange", m.x, pattern=pattern, sizes=sizes))


def _is_one_step(steps: Sequence[Any]) -> bool:
    """Whether names tell all axes apart, and no axis that is merged is split."""
    made = [axis.name for step in steps for axis in step.new]
    merged = {axis.name for step in steps if len(step.old) > 1 for axis in step.new}
    split = {axis.name for step in steps if len(step.new) > 1 for axis in step.old}
    return len(set(made)) == len(made) and not merged & split


def _steps(op: Any, type_: TensorType) -> list[Any]:
    return list(op.steps(Facts(), type_))


def _is_nothing(type_: TensorType, steps: Sequence[Any]) -> bool:
    """Whether axes that are split and merged end as they began: each axis is a row of atoms, which splits cut."""
    fresh = count()
    begun = {axis.name: [(next(fresh), axis.size)] for axis in type_}
    at = {name: list(atoms) for name, atoms in begun.items()}
    for step in steps:
        atoms = [atom for axis in step.old for atom in at.pop(axis.name)]
        for axis in step.new:
            taken, atoms, cut = _take(atoms, axis.size, fresh)
            if taken is None:
                return False
            at[axis.name] = taken
            for row in (*begun.values(), *at.values()):
                row[:] = [part for atom in row for part in cut.get(atom, [atom])]
    return at == begun


def _take(
    atoms: list[Any], size: Size, fresh: "count[int]"
) -> tuple[list[Any] | None, list[Any], dict[Any, list[Any]]]:
    """The first atoms that make a size, those left, and how the last of them was cut for it."""
    taken: list[Any] = []
    while atoms:
        done = product(length for _, length in taken)
        if done == size:
            return taken, atoms, {}
        first, *rest = atoms
        if (more := divide(size, done)) != first[1] and _divides(more, first[1]):
            parts = [(next(fresh), more), (next(fresh), divide(first[1], more))]
            return [*taken, parts[0]], [parts[1], *rest], {first: parts}
        taken, atoms = [*taken, first], rest
    return (taken if product(length for _, length in taken) == size else None), [], {}


def _divides(part: Size, whole: Size) -> bool:
    return isinstance(part, int) and part > 1 and Facts().divides(part, whole)


@rule("expand(expand_1(x))", "exact", shared="expand_1")
def expanded_twice(m: Match) -> Result:
    """Repeated along some axes and then along others is repeated along all."""
    return m.call("expand", m.x, sizes=AxisMap((*m.expand_1.op.sizes.items, *m.expand.op.sizes.items)))


# ---- cutting
@rule("slice(x)", "exact")
def whole_slice(m: Match) -> Result:
    """x[n = 0:size] = x."""
    start, stop, step = m.slice.op.bounds(m.x.type)
    return m.x if (start, step) == (0, 1) and stop == m.x.type.size(m.slice.op.axis) else None


@rule("slice(slice_1(x))", "exact", shared="slice_1")
def slice_of_slice(m: Match) -> Result:
    """Every s-th position of every r-th is every (r s)-th."""
    if m.slice.op.axis != m.slice_1.op.axis:
        return None
    (start, stop, step), (low, high, stride) = m.slice_1.op.bounds(m.x.type), m.slice.op.bounds(m.types(m.slice)[0])
    end = start + (high - 1) * step + 1 if step != 1 else start + high
    if not all(isinstance(x, int) for x in (start, stop, low, high)) and (step, stride) != (1, 1):
        return None
    stride = step * stride if step * stride != 1 else None
    return m.call("slice", m.x, axis=m.slice.op.axis, start=start + low * step, stop=end, stride=stride)


@rule("select(slice(x))", "exact", shared="slice")
def select_of_slice(m: Match) -> Result:
    """x[n = a:][n = i] = x[n = a + i]."""
    if m.select.op.axis != m.slice.op.axis:
        return None
    start, _, step = m.slice.op.bounds(m.x.type)
    at = m.select.op.index
    at = at + m.types(m.select)[0].size(m.select.op.axis) if isinstance(at, int) and at < 0 else at
    return m.call("select", m.x, axis=m.select.op.axis, index=start + at * step)


@rule("split(concat(...))", "exact", shared="concat")
def split_of_concat(m: Match) -> Result:
    """The parts of tensors that were joined are these tensors, where the cuts are where they meet."""
    axis = one_axis(m.split.op.on, m.types(m.split)[0])
    joined = _joined(m, m.concat, axis)
    if joined is None:
        return None
    parts, at = [], 0
    for type_ in m.root.types:
        end, size = at, type_.size(axis)
        while end < len(joined) and size != 0:
            size, end = size - joined[end].type.size(axis), end + 1
        if size != 0 or end == at:
            return None
        parts.append(joined[at:end])
        at = end
    made = tuple(part[0] if len(part) == 1 else m.call("concat", *part, on=(axis,)) for part in parts)
    return made if all(set(a.type.axes) == set(b.axes) for a, b in zip(made, m.root.types, strict=True)) else None


@rule("slice(concat(...))", "exact", shared="concat")
def slice_of_concat(m: Match) -> Result:
    """A slice of tensors that were joined is one of them, or a slice of it."""
    axis, made = m.slice.op.axis, m.result(m.concat).type
    start, stop, step = m.slice.op.bounds(made)
    for value in _joined(m, m.concat, axis) or ():
        size = value.type.size(axis)
        if isinstance(start, int) and start < 0:
            return None
        inside = all(isinstance(x, int) for x in (start, stop, size)) and start < size
        if (start == 0 and stop == size) or (inside and stop <= size):
            bounds = {"start": start, "stop": stop, "stride": step if step != 1 else None}
            return same(m, m.call("slice", value, axis=axis, **bounds))
        start, stop = start - size, stop - size
    return None


def _joined(m: Match, node: Node, axis: str) -> list[Value] | None:
    """What a concatenation along an axis joins."""
    values = [value for _, value in m.graph.operands(node)]
    return values if one_axis(node.op.on, values[0].type) == axis else None  # type: ignore[attr-defined]


@rule("select(stack(...))", "exact", shared="stack")
def select_of_stack(m: Match) -> Result:
    """One of the tensors that were stacked is that tensor."""
    values = [value for _, value in m.graph.operands(m.stack)]
    if m.select.op.axis != m.stack.op.axis or not isinstance(m.select.op.index, int):
        return None
    return same(m, values[m.select.op.index])


# ---- joining
@rule("concat(...)", "exact")
def concat_of_split(m: Match) -> Result:
    """All parts of a tensor joined again in order are the tensor."""
    values = [value for _, value in m.graph.operands(m.concat)]
    node: Any = m.graph.producer(values[0])
    axis = one_axis(m.concat.op.on, values[0].type)
    if node.op.name == "slice":
        return _whole_again(m, axis, values)
    if node.op.name != "split" or [(v.node, v.output) for v in values] != [
        (node.id, i) for i in range(len(node.types))
    ]:
        return None
    x = m.graph.operands(node)[0][1]
    return same(m, x) if one_axis(node.op.on, x.type) == axis else None


def _whole_again(m: Match, axis: str, values: Iterable[Value]) -> Result:
    """The tensor whose slices, one behind the other, make all of it."""
    x, at = None, 0
    for node in map(m.graph.producer, values):
        op: Any = node.op
        if op.name != "slice" or op.axis != axis:
            return None
        given = m.graph.operands(node)[0][1]
        start, stop, step = op.bounds(given.type)
        if (x is not None and given != x) or step != 1 or start != at:
            return None
        x, at = given, stop
    return same(m, x) if x is not None and at == x.type.size(axis) else None


@rule("concat(...)", "exact")
def concat_of_concat(m: Match) -> Result:
    """Tensors joined, and joined with others, are joined at once."""
    values = [value for _, value in m.graph.operands(m.concat)]
    if len(values) == 1:
        return same(m, values[0])
    axis = one_axis(m.concat.op.on, values[0].type)
    flat = [inner for value in values for inner in _inner(m, value, axis)]
    return same(m, m.call("concat", *flat, on=(axis,))) if len(flat) > len(values) else None


def _inner(m: Match, value: Value, axis: str) -> list[Value]:
    """What a value that nothing else reads joins along an axis; else the value."""
    node = m.graph.producer(value)
    if node.op.name != "concat" or not m.alone(node):
        return [value]
    return _joined(m, node, axis) or [value]


# ---- moving
@rule("flip(flip_1(x))", "exact", shared="flip_1")
def flipped_twice(m: Match) -> Result:
    """An axis reversed twice is as it was."""
    on = [set(axes_of(node.op.on, m.x.type)) for node in (m.flip, m.flip_1)]
    left = tuple(name for name in m.x.type.names if name in on[0] ^ on[1])
    return m.call("flip", m.x, on=left) if left else m.x


@rule("roll(roll_1(x))", "exact", shared="roll_1")
def rolled_twice(m: Match) -> Result:
    """Shifts around the ends add up."""
    shifts: dict[str, Size] = {}
    for node in (m.roll_1, m.roll):
        for name, shift in node.op.shift.items:
            shifts[name] = shifts.get(name, 0) + shift
    left = {name: shift for name, shift in shifts.items() if not _is_round(shift, m.x.type.size(name))}
    return m.call("roll", m.x, shift=AxisMap(tuple(left.items()))) if left else m.x


def _is_round(shift: Size, size: Size) -> bool:
    """Whether a shift is none, or a whole number of times around."""
    return shift == 0 or (isinstance(shift, int) and isinstance(size, int) and shift % size == 0)


@rule("pad(pad_1(x))", "exact")
def padded_twice(m: Match) -> Result:
    """Zeros around zeros are zeros."""
    first, second = m.pad_1.op, m.pad.op
    plain = ("zeros", "constant")
    if first.mode not in plain or second.mode not in plain or first.value != second.value:
        return None
    amounts = dict(first.amounts.items)
    for name, (before, behind) in second.amounts.items:
        here = amounts.get(name, (0, 0))
        amounts[name] = (before + here[0], behind + here[1])
    return m.call("pad", m.x, amounts=AxisMap(tuple(amounts.items())), value=first.value)


@rule("pad(x)", "exact")
def padded_by_nothing(m: Match) -> Result:
    """x with no positions more is x."""
    return m.x if all(pair == (0, 0) for _, pair in m.pad.op.amounts.items) else None


RULES: tuple[Rule, ...] = (
    *(renamed_twice, rearranged_twice, expanded_twice),
    *(whole_slice, slice_of_slice, select_of_slice, split_of_concat, slice_of_concat, select_of_stack),
    *(concat_of_split, concat_of_concat, flipped_twice, rolled_twice, padded_twice, padded_by_nothing),
)
