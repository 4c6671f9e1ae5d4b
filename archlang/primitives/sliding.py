"""Windows that slide over axes: the geometry and layout that convolutions, pools, unfolding and resampling share."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    AxisMap,
    Emission,
    OpError,
    Primitive,
    Term,
    _per_axis,
    axes_of,
    describe,
    need_axes,
)
from archlang.shapes import ROLES, Axis, TensorType, is_float
from archlang.sizes import Poly, Size, ceil, divide, floor, maximum

PADDINGS = ("same", "tf_same", "valid", "causal")


def _padding(value: Any) -> Any:
    if isinstance(value, str) and value not in PADDINGS:
        raise ValueError(f"must be a number or one of {', '.join(map(describe, PADDINGS))}, and is {describe(value)}")
    return value if isinstance(value, str) else _per_axis(value)


Padding: TypeAlias = Annotated[
    Any, BeforeValidator(_padding)
]  # one of PADDINGS, a number for every axis, or an AxisMap of numbers


# ---- which axes, and one value for each
def present(on: Iterable[str], x: TensorType, op: Primitive) -> tuple[str, ...]:
    """The axes that `on` means, at least one, in the order of the type: that of the input that the user declared."""
    need_axes(x, [word for word in on if word not in ROLES])
    names = axes_of(on, x)
    if not names:
        raise OpError(
            "A205",
            f"`{op.name}` needs an axis of role {' or '.join(on)}, and {x} has none",
            "x",
            help="`on = [...]` names its axes",
        )
    return tuple(names)


def slid(on: Iterable[str], x: TensorType, op: Primitive) -> tuple[str, ...]:
    """The one to three axes that `op` slides over."""
    names = present(on, x, op)
    if len(names) > 3:
        raise OpError(
            "A206", f"`{op.name}` slides over at most 3 axes, and here over {len(names)}: {', '.join(names)}", "on"
        )
    return names


def per_axis(value: Any, names: Sequence[str], field: str, least: Size | None = None) -> tuple[Any, ...]:
    """One value for each axis; refuses a map of other axes, and numbers that are symbolic or below `least`."""
    if isinstance(value, AxisMap):
        given = [name for name, _ in value.items]
        if set(given) != set(names):
            raise OpError(
                "A206", f"`{field}` is given for {', '.join(given)}, and the axes are {', '.join(names)}", field
            )
        values = tuple(value[name] for name in names)
    else:
        values = (value,) * len(names)
    for item in values if least is not None else ():
        if isinstance(item, Poly):
            raise OpError("A309", f"`{field}` must be known when the network is compiled, and is {item}", field)
        if item < least:
            raise OpError("A319", f"`{field}` must be at least {least}, and is {item}", field)
    return values


def need_float(x: TensorType, op: Primitive) -> None:
    """Refuse numbers that are not real floating-point."""
    if not is_float(x.dtype):
        raise OpError(
            "A214", f"`{op.name}` works on floating-point numbers, and x is {x}", "x", help="`cast` makes them float"
        )


# ---- geometry
@dataclass(frozen=True, slots=True)
class Window:
    """Windows along one axis: number o holds the positions o * stride + k * dilation - left for k < kernel.

    `left` and `right` are the positions added: numbers, or sizes where the padding depends on a symbolic axis.
    """

    axis: Axis
    kernel: int
    stride: int
    dilation: int
    left: Any
    right: Any

    @property
    def name(self) -> str:
        return self.axis.name

    @property
    def reach(self) -> int:
        """The distance from the first to the last position."""
        return self.dilation * (self.kernel - 1)

    @property
    def ahead(self) -> bool:
        """Whether windows see positions behind their own stride, or there are more than strides."""
        return isinstance(self.left, Poly) or self.right != 0 or self.reach - self.left >= self.stride

    @property
    def moves(self) -> bool:
        """Whether an output position is more than the input at that position."""
        return (self.kernel, self.stride, self.left, self.right) != (1, 1, 0, 0)

    @property
    def count(self) -> Size:
        """How many windows there are; on a time axis, the stride divides its size."""
        spare = self.left + self.right - self.reach - 1
        if self.axis.role == "time":
            return divide(self.axis.size, self.stride) + floor(divide(spare, self.stride)) + 1
        return floor(divide(self.axis.size + spare, self.stride)) + 1


def padding_of(word: Any, axis: Axis, reach: int, stride: int) -> tuple[Size, Size]:
    """The positions that a padding adds before and behind an axis; what the words mean is said at `Conv`.

    "same" is how nets in PyTorch pad: a kernel of 3 by 1, at stride 2 too, 7 at stride 4 by 2, patches not at all.
    """
    total = max(reach - stride + 1, 0)
    if word == "causal" or (word == "same" and axis.role == "time"):
        return total, 0
    if word == "same":
        half = (total + 1) // 2
        return (total - half, half) if stride == 1 else (half, half)
    if word == "tf_same":
        fill = maximum((ceil(divide(axis.size, stride)) - 1) * stride + reach + 1 - axis.size, 0)
        left = floor(divide(fill, 2))
        return left, fill - left
    return (0, 0) if word == "valid" else (word, word)


def steps(op: Any, names: Sequence[str]) -> Iterator[tuple[Any, int, int, int]]:
    """For each axis the padding as it was given, kernel, stride and dilation, from the fields of these names."""
    stride = op.kernel if op.stride is None else op.stride
    fields = ((op.kernel, "kernel"), (stride, "stride"), (getattr(op, "dilation", 1), "dilation"))
    numbers = [per_axis(value, names, field, 1) for value, field in fields]
    words = (op.padding,) * len(names) if isinstance(op.padding, str) else per_axis(op.padding, names, "padding", 0)
    return zip(words, *numbers, strict=True)


def windows(op: Any, x: TensorType) -> tuple[Window, ...]:
    """The windows of an operation with the fields kernel, stride, padding and on, maybe dilation."""
    names = slid(op.on, x, op)
    return tuple(
        Window(x[name], k, s, d, *padding_of(word, x[name], d * (k - 1), s))
        for name, (word, k, s, d) in zip(names, steps(op, names), strict=True)
    )


def slide(op: Primitive, facts: Facts, found: Iterable[Window]) -> dict[str, Size]:
    """The size that each axis gets; refuses windows that do not fit, look ahead along time, or break its rate."""
    for window in found:
        axis = window.axis
        if axis.role == "time" and window.ahead:
            advice = f"leave `padding` out: on time, `{op.name}` pads on the left"
            raise OpError(
                "A208", f"`{op.name}` would look ahead along the time axis `{axis.name}`", "padding", help=advice
            )
        if axis.role == "time" and not facts.divides(window.stride, axis.size):
            raise OpError(
                "A204",
                f"the stride {window.stride} does not divide the time axis `{axis.name}` of size {axis.size}",
                "stride",
            )
        span = window.reach + 1
        if not facts.require(
            Condition("<=", span, axis.size + window.left + window.right),
            f"a window of `{op.name}` fits in `{axis.name}`",
        ):
            raise OpError(
                "A204", f"a window of {span} does not fit in the axis `{axis.name}` of size {axis.size}", "kernel"
            )
    return {window.name: window.count for window in found}


def mixed(found: Iterable[Window]) -> frozenset[str]:
    return frozenset(window.name for window in found if window.moves)


def ahead(found: Iterable[Window]) -> frozenset[str]:
    return frozenset(window.name for window in found if window.ahead)


def adjoint_ahead(window: Window) -> bool:
    """Whether the adjoint, which drops `left` and `right`, sees behind its own stride, or leaves more than strides."""
    return (window.left, window.right) != (0, window.reach + 1 - window.stride)


# ---- memory
def map_order(x: TensorType, over: Sequence[str], channel: str = "c") -> tuple[str, ...]:
    """How what slides over axes lies in memory: channels last where x has them so, and the map is no line."""
    others = [name for name in x.names if name not in (*over, channel)]
    if channel not in x:
        return (*others, *over)
    last = (*over, channel)
    if len(over) > 1 and x.names[len(others) :] == last:
        return (*others, *last)
    return (*others, channel, *over)


def is_stacked(x: TensorType, order: Sequence[str], over: Sequence[str], most: int = 1) -> bool:
    """Whether the axes in front, more than `most` of which are flattened, lie side by side."""
    others = len(order) - len(over) - (most == 1)
    return others <= most or x.names[:others] == tuple(order[:others])


def slid_memory(x: TensorType, found: Sequence[Window], within: bool, most: int = 1, more: Size = 0) -> Memory:
    """What a kernel that slides over x reads again: x, or the copy that is padded or stacked from axes that lie apart;
    and `more` bytes.
    """
    over = [window.name for window in found]
    order = map_order(x, over)
    filled = x.resized(**{window.name: window.axis.size + window.left + window.right for window in found})
    if within and is_stacked(x, order, over, most):
        return Memory({"x": ""}, kept=more, order=order)
    copy = x if within else filled
    return Memory(kept=copy.bytes + more, back=copy.bytes, order=order)


def in_blocks(memory: Memory, x: TensorType, made: TensorType, blocked: bool = True, again: int = 0) -> Memory:
    """With what comes and goes where a kernel takes channels first in blocks of 8, and gives them so."""
    if memory.order is None or memory.order[-1] == "c":
        return memory
    done, given = _blocked(made), _blocked(x) if blocked else 0
    forward = maximum(given + done - made.bytes, done * (1 + again))
    return replace(memory, work=memory.kept + forward, back=memory.back + given + done)


def _blocked(x: TensorType) -> Size:
    return x.resized(c=ceil(divide(x.size("c"), 8)) * 8).bytes


# ---- emission
def stacked(code: Emission, x: Term, last: Sequence[str], most: int = 1) -> tuple[Term, tuple[Axis, ...]]:
    """`x` with the axes `last` last, its others as 1 to `most` axes in front; and those others, for `unstacked`."""
    others = tuple(name for name in x.order if name not in last)
    x = code.permute(x, (*others, *last))
    if not others:
        return Term(f"{x.safe}.unsqueeze(0)", ("stack", *last)), ()
    if len(others) <= most:
        return x, tuple(code.inputs[0][name] for name in others)
    gone = len(others) - most
    stack = Term(f"{x.safe}.flatten(0, {gone})", ("stack", *others[gone + 1 :], *last))
    return stack, tuple(code.inputs[0][name] for name in others)


def unstacked(code: Emission, y: Term, others: Sequence[Axis]) -> Term:
    """The axes that `stacked` flattened or made."""
    if y.order[0] != "stack":
        return y
    kept = [axis.name for axis in others if axis.name in y.order[1:]]
    return code.split(y, "stack", [axis for axis in others if axis.name not in kept])


def spell(code: Emission, values: Sequence[Any]) -> str:
    """One constant where all are equal, else a tuple."""
    return code.const(values[0] if len(set(values)) == 1 else tuple(values))


def spell_sizes(code: Emission, sizes: Sequence[Size]) -> str:
    """`spell` for sizes, which may be symbolic."""
    return code.size(sizes[0]) if len(set(sizes)) == 1 else f"({', '.join(code.size(size) for size in sizes)})"


def keywords(code: Emission, **values: Sequence[Any]) -> dict[str, str]:
    """Arguments for PyTorch, those left out that are 1 (paddings: 0) on all axes."""
    return {name: spell(code, value) for name, value in values.items() if set(value) != {0 if "padding" in name else 1}}


def even(found: Iterable[Window]) -> bool:
    """Whether all padding is the same number on both sides, as PyTorch's modules take it."""
    return all(isinstance(window.left, int) and window.left == window.right for window in found)


def padded(code: Emission, x: Term, found: Sequence[Window], fill: str = "") -> Term:
    """`F.pad` before and behind the axes of the windows, which are last in `x`."""
    amounts = [side for window in reversed(found) for side in (window.left, window.right)]
    if all(amount == 0 for amount in amounts):
        return x
    if any(isinstance(amount, Poly) for amount in amounts):  # only tf_same asks for the size
        columns = zip(*((window.kernel, window.stride, window.dilation) for window in found), strict=True)
        call = ", ".join([x.code, *map(code.const, columns)])
        return Term(f"{code.helper('pad_same')}({call}{fill})", x.order)
    return Term(f"F.pad({x.code}, ({', '.join(code.size(amount) for amount in amounts)}){fill})", x.order)


# ---- one call after another
def tail_of(code: Emission, x: Term, axis: str, reach: int) -> tuple[Term, str]:
    """x with its samples first, and what holds the last positions before it."""
    type_ = code.inputs[0]
    batch = type_.of_role("batch")
    x = x if x.order[0] in batch else code.permute(x, (*batch, *(name for name in x.order if name not in batch)))
    return x, code.carried("tail", "PastTail", None, *(reach if n == axis else type_.size(n) for n in x.order[1:]))


def behind_tail(code: Emission, x: Term, axis: str, reach: int) -> Term:
    """x behind the last positions before it."""
    x, tail = tail_of(code, x, axis, reach)
    return Term(f"{tail}({x.code}, {x.at(axis)})", x.order)


# ---- meaning
def taps(
    x: Named, found: Sequence[Window], mode: str = "zeros", fill: float = 0.0
) -> Iterator[tuple[tuple[int, ...], Named]]:
    """For each position in the kernel (the last axis the fastest), what every window holds there.

    Outside of `x` that is `fill` in the mode "zeros".
    """
    for tap in product(*(range(window.kernel) for window in found)):
        seen = x
        for window, k in zip(found, tap, strict=True):
            seen = _under(seen, window, k, mode, fill)
        yield tap, seen


def _under(x: Named, window: Window, k: int, mode: str, fill: float) -> Named:
    import torch

    size = x.size(window.name)
    count: Any = window.count
    places = [int(o * window.stride + k * window.dilation - window.left) for o in range(count)]
    source = [_source(mode, i, size) for i in places]
    held = x.select(window.name, source)
    outside = torch.tensor(
        [o for o, i in enumerate(places) if mode == "zeros" and not 0 <= i < size], dtype=torch.int64
    )
    return held.map(lambda tensor: tensor.index_fill(held.at(window.name), outside, fill))


def _source(mode: str, i: int, size: int) -> int:
    """The position inside that stands for position i."""
    if mode == "circular":
        return i % size
    return size - 1 - abs(size - 1 - abs(i)) if mode == "reflect" else min(max(i, 0), size - 1)


def spread(x: Named, window: Window, k: int, size: Any) -> Named:
    """The adjoint of one tap: each window puts its value back to its position k of an axis of this size."""
    import torch

    places = torch.zeros(size, x.size(window.name), dtype=x.tensor.dtype)
    for o in range(x.size(window.name)):
        if 0 <= (place := int(o * window.stride + k * window.dilation - window.left)) < size:
            places[place, o] = 1
    moved = Named(places, ("spread", window.name)) * x
    return moved.sum((window.name,)).rename(spread=window.name)
