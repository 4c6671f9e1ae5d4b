"""The syntax tree: one frozen dataclass per form of the language, no behaviour. Every node knows its span."""

from dataclasses import dataclass, field
from fractions import Fraction

from archlang.source import Span


@dataclass(frozen=True, slots=True, eq=False)
class Syntax:
    """Any piece of syntax. Compared by identity: a tree has each node once."""

    span: Span = field(repr=False)


# ---- expressions
@dataclass(frozen=True, slots=True, eq=False)
class Expr(Syntax):
    """Anything that has a value."""


@dataclass(frozen=True, slots=True, eq=False)
class Name(Expr):
    id: str


@dataclass(frozen=True, slots=True, eq=False)
class Number(Expr):
    value: Fraction
    text: str  # as written: `~` compares in the digits written
    whole: bool  # written without a point or exponent


@dataclass(frozen=True, slots=True, eq=False)
class String(Expr):
    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Constant(Expr):
    """`true`, `false` and `none`."""

    value: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Argument(Syntax):
    """An item of a call or list; `name` is set for `name = value`. A list of named items is an axis map."""

    name: str | None
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class List(Expr):
    items: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Comprehension(Expr):
    value: Expr
    targets: "Pattern"
    iterable: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Call(Expr):
    function: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Syntax):
    start: Expr | None
    stop: Expr | None
    step: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Subscript(Syntax):
    """`[value]` or `[axis = value]`."""

    axis: str | None
    value: Expr | Slice


@dataclass(frozen=True, slots=True, eq=False)
class Index(Expr):
    value: Expr
    subscripts: tuple[Subscript, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Attribute(Expr):
    value: Expr
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Unary(Expr):
    """`-` or `not`."""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Expr):
    """`or and in == != <= >= < > ~ | & + - * / // % **`."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, eq=False)
class IfElse(Expr):
    """`then if condition else otherwise`."""

    then: Expr
    condition: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Pipe(Expr):
    """`a -> f -> g`."""

    stages: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Named(Expr):
    """`layer as label`."""

    value: Expr
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Arm(Syntax):
    pattern: Expr  # `Name("_")` is the default
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Match(Expr):
    subject: Expr
    arms: tuple[Arm, ...]


# ---- types and signatures
@dataclass(frozen=True, slots=True, eq=False)
class Axis(Syntax):
    """`c`, `s: time`, `h = size`."""

    name: str
    role: str | None
    size: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Pack(Syntax):
    """`..` (name is empty) or `..fine`."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Type(Syntax):
    dtype: str | None
    axes: tuple[Axis | Pack, ...]
    optional: bool


@dataclass(frozen=True, slots=True, eq=False)
class Port(Syntax):
    """`name: type`."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True, eq=False)
class Kind(Syntax):
    """`int`, `layer?`, `list[float]`."""

    name: str
    item: "Kind | None"
    optional: bool


@dataclass(frozen=True, slots=True, eq=False)
class Hyper(Syntax):
    """`name: kind = default`."""

    name: str
    kind: Kind | None
    default: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Signature(Syntax):
    """`(inputs) -> results`; a result without a name has the name ""."""

    inputs: tuple[Port, ...]
    results: tuple[Port, ...] | None


# ---- statements
@dataclass(frozen=True, slots=True, eq=False)
class Statement(Syntax):
    """Anything that stands on a line of a body."""


@dataclass(frozen=True, slots=True, eq=False)
class Pattern(Syntax):
    """The targets of a loop: names, or nested patterns."""

    items: "tuple[Name | Pattern, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class Label(Syntax):
    """`as name` or `as name[index]` after a loop."""

    name: str
    index: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Bind(Statement):
    targets: tuple[Name, ...]
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat(Statement):
    count: Expr
    label: Label | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, eq=False)
class For(Statement):
    targets: Pattern
    iterable: Expr
    label: Label | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, eq=False)
class If(Statement):
    condition: Expr
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Return(Statement):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Require(Statement):
    condition: Expr
    message: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Declare(Statement):
    """`param` and `buffer`."""

    word: str
    port: Port
    value: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Loss(Statement):
    name: str
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Yield(Statement):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Carry(Syntax):
    port: Port
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Scan(Expr):
    order: Expr
    carries: tuple[Carry, ...]
    body: tuple[Statement, ...]


# ---- statements of a model
@dataclass(frozen=True, slots=True, eq=False)
class Input(Statement):
    port: Port


@dataclass(frozen=True, slots=True, eq=False)
class Output(Statement):
    name: str
    type: Type | None
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Exit(Statement):
    name: str
    type: Type | None
    value: Expr
    condition: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Setting(Syntax):
    name: str
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Variant(Statement):
    name: str
    base: str | None
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Fact(Syntax):
    """`condition [for variant] [at settings]`."""

    condition: Expr
    variant: str | None
    settings: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Expect(Statement):
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Syntax):
    ours: Expr
    theirs: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint(Statement):
    name: str
    entries: tuple[Entry, ...]


# ---- items of a file
@dataclass(frozen=True, slots=True, eq=False)
class Use(Syntax):
    """`use std.conv: a, b` (path is "std.conv") or `use "./file.arch": a` (relative is true)."""

    path: str
    relative: bool
    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Foreign(Syntax):
    """`foreign NAME from LANGUAGE "module:function" (signature)`."""

    name: str
    language: str
    target: str
    signature: Signature


@dataclass(frozen=True, slots=True, eq=False)
class Block(Syntax):
    """A block; `body` of `= expression` is one `Return`."""

    name: str
    doc: str | None
    hypers: tuple[Hyper, ...]
    signature: Signature
    body: tuple[Statement, ...]
    name_span: Span = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Model(Syntax):
    name: str
    doc: str | None
    hypers: tuple[Hyper, ...]
    body: tuple[Statement, ...]
    name_span: Span = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class File(Syntax):
    doc: str | None
    items: tuple[Use | Foreign | Block | Model, ...]
