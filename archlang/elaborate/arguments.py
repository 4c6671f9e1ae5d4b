"""Arguments of a call: which hyper-parameter or input each one is, and how it is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from archlang import syntax
from archlang.diagnostics import Label, error, suggest
from archlang.elaborate import expressions
from archlang.elaborate.context import Context
from archlang.elaborate.values import AxisName, BlockDef, Given, is_number, kind_of, leaves, show
from archlang.ir import Value
from archlang.primitive import Primitive
from archlang.shapes import DTYPES
from archlang.source import Span

PER_NAME = ("sizes", "names")  # fields of keywords that name axes: `rearrange(..., p = 7)`, `rename(x, c = value)`
NUMBERS = {"a": "left", "b": "right"}  # inputs of operators that may be numbers, and the fields that hold these


def slots(target: Any) -> tuple[dict[str, str], list[str]]:
    """What a target takes: hyper-parameters with how each is read, and inputs as `x`, `x?`, `*xs`."""
    if isinstance(target, BlockDef):
        ports = [port.name + ("?" if port.type.optional else "") for port in target.syntax.signature.inputs]
        return {hyper.name: hyper.kind.name if hyper.kind else "value" for hyper in target.hypers}, ports
    return _of_operation(target)


@cache
def _of_operation(target: Any) -> tuple[dict[str, str], list[str]]:
    kinds = {name: "dtype" if name == "dtype" else word for name, word in target.kinds().items()}
    if not issubclass(target, Primitive):
        return kinds, []
    return kinds | ({"over": "value"} if target.sequential else {}), list(target.inputs)


def missing(target: Any, inputs: dict[str, Given]) -> list[str]:
    """The inputs that a target still needs."""
    return [port.strip("*") for port in slots(target)[1] if not port.endswith("?") and port.strip("*") not in inputs]


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or a list that holds some."""
    return any(isinstance(leaf, Value) for leaf in leaves(value))


@dataclass(slots=True)
class Arguments:
    """The arguments of one call as they are sorted."""

    target: Any
    kinds: dict[str, str]
    ports: list[str]
    hypers: dict[str, Given] = field(default_factory=dict)
    inputs: dict[str, Given] = field(default_factory=dict)

    # ---- by position: tensors are inputs, all else hyper-parameters, each in order
    def positional(self, cx: Context, places: Sequence[syntax.Argument]) -> None:
        ports = [port for port in self.ports if port.strip("*?") not in self.inputs]
        fields = [name for name in self.kinds if name not in PER_NAME]
        values: list[Given] = []
        for place in places:
            kind = self.kinds[fields[0]] if fields else "value"
            given = read(cx, kind, place.value)
            values.append(given)
            if not self._input(ports, given, values):
                self._hyper(fields, given)
        if isinstance(self.target, BlockDef):
            self._check_unmixed(values)

    def _input(self, ports: list[str], given: Given, values: list[Given]) -> bool:
        """Take the next port, if the argument is for one."""
        while ports and NUMBERS.get(ports[0].strip("*?")) in self.hypers:  # a number came first
            ports.pop(0)
        name = ports[0].strip("*?") if ports else ""
        if not is_tensor(given.value):
            if given.value == () and name and ports[0].startswith("*"):
                raise error("A301", f"`{self.target.name}` takes tensors, and this list holds none", given.span)
            tensors = any(is_tensor(other.value) for other in values)
            if given.value is None and tensors and ports[0:] and ports[0].endswith("?"):
                ports.pop(0)
                return True
            if not (is_number(given.value) and tensors and NUMBERS.get(name) in self.kinds):
                self._check_number(ports, given, tensors)
                return False
            self.hypers[NUMBERS[name]] = given
        elif not ports:
            raise error(
                "A301",
                f"`{self.target.name}` takes {count(len(self.ports), 'input')}, and this is one more",
                given.span,
            )
        elif ports[0].startswith("*"):
            known = self.inputs[name].value if name in self.inputs else ()
            self.inputs[name] = Given(
                (*known, *(given.value if isinstance(given.value, tuple) else (given.value,))), given.span
            )
            return True
        else:
            self.inputs[name] = given
        ports.pop(0)
        return True

    def _check_number(self, ports: list[str], given: Given, tensors: bool) -> None:
        """A number between the tensors of an operation stands where one more of these is needed."""
        needed = bool(ports) and ports[0][0] != "*" and ports[0][-1] != "?" and not isinstance(self.target, BlockDef)
        if needed and tensors and is_number(given.value):
            title = f"`{ports[0]}` of `{self.target.name}` is a tensor, and this is a number: {show(given.value)}"
            raise error("A303", title, given.span)

    def _hyper(self, fields: list[str], given: Given) -> None:
        if not fields:
            known = len([name for name in self.kinds if name not in PER_NAME])
            raise error(
                "A301",
                f"`{self.target.name}` takes {count(known, 'hyper-parameter')}, and this is one more",
                given.span,
            )
        if self.kinds[fields[0]] == "names" and isinstance(given.value, tuple):  # as many as are there
            known_names = self.hypers[fields[0]].value if fields[0] in self.hypers else ()
            self.hypers[fields[0]] = Given((*known_names, *given.value), given.span)
            return
        self.hypers[fields.pop(0)] = given

    def _check_unmixed(self, values: list[Given]) -> None:
        """A block's positional arguments are all inputs or all hyper-parameters: which is which must be seen at the
        call.
        """
        tensors = [given for given in values if is_tensor(given.value)]
        others = [given for given in values if not is_tensor(given.value) and given.value is not None]
        if tensors and others:
            raise error(
                "A305",
                "positional arguments are all inputs or all hyper-parameters",
                Label(others[0].span, f"a {kind_of(others[0].value)}"),
                Label(tensors[0].span, "a tensor"),
                help=f"give it by name: `{next(iter(self.hypers), 'NAME')} = ...`",
            )

    # ---- by name
    def keyword(self, cx: Context, argument: syntax.Argument) -> None:
        name = argument.name
        assert name is not None
        bare = [port.strip("*?") for port in self.ports]
        if (known := self.inputs.get(name) or self.hypers.get(name)) is not None:
            places = Label(argument.span, "again here"), Label(known.span, "first here")
            raise error("A313", f"`{name}` is given twice", *places)
        if name not in self.kinds and name not in bare:
            self._extra(cx, argument, bare)
            return
        given = read(cx, self.kinds.get(name, "value"), argument.value)
        if is_number(given.value) and NUMBERS.get(name) in self.kinds:
            self.hypers[NUMBERS[name]] = given
        elif name not in bare or (name in self.kinds and not is_tensor(given.value)):
            self.hypers[name] = given
        elif given.value is not None:
            self.inputs[name] = given

    def _extra(self, cx: Context, argument: syntax.Argument, ports: list[str]) -> None:
        """A keyword that names an axis: `rearrange(..., p = 7)`, `expand(x, n = 1)`, `scatter(x, n = index)`."""
        name, place = str(argument.name), argument.value.span
        if self.target.name == "index":
            self.hypers.update(
                axis=Given((name,), argument.span), size=Given(expressions.whole(cx, argument.value), place)
            )
        elif "sizes" in self.kinds:
            self._per_name("sizes", name, expressions.whole(cx, argument.value), place)
        elif "names" in self.kinds:
            self._per_name("names", name, expressions.axes(cx, argument.value)[0], place)
        elif "axis" in self.kinds and "index" in ports and "axis" not in self.hypers:
            self.hypers["axis"] = Given((name,), argument.span)
            self.inputs["index"] = Given(expressions.evaluate(cx, argument.value), place)
        else:
            known = [*self.kinds, *ports]
            help = suggest(name, known) or (f"it takes {', '.join(known)}" if known else "it takes no arguments")
            raise error("A302", f"`{self.target.name}` has no argument `{name}`", argument.span, help=help)

    def _per_name(self, field: str, name: str, value: Any, place: Span) -> None:
        known = self.hypers[field].value if field in self.hypers else ()
        if name in dict(known):
            raise error("A313", f"`{name}` is given twice", place)
        self.hypers[field] = Given((*known, (name, value)), place)


def bind(
    cx: Context, target: Any, arguments: Sequence[syntax.Argument], have: dict[str, Given] | None = None
) -> Arguments:
    """Sort the arguments of a call; `have` are the inputs that the layer has already."""
    bound = Arguments(target, *slots(target), inputs=dict(have or {}))
    places = [argument for argument in arguments if argument.name is None]
    only = places[0].value if target.name == "index" and len(places) == 1 else None
    if isinstance(only, syntax.Name):  # `index(n)` is `index(n = n)`
        places, arguments = [], [syntax.Argument(only.span, only.id, only)]
    bound.positional(cx, places)
    for argument in arguments:
        if argument.name is not None:
            bound.keyword(cx, argument)
    return bound


def count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def read(cx: Context, kind: str, expr: syntax.Expr) -> Given:
    """An argument, read as what takes it wants it."""
    value = _read(cx, kind, expr)
    return Given(value, expr.span, expressions.made_of(cx, expr) if isinstance(value, Fraction) else "")


def _read(cx: Context, kind: str, expr: syntax.Expr) -> Any:
    if kind in ("axes", "axis", "names") and expressions.names_axes(cx, expr):
        names = expressions.axes(cx, expr)
        return AxisName(names[0]) if kind == "axis" else names
    if kind == "units":
        return expressions.units(cx, expr)
    if kind == "score" and (score := _score(cx, expr)) is not None:
        return score
    if (
        isinstance(expr, syntax.Name)
        and cx.scope.find(expr.id) is None
        and (kind == "word" or (kind == "dtype" and expr.id in DTYPES))
    ):
        return expr.id
    return expressions.evaluate(cx, expr)


def _score(cx: Context, expr: syntax.Expr) -> Any:
    """`softmax` or `sigmoid(bias = -3)` where a score is wanted: the score of that name, not the layer."""
    from archlang.elaborate.calls import construct
    from archlang.primitives.score import SCORES

    function = expr.function if isinstance(expr, syntax.Call) else expr
    if not isinstance(function, syntax.Name) or cx.scope.find(function.id) is not None or function.id not in SCORES:
        return None
    cls = SCORES[function.id]
    given = bind(cx, cls, expr.arguments).hypers if isinstance(expr, syntax.Call) else {}
    return construct(cls, given, expr.span)
