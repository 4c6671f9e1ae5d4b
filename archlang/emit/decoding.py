"""Modules that go on where the last call stopped: what the network counts, and tells its blocks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archlang.emit.scope import is_atom
from archlang.emit.sizes import PAST
from archlang.facts import Condition
from archlang.ir import Value
from archlang.primitive import Term
from archlang.sizes import Poly, Size, divide, substitute, symbol, symbols

if TYPE_CHECKING:
    from archlang.emit.forward import Conditions, Forward
    from archlang.emit.writer import Body


def past(body: "Body", size: Size) -> str:
    """How many positions came before those at hand, of an axis of this size."""
    assert body.clock is not None
    before = substitute(size, {body.clock: symbol(PAST)})
    return body.size(before, PAST) if isinstance(before, Poly) else str(before)


def pace(body: "Body", size: Size) -> Size:
    """How many positions of the network make one of an axis of this size."""
    assert body.clock is not None
    return divide(symbol(body.clock), size)


def begin(body: "Forward") -> str:
    """The line that reads how many positions came before."""
    return f"{body.sizes.past} = self.begin({_samples(body)})"


def end(body: "Forward", start: int, values: Sequence[Value], terms: Sequence[Term]) -> list[str]:
    """The results under names, and behind them the line that counts the positions."""
    outputs = [name for name, _ in body.graph.outputs]
    codes = body.fill(start, values, [term.code for term in terms], outputs)
    for i, (name, code) in enumerate(zip(outputs, codes, strict=True)):
        if not is_atom(code):
            codes[i] = body.scope.pick(name)
            body.scope.hold([codes[i]])
            body.lines.append(f"{codes[i]} = {code}")
    assert body.clock is not None
    size = body.size(symbol(body.clock), body.clock)
    body.lines.append(f"self.end({_samples(body)}, {body.sizes.past} + {size})")
    body.sizes.extra.pop(PAST, None)
    return codes


def _samples(body: "Forward") -> str:
    """The size of the axis of samples."""
    timed = next(value.type for value in body.graph.inputs.values() if value.type.of_role("time"))
    size = timed.size(timed.of_role("batch")[0])
    return body.size(size, "b") if isinstance(size, Poly) else str(size)


def conditions(body: "Forward") -> "Conditions":
    """What free sizes must meet: bounds on the length of the sequence hold for all of it."""
    if body.clock is None:
        return body.conditions
    return [(_of_all(condition, body.clock), message) for condition, message in body.conditions]


def _of_all(condition: Condition, clock: str) -> Condition:
    if condition.op not in ("<", "<=") or clock in symbols(condition.right):
        return condition
    whole: Size = symbol(PAST) + symbol(clock)
    return replace(condition, left=substitute(condition.left, {clock: whole}))
