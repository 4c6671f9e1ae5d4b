"""Matching values to declared types: by name, never by position."""

from dataclasses import dataclass, field
from typing import Any

from archlang import syntax
from archlang.diagnostics import Label, error, suggest
from archlang.elaborate import expressions
from archlang.elaborate.context import Context
from archlang.elaborate.files import refuse_taken
from archlang.elaborate.values import Given, kind_of, show
from archlang.ir import Value
from archlang.shapes import AXIS_WORDS, DTYPES, ROLES, Axis, Role, TensorType, axis, is_float
from archlang.sizes import Size, symbol
from archlang.source import Span

Packs = dict[str, tuple[Axis, ...]]


@dataclass(frozen=True, slots=True)
class Match:
    """The packs and sizes that one signature has bound so far, with where each came from."""

    packs: dict[str, tuple[tuple[Axis, ...], Span]] = field(default_factory=dict)
    sizes: dict[str, Label] = field(default_factory=dict)


def role_of(declared: syntax.Axis) -> Role | None:
    """The role that a declaration says outright."""
    if declared.role is None:
        return None
    for role in ROLES:
        if role == declared.role:
            return role
    raise error(
        "A213",
        f"there is no role `{declared.role}`",
        declared.span,
        help=suggest(declared.role, ROLES) or f"roles are {', '.join(ROLES)}",
    )


def known_dtype(declared: syntax.Type) -> str:
    """The dtype that a declaration says; `float` where it says none."""
    if declared.dtype is not None and declared.dtype not in DTYPES:
        help = suggest(declared.dtype, DTYPES) or f"dtypes are {', '.join(sorted(DTYPES))}"
        raise error("A214", f"there is no dtype `{declared.dtype}`", declared.span, help=help)
    return declared.dtype or "float"


def check_dtype(declared: syntax.Type, actual: str, place: Span, what: str) -> None:
    """A declared dtype must be the actual one; none declared takes any floating or complex type."""
    want = known_dtype(declared)
    fits = actual == want or (want == "float" and (is_float(actual) or actual.startswith("complex")))
    fits = (
        fits
        or (want == "int" and actual in ("segments", "int64", "int32", "int16", "int8", "uint8"))
        or (want.startswith("float") and actual == "float")
    )
    if not fits:
        raise error(
            "A214",
            f"{what} is {actual}, and {want} is needed",
            Label(place, actual),
            Label(declared.span, f"{want} here"),
            help=f"`cast(x, {want})`",
        )


def match(
    cx: Context, declared: syntax.Type, actual: TensorType, place: Span, what: str, found: Match, word: str = "axis"
) -> None:
    """Match a value's type to a declared one, binding the names of unknown sizes; raises at the first mismatch."""
    check_dtype(declared, actual.dtype, place, what)
    named = [a for a in declared.axes if isinstance(a, syntax.Axis)]
    for a in named:
        if a.name not in actual:
            raise error(
                "A205",
                f"{what} has no axis `{a.name}`",
                Label(place, f"{actual} here"),
                Label(declared.span, "needed here"),
                help=suggest(a.name, actual.names),
            )
    rest = tuple(a for a in actual if a.name not in {a.name for a in named})
    packs = [a for a in declared.axes if isinstance(a, syntax.Pack)]
    if not packs and rest:
        extra = ", ".join(f"`{a.name}`" for a in rest)
        raise error(
            "A206",
            f"{what} has more axes than it may: {extra}",
            Label(place, f"{actual} here"),
            Label(declared.span, "declared here"),
            help="`..` takes any other axes",
        )
    if packs:
        _match_pack(cx, packs[0], rest, place, what, found)
    for a in named:
        _match_role(a, actual[a.name], place)
        _match_size(
            cx, a, actual.size(a.name), Label(place, f"{what} has {a.name} = {actual.size(a.name)}"), found, word
        )


def _match_pack(cx: Context, pack: syntax.Pack, rest: tuple[Axis, ...], place: Span, what: str, found: Match) -> None:
    known = found.packs.setdefault(pack.name, (rest, place))
    if {a.name for a in known[0]} != {a.name for a in rest}:
        raise error(
            "A215",
            f"the axes of `..{pack.name}` do not agree",
            Label(place, f"{what} has {_axes(rest)}"),
            Label(known[1], f"and this has {_axes(known[0])}"),
        )
    for a in rest:
        size = next(other.size for other in known[0] if other.name == a.name)
        if not cx.session.facts.equal(size, a.size):
            raise error(
                "A204",
                "axis sizes do not agree",
                Label(place, f"{what} has {a.name} = {a.size}"),
                Label(known[1], f"{a.name} = {size} here"),
            )


def _axes(axes: tuple[Axis, ...]) -> str:
    return f"[{', '.join(map(str, axes))}]"


def _match_role(declared: syntax.Axis, actual: Axis, place: Span) -> None:
    role = role_of(declared)
    if role is not None and role != actual.role:
        raise error(
            "A210",
            f"axis `{actual.name}` is {actual.role} here, and {role} is needed",
            Label(place),
            Label(declared.span, f"{role} here"),
        )


def _match_size(cx: Context, declared: syntax.Axis, actual: Size, has: Label, found: Match, word: str) -> None:
    name = unknown(cx, declared)
    if name is not None:
        cx.scope.define(name, actual, declared.span, word)
        found.sizes[name] = has
        return
    want = declared_size(cx, declared)
    if not cx.session.facts.equal(want, actual):
        origins = [Label(declared.span, f"{declared.name} = {want} here")]
        if isinstance(declared.size, syntax.Name | None):
            name = declared.size.id if declared.size else declared.name
            origins = [found.sizes[name], *origins] if name in found.sizes else origins
        raise error("A204", "axis sizes do not agree", has, *(o for o in origins if o.span != has.span))


def unknown(cx: Context, declared: syntax.Axis) -> str | None:
    """The name that a declared axis binds to its size: a single unknown name."""
    if declared.size is None:
        return declared.name if cx.scope.find(declared.name) is None else None
    if isinstance(declared.size, syntax.Name) and cx.scope.find(declared.size.id) is None:
        return declared.size.id
    return None


def declared_size(cx: Context, declared: syntax.Axis) -> Size:
    """The size that a declaration states."""
    if declared.size is not None:
        size: Size = positive(expressions.whole(cx, declared.size), declared.size.span)
        return size
    value = cx.scope.get(declared.name)
    return positive(expressions.as_whole(cx, value, syntax.Name(declared.span, declared.name)), declared.span)


def positive(size: Size, span: Span) -> Size:
    """A size of an axis is at least 1."""
    if isinstance(size, int) and size < 1:
        raise error("A216", f"an axis needs a size of at least 1, and this is {size}", span)
    return size


def declare(cx: Context, declared: syntax.Type, word: str) -> TensorType:
    """The type that a declaration makes, for an input of a model (`word` is `input`; unknown sizes are free) or a
    weight.
    """
    axes: list[Axis] = []
    for a in declared.axes:
        if isinstance(a, syntax.Pack):
            raise error("A217", f"{'an' if word == 'input' else 'a'} {word} names all of its axes", a.span)
        if any(other.name == a.name for other in axes):
            raise error("A218", f"axis `{a.name}` stands twice in one type", a.span)
        if a.name in AXIS_WORDS:
            raise error("A206", f"`{a.name}` stands for axes, and names none", a.span, help="call the axis otherwise")
        role = role_of(a)
        name = unknown(cx, a)
        if name is not None:
            if word != "input":
                raise error("A101", f"there is no `{name}` here", a.span, help=suggest(name, cx.scope.visible()))
            cx.scope.define(name, symbol(name), a.span, "axis")
        axes.append(axis(a.name, declared_size(cx, a), role))
        if a.size is None and name is None and word == "input":
            _rebound_role(cx, a)
    return TensorType(tuple(axes), known_dtype(declared))


def _rebound_role(cx: Context, a: syntax.Axis) -> None:
    """An axis without a size takes the value of its name, which must be a size."""
    binding = cx.scope.find(a.name)
    assert binding is not None
    if binding.word not in ("axis", "hyper-parameter", "name"):
        raise error("A104", f"`{a.name}` is already {binding.word}", Label(a.span), Label(binding.span, "here"))


def bind_inputs(cx: Context, signature: syntax.Signature, given: dict[str, Given]) -> Match:
    """Bind the inputs of a block and the sizes of their axes."""
    found = Match()
    for port in signature.inputs:
        value = given[port.name].value if port.name in given else None
        if isinstance(value, Value):
            match(cx, port.type, value.type, given[port.name].span, f"`{port.name}`", found)
        elif value is not None or not port.type.optional:
            place = given[port.name].span if port.name in given else port.span
            raise error(
                "A303",
                f"`{port.name}` is a tensor, and this is a {kind_of(value)}: {show(value)}",
                Label(place),
                Label(port.span, "declared here"),
            )
        if cx.scope.find(port.name) is not None and cx.scope.names[port.name].word != "input":
            other = cx.scope.names[port.name]
            raise error(
                "A104",
                f"`{port.name}` is already a{'n' if other.word[0] in 'aeiou' else ''} {other.word}",
                Label(port.span),
                Label(other.span, f"{other.word} here"),
            )
        refuse_taken(cx.module, port.name, port.span)
        cx.scope.define(port.name, value, port.span, "input")
    return found


def check_results(
    cx: Context, signature: syntax.Signature, values: tuple[Any, ...], spans: tuple[Span, ...], found: Match
) -> None:
    """The results of a block against the types that it states; packs are those of the inputs."""
    if signature.results is None:
        return
    if len(signature.results) != len(values):
        raise error(
            "A310",
            f"{len(signature.results)} results are declared, and {len(values)} returned",
            spans[0],
            signature.results[0].span,
        )
    for port, value, span in zip(signature.results, values, spans, strict=True):
        if not isinstance(value, Value):
            raise error("A303", f"a block returns tensors, and this is a {kind_of(value)}", span)
        match(cx, port.type, value.type, span, f"`{port.name}`" if port.name else "the result", found)


def result_type(cx: Context, declared: syntax.Type, found: Match) -> TensorType:
    """The type that a foreign operation promises for its inputs."""
    axes: list[Axis] = []
    for a in declared.axes:
        if isinstance(a, syntax.Pack):
            axes.extend(found.packs[a.name][0] if a.name in found.packs else ())
        elif unknown(cx, a) is not None:
            raise error(
                "A101",
                f"there is no `{unknown(cx, a)}` here",
                a.span,
                help="the sizes of a result follow from the inputs",
            )
        else:
            axes.append(axis(a.name, declared_size(cx, a), role_of(a)))
    return TensorType(tuple(axes), known_dtype(declared))


def order(declared: syntax.Type, found: Match) -> tuple[str, ...]:
    """The axes of a declared type in the order that is written, packs spelled out."""
    names: list[str] = []
    for a in declared.axes:
        names += [a.name] if isinstance(a, syntax.Axis) else [other.name for other in found.packs[a.name][0]]
    return tuple(names)
