"""Where the operands of a refused operation come from, for its diagnostic."""

from collections.abc import Callable, Mapping, Sequence

from archlang.diagnostics import ArchError, Label, error
from archlang.ir import Node, Value
from archlang.primitive import OpError
from archlang.source import BUILTIN, Span


def explain(
    failure: OpError, operands: Sequence[tuple[str, Value]], span: Span, places: Mapping[str, Span]
) -> ArchError:
    """The diagnostic of a refused operation: the place to blame first, then where what it says was made."""
    about = failure.about or ""
    what = {"A210": _role, "A214": _dtype}.get(failure.code) or (
        _size if any(about in value.type for _, value in operands) else _type
    )
    whole = what not in (_role, _size)  # about all of a value, not one of its axes
    named = [(_called(argument, value, places), value) for argument, value in operands if whole or about in value.type]
    place = places.get("on" if failure.code == "A205" and "on" in places else about) or places.get("", span)
    labels = [Label(place, "" if whole else _compared(named, about, what))]
    for name, value in named:
        made = value.graph.producer(value) if whole else _maker(value, about)
        if made.span != BUILTIN and all(label.span != made.span for label in labels):
            labels.append(Label(made.span, f"{f'`{name}` is ' if whole else ''}{what(value, about)} here"))
    return error(failure.code, str(failure), *labels, help=failure.help)


def _size(value: Value, axis: str) -> str:
    return f"{axis} = {value.type.size(axis)}"


def _role(value: Value, axis: str) -> str:
    return f"{axis}: {value.type[axis].role}"


def _type(value: Value, axis: str) -> str:
    return str(value.type)


def _dtype(value: Value, axis: str) -> str:
    return value.type.dtype


def _compared(named: Sequence[tuple[str, Value]], axis: str, what: Callable[[Value, str], str]) -> str:
    """What two operands that do not agree have: `x` has c = 64, `y` has c = 96."""
    said = {what(value, axis): f"`{name}` has {what(value, axis)}" for name, value in reversed(named)}
    return ", ".join(reversed(said.values())) if len(said) > 1 else ""


def _called(argument: str, value: Value, places: Mapping[str, Span]) -> str:
    """An operand in the user's words: its name, or its text where that is short."""
    text = places[argument].text if argument in places else ""
    if text.isidentifier() or (argument in ("a", "b") and 0 < len(text) <= 40 and "\n" not in text):
        return text
    return value.graph.name_of(value) or argument.partition(".")[0]


def _maker(value: Value, axis: str) -> Node:
    """The operation that gave an axis its size and role: what came after it only passed them on."""
    node = value.graph.producer(value)
    while True:
        passed = [v for _, v in value.graph.operands(node) if axis in v.type and v.type[axis] == value.type[axis]]
        if not passed:
            return node
        node = value.graph.producer(passed[0])
