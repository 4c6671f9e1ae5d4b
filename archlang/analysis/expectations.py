"""What a model expects of itself: `expect params ~ 31M for tiny, macs <= 6G at resolution = 224, causal(t)`."""

import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Protocol

from archlang import syntax
from archlang.diagnostics import ArchError, Diagnostic, Label, error, suggest
from archlang.elaborate import expressions
from archlang.elaborate.context import Context, Session
from archlang.elaborate.frame import Frame
from archlang.elaborate.models import Elaborated
from archlang.elaborate.scope import Scope
from archlang.elaborate.values import is_number
from archlang.ir import Graph
from archlang.sizes import Poly, Size, substitute, symbols


class Network(Protocol):
    """What is asked of an architecture."""

    elaborated: Elaborated

    @property
    def name(self) -> str: ...
    @property
    def variant(self) -> str | None: ...

    @property
    def cost(self) -> Any: ...
    @property
    def memory(self) -> Any: ...
    @property
    def inputs(self) -> Any: ...


FACTS: dict[str, Callable[[Network], Size]] = {
    "params": lambda network: network.cost.params,
    "active_params": lambda network: network.cost.active_params,
    "macs": lambda network: network.cost.macs,
    "flops": lambda network: network.cost.macs * 2,
    "activation_bytes": lambda network: network.cost.activation_bytes,
    "state_bytes": lambda network: network.cost.state_bytes,
    "inference_bytes": lambda network: network.memory.inference,
    "training_bytes": lambda network: network.memory.training,
}
RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}


def expectations(network: Network, again: Callable[..., Network]) -> list[Diagnostic]:
    """The expectations of a model that do not hold for this variant. `again(model, variant, settings)` makes it with
    other settings.
    """
    found: list[Diagnostic] = []
    for statement in network.elaborated.model.body:
        for fact in statement.facts if isinstance(statement, syntax.Expect) else ():
            if fact.variant in (network.variant, None) and not (fact.variant is None and network.variant is not None):
                try:
                    _check(network, fact, again)
                except ArchError as failure:
                    found += failure.diagnostics
    return found


def _check(network: Network, fact: syntax.Fact, again: Callable[..., Network]) -> None:
    cx = _context(network)
    hypers, sizes = _settings(network, fact, cx)
    if hypers:
        network = again(network.name, network.variant, hypers)
    condition = fact.condition
    if (
        isinstance(condition, syntax.Call)
        and isinstance(condition.function, syntax.Name)
        and condition.function.id == "causal"
    ):
        _causal(network, condition, cx)
        return
    if not isinstance(condition, syntax.Binary) or not isinstance(condition.left, syntax.Name):
        raise error("A509", "an expectation is `params ~ 31M`, `macs <= 6G` or `causal(t)`", condition.span)
    _compare(network, condition, {"b": 1, **sizes}, cx)


def _settings(network: Network, fact: syntax.Fact, cx: Context) -> tuple[dict[str, Any], dict[str, Size]]:
    """`at [width = 64, t = 1k]`: hyper-parameters, and sizes that are free."""
    free = {name for type_ in network.inputs.values() for axis in type_ for name in symbols(axis.size)} | {"b"}
    known = network.elaborated.settings
    hypers, sizes = {}, {}
    for item in fact.settings:
        if item.name in known:
            hypers[item.name] = expressions.evaluate(cx, item.value)
        elif item.name in free:
            sizes[item.name] = expressions.whole(cx, item.value)
        else:
            title = f"`{network.name}` has no hyper-parameter or free size `{item.name or item.span.text}`"
            raise error("A502", title, item.span, help=suggest(item.name or "", [*known, *free]))
    return hypers, sizes


def _context(network: Network) -> Context:
    scope = Scope()
    for name, value in network.elaborated.settings.items():
        scope.define(name, value, network.elaborated.model.name_span, "hyper-parameter")
    return Context(Session(), network.elaborated.module, scope, Frame(Graph("expect")))


def _causal(network: Network, condition: syntax.Call, cx: Context) -> None:
    """Nothing that looks ahead along time elaborates, so it is enough that the axis is there and is time."""
    if len(condition.arguments) != 1 or not isinstance(condition.arguments[0].value, syntax.Name):
        raise error("A509", "`causal` takes one axis", condition.span, help="`expect causal(t)`")
    axis = condition.arguments[0].value.id
    if not any(axis in type_ and type_[axis].role == "time" for type_ in network.inputs.values()):
        raise error("A508", f"no input has the time axis `{axis}`", condition.span)


def _compare(network: Network, condition: syntax.Binary, sizes: Mapping[str, Size], cx: Context) -> None:
    assert isinstance(condition.left, syntax.Name)
    name = condition.left.id
    if name not in FACTS:
        raise error(
            "A509",
            f"nothing is known of `{name}`",
            condition.left.span,
            help=suggest(name, FACTS) or f"there are {', '.join(FACTS)}",
        )
    actual = substitute(FACTS[name](network), sizes)
    if isinstance(actual, Poly):
        free = ", ".join(sorted(symbols(actual)))
        raise error(
            "A509",
            f"`{name}` depends on {free}",
            condition.span,
            help=f"say at which: `at [{free.replace(',', ' = ...,')} = ...]`",
        )
    wanted = expressions.number(cx, condition.right)
    if not _holds(condition.op, actual, wanted, condition.right):
        raise error(
            "A508",
            f"`{condition.span.text}` does not hold{_of(network)}",
            Label(condition.span, f"{name} = {_digits(actual)}"),
        )


def _of(network: Network) -> str:
    return f" for `{network.variant}`" if network.variant else ""


def _digits(number: Any) -> str:
    return f"{int(number):,}" if number == int(number) else str(float(number))


def _holds(op: str, actual: Any, wanted: Any, written: syntax.Expr) -> bool:
    if op == "~":
        if not isinstance(written, syntax.Number) or not is_number(actual):
            raise error("A509", "`~` compares with a number as it is written", written.span)
        return bool(abs(Fraction(actual) - wanted) <= precision(written) / 2)
    if op not in RELATIONS:
        raise error("A509", f"`{op}` does not compare", written.span, help=f"there are ~ {' '.join(RELATIONS)}")
    return bool(RELATIONS[op](actual, wanted))


def precision(number: syntax.Number) -> Fraction:
    """One unit in the last digit that a number is written with: 0.1 G for `5.6G`."""
    digits = number.text.rstrip("kMGTBi").replace("_", "")
    mantissa, _, exponent = digits.lower().partition("e")
    last = Fraction(1, 10 ** len(mantissa.partition(".")[2])) * Fraction(10) ** int(exponent or 0)
    value = Fraction(mantissa) * Fraction(10) ** int(exponent or 0)
    return last * (number.value / value) if value else last
