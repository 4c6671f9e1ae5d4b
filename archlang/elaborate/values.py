"""Compile-time values. Numbers are `int`, `Fraction`, `float` or symbolic `Poly`; lists are tuples; tensors are
`ir.Value`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from archlang import syntax
from archlang.diagnostics import error
from archlang.elaborate.limits import MAX_NESTED, check_length
from archlang.facts import Condition
from archlang.ir import Value
from archlang.primitive import AxisMap, Construct, Param, Primitive
from archlang.sizes import Poly
from archlang.source import Span
from archlang.syntax import Hyper

if TYPE_CHECKING:
    from archlang.elaborate.files import Module
    from archlang.elaborate.frame import Frame

Number: TypeAlias = int | Fraction | float | Poly


@dataclass(frozen=True, slots=True)
class AxisName:
    """The value of a hyper-parameter of kind `axis`."""

    name: str

    def __str__(self) -> str:
        return self.name


class Unknown:
    """What a name is bound to when its definition failed: using it is not another error."""


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Conditions:
    """A truth value that depends on free sizes: all of the conditions must hold."""

    items: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.items))


@dataclass(frozen=True, eq=False, slots=True)
class BlockDef:
    """A block of a file, or a foreign operation."""

    syntax: syntax.Block | syntax.Foreign
    module: "Module"

    @property
    def name(self) -> str:
        return self.syntax.name

    @property
    def hypers(self) -> "tuple[Hyper, ...]":
        return self.syntax.hypers if isinstance(self.syntax, syntax.Block) else ()


@dataclass(frozen=True, slots=True)
class Given:
    """An argument: its value, where it stands, and the numbers that made it where it is not whole."""

    value: Any
    span: Span
    note: str = ""


Target: TypeAlias = type[Primitive] | BlockDef


@dataclass(eq=False, slots=True)
class Weights:
    """The weights of a layer that `=` gave a name: shared wherever the name is used. They live in `home` under the
    label `instance`.
    """

    name: str
    home: "Frame"
    instance: str | None = None  # once applied
    params: Mapping[str, Param] = field(default_factory=dict)  # of a primitive, once applied
    held: str = ""  # what its module holds besides


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """A call that lacks its inputs. `stages` is set instead of `target` for a composition `f -> g`. Without `weights`
    it makes its own when applied.
    """

    target: Target | None
    span: Span
    hypers: dict[str, Given] = field(default_factory=dict)
    inputs: dict[str, Given] = field(default_factory=dict)
    stages: "tuple[Layer, ...]" = ()
    label: str | None = None
    weights: Weights | None = None
    loop: Span | None = None  # the loop without a label in which it was made
    size: int = field(default=1, init=False)  # the layers that it is made of

    def __post_init__(self) -> None:
        parts = [given.value for given in self.hypers.values()] if self.hypers else []
        object.__setattr__(self, "size", 1 + sum(map(weigh, parts)) + sum(stage.size for stage in self.stages))

    @property
    def name(self) -> str:
        """The label of its weights where nobody gave one."""
        if self.weights is not None:
            return self.weights.name
        return self.target.name if self.target is not None else self.stages[0].name

    def fresh(self) -> "Layer":
        """A recipe evaluated again: new weights, except in what is shared by name."""
        if self.weights is not None:
            return self
        hypers = {name: replace(given, value=fresh(given.value)) for name, given in self.hypers.items()}
        return replace(self, hypers=hypers, stages=tuple(stage.fresh() for stage in self.stages))

    def __str__(self) -> str:
        return self.span.text or self.name


def fresh(value: Any) -> Any:
    """A value whose recipes make new weights."""
    if isinstance(value, Layer):
        return value.fresh()
    return tuple(fresh(item) for item in value) if isinstance(value, tuple) else value


def leaves(value: Any) -> Iterator[Any]:
    """The values in a list of lists."""
    if isinstance(value, tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def weigh(value: Any) -> int:
    """The number of values in a list of lists, and of layers in a layer."""
    if isinstance(value, tuple):
        return sum(map(weigh, value)) + 1
    return value.size if isinstance(value, Layer) else 1


def bounded(items: tuple[Any, ...], span: Span) -> tuple[Any, ...]:
    """The list, unless it holds too much or nests too deeply."""
    check_length(weigh(items), span)
    if _depth(items) > MAX_NESTED:
        raise error("A802", f"lists nest deeper than {MAX_NESTED} levels", span)
    return items


def _depth(value: Any) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, tuple) else 0


def is_number(value: Any) -> bool:
    return isinstance(value, int | Fraction | float | Poly) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    """The word for what a value is: a name may be bound again only to its own kind."""
    if is_number(value):
        return "number"
    words: list[tuple[Any, str]] = [
        (bool, "truth value"),
        (Conditions, "truth value"),
        (str, "string"),
        (type(None), "none"),
        (tuple, "list"),
        (Value, "tensor"),
        (Layer, "layer"),
        (AxisName, "axis"),
        (AxisMap, "axis map"),
        (BlockDef, "layer"),
    ]
    for type_, word in words:
        if isinstance(value, type_):
            return word
    return value.kind if isinstance(value, Construct) else "value"


def show(value: Any) -> str:
    """A value in an error message, in the words of the language."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:60] + "..."}"'
    if isinstance(value, Value):
        return str(value.type)
    if isinstance(value, Layer):
        return f"`{value}`"
    if isinstance(value, Fraction) and 10**6 % value.denominator == 0:
        return str(float(value))
    if isinstance(value, tuple):
        shown = ", ".join(show(item) for item in value[:8])
        return f"[{shown}{', ...' if len(value) > 8 else ''}]"
    return str(value)


def key(value: Any) -> Any:
    """A hashable stand-in that is equal for equal values; raises TypeError for what holds tensors or shared layers of
    an outer graph.
    """
    if isinstance(value, Layer):
        if value.weights is not None or value.inputs:
            raise TypeError("not a constant")
        hypers = tuple((name, key(given.value)) for name, given in sorted(value.hypers.items()))
        return ("layer", value.target, hypers, tuple(key(stage) for stage in value.stages), value.label)
    if isinstance(value, tuple):
        return ("list", *map(key, value))
    if isinstance(value, Value | Unknown):
        raise TypeError("not a constant")
    return (type(value), value)
