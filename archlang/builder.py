"""What each rule of the grammar makes: a node of syntax.py, or a few lines that arrange its parts."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from archlang import syntax
from archlang.diagnostics import error
from archlang.lexer import Token
from archlang.source import Span
from archlang.syntax import Argument, Axis, Expr, Name, Pack, Statement

MAX_DIGITS = 100
MAX_EXPONENT = 308
UNITS = {letter: 1000**power for power, letter in enumerate("kMGT", 1)} | {"B": 1000**3}
UNITS |= {f"{letter}i{byte}": 1024**power for power, letter in enumerate("KMGT", 1) for byte in ("", "B")}


def number(span: Span, text: str) -> syntax.Number:
    """The exact value: `2.5k` is 2500, `64MiB` is 64 * 1024 ** 2."""
    if len(text) <= MAX_DIGITS and text.isdecimal():
        return syntax.Number(span, Fraction(int(text)), text, whole=True)
    unit = next((unit for unit in sorted(UNITS, key=len, reverse=True) if text.endswith(unit)), "")
    digits, _, exponent = text.removesuffix(unit).replace("_", "").lower().partition("e")
    if len(digits) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > MAX_EXPONENT:
        limits = f"numbers have at most {MAX_DIGITS} digits and an exponent of at most {MAX_EXPONENT}"
        raise error("A007", "this number is out of range", span, help=limits)
    value = Fraction(digits) * Fraction(10) ** int(exponent or 0) * UNITS.get(unit, 1)
    return syntax.Number(span, value, text, whole="." not in digits and not exponent)


def string(token: Token) -> str:
    """The value of a string: the four escapes replaced."""
    if "\\" not in token.text:
        return token.text[1:-1]
    pieces = token.text[1:-1].split("\\\\")
    return "\\".join(piece.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"') for piece in pieces)


def docstring(token: Token) -> str:
    """The text of a docstring without its indentation and outer blank lines."""
    first, *more = token.text[3:-3].replace("\r\n", "\n").expandtabs().split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in more if line.strip()), default=0)
    return "\n".join([first.strip(), *(line[margin:].rstrip() for line in more)]).strip("\n")


VALUES: Mapping[str, Callable[[Token], str]] = {"STRING": string, "DOC": docstring}


def binary(span: Span, left: Expr, op: str, right: Expr) -> syntax.Binary:
    return syntax.Binary(span, op, left, right)


def index(span: Span, value: Expr, *subscripts: syntax.Subscript) -> syntax.Index:
    return syntax.Index(span, value, subscripts)


def tensor_type(span: Span, dtype: str | None, axes: tuple[Axis | Pack, ...], optional: str | None) -> syntax.Type:
    return syntax.Type(span, dtype, axes, optional is not None)


def kind(span: Span, name: str, item: syntax.Kind | None, optional: str | None) -> syntax.Kind:
    return syntax.Kind(span, name, item, optional is not None)


def if_(
    span: Span, condition: Expr, then: tuple[Statement, ...], otherwise: tuple[Statement, ...] | syntax.If | None
) -> syntax.If:
    if isinstance(otherwise, syntax.If):
        otherwise = (otherwise,)
    return syntax.If(span, condition, then, otherwise or ())


def fact(span: Span, condition: Expr, variant: str | None, point: Argument | syntax.List | None) -> syntax.Fact:
    settings = point.items if isinstance(point, syntax.List) else (point,) if point else ()
    return syntax.Fact(span, condition, variant, settings)


def block(
    span: Span,
    name: Name,
    hypers: tuple[syntax.Hyper, ...],
    signature: syntax.Signature,
    doc: str | None,
    *body: Statement,
) -> syntax.Block:
    return syntax.Block(span, name.id, doc, hypers, signature, body, name.span)


def equation(
    span: Span, name: Name, hypers: tuple[syntax.Hyper, ...], signature: syntax.Signature, value: Expr
) -> syntax.Block:
    return block(span, name, hypers, signature, None, syntax.Return(value.span, (value,)))


def model(
    span: Span, name: Name, hypers: tuple[syntax.Hyper, ...] | None, doc: str | None, *body: Statement
) -> syntax.Model:
    return syntax.Model(span, name.id, doc, hypers or (), body, name.span)


def use(span: Span, path: str | tuple[str, ...], *names: Name) -> syntax.Use:
    if isinstance(path, tuple):
        return syntax.Use(span, ".".join(path), False, names)
    return syntax.Use(span, path, True, names)


def parts(_: Span, *items: Any) -> tuple[Any, ...]:
    return items


PARTS = (
    "module",
    "hypers",
    "ports",
    "results",
    "axes",
    "body",
    "names",
    "values",
    "settings",
    "entries",
    "arguments",
    "carries",
)
NODES: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(PARTS, parts),
    "file": lambda span, doc, *items: syntax.File(span, doc, items),
    "use": use,
    "foreign": syntax.Foreign,
    "block": block,
    "equation": equation,
    "model": model,
    "hyper": syntax.Hyper,
    "kind": kind,
    "signature": syntax.Signature,
    "result": lambda span, shape: (syntax.Port(span, "", shape),),
    "port": syntax.Port,
    "type": tensor_type,
    "axis": syntax.Axis,
    "pack": lambda span, name: syntax.Pack(span, name or ""),
    "bind": syntax.Bind,
    "return": syntax.Return,
    "yield": syntax.Yield,
    "repeat": syntax.Repeat,
    "for": syntax.For,
    "label": syntax.Label,
    "pattern": lambda span, *items: syntax.Pattern(span, items),
    "if": if_,
    "require": syntax.Require,
    "declare": syntax.Declare,
    "loss": syntax.Loss,
    "input": syntax.Input,
    "output": syntax.Output,
    "exit": syntax.Exit,
    "variant": lambda span, name, base, settings: syntax.Variant(span, name, base, settings),
    "setting": syntax.Setting,
    "expect": lambda span, *facts: syntax.Expect(span, facts),
    "fact": fact,
    "checkpoint": syntax.Checkpoint,
    "entry": syntax.Entry,
    "pipe": lambda span, *stages: syntax.Pipe(span, stages),
    "named": syntax.Named,
    "if_else": syntax.IfElse,
    "binary": binary,
    "unary": syntax.Unary,
    "call": syntax.Call,
    "index": index,
    "attribute": syntax.Attribute,
    "positional": lambda span, value: Argument(span, None, value),
    "named_argument": Argument,
    "subscript": lambda span, value: syntax.Subscript(span, None, value),
    "named_subscript": syntax.Subscript,
    "slice": syntax.Slice,
    "name": Name,
    "number": number,
    "string": syntax.String,
    "true": lambda span: syntax.Constant(span, True),
    "false": lambda span: syntax.Constant(span, False),
    "none": lambda span: syntax.Constant(span, None),
    "list": syntax.List,
    "comprehension": syntax.Comprehension,
    "match": lambda span, subject, *arms: syntax.Match(span, subject, arms),
    "arm": syntax.Arm,
    "scan": syntax.Scan,
    "carry": syntax.Carry,
}
