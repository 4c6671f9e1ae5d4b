"""`exit NAME = EXPR when COND`: results that a sample may leave a model with before its end."""

from typing import Any

from archlang import syntax
from archlang.diagnostics import Label, error
from archlang.elaborate import calls, expressions, signatures
from archlang.elaborate.context import Context
from archlang.elaborate.frame import Exit
from archlang.elaborate.values import kind_of
from archlang.ir import Arrange, Value
from archlang.primitives.exits import FirstExit
from archlang.source import Span


def collect(cx: Context, statement: syntax.Exit) -> None:
    """Remember the exit; the loops around give it on, up to the model."""
    if cx.calls:
        title = f"the exit `{statement.name}` is inside a block, and only a model has exits"
        raise error("A020", title, statement.span, help="give the result and the condition back, and write it there")
    if cx.scanned:
        title = f"the exit `{statement.name}` is inside a scan, whose positions no sample leaves"
        raise error("A020", title, statement.span)
    value = expressions.evaluate(cx, statement.value)
    if not isinstance(value, Value):
        raise error("A303", f"an exit gives a tensor, and this is a {kind_of(value)}", statement.value.span)
    if statement.type is not None:
        what = f"`{statement.name}`"
        signatures.match(cx, statement.type, value.type, statement.value.span, what, signatures.Match())
    leaves = expressions.evaluate(cx, statement.condition)
    _check(leaves, statement.condition.span)
    value, leaves = cx.frame.capture(value), cx.frame.capture(leaves)
    cx.frame.graph.rename(value, statement.name)
    cx.frame.graph.rename(leaves, f"{statement.name}_leaves")
    cx.frame.exits.append(Exit(statement.name, value, leaves, statement.span))


def _check(leaves: Any, place: Span) -> None:
    wanted = "`when` takes a bool for each sample, bool[b]"
    if not isinstance(leaves, Value):
        raise error("A303", f"{wanted}, and this is a {kind_of(leaves)}", place)
    if leaves.type.dtype != "bool":
        compare = "compare it with a number: `... > 0.5`"
        raise error("A214", f"{wanted}, and this is {leaves.type}", place, help=compare)
    if len(leaves.type.axes) != 1 or leaves.type.of_role("batch") != leaves.type.names:
        rest = [axis.name for axis in leaves.type if axis.role != "batch"]
        help = f"`all(..., on = [{', '.join(rest)}])`" if rest else None
        raise error("A206", f"{wanted}, and this is {leaves.type}", place, help=help)


def join(cx: Context) -> None:
    """Make the output of a model the first exit that holds; all exits are of its type."""
    graph, found = cx.frame.graph, cx.frame.exits
    if not found or not graph.outputs:
        return
    if len(graph.outputs) > 1:
        title = f"a model with an exit has one output, and this has {len(graph.outputs)}"
        raise error("A310", title, Label(found[0].span, "an exit"), help="join the others, or leave the exit out")
    ((name, output),) = graph.outputs
    exits = [_fitted(cx, exit, name, output) for exit in found]
    pairs = [("x", output), *((f"exits.{i}", value) for i, value in enumerate(exits))]
    pairs += [(f"leaves.{i}", exit.leaves) for i, exit in enumerate(found)]
    (first,) = calls.add(cx, FirstExit(), pairs, found[-1].span, {})
    graph.exits = [(exit.name, value, exit.leaves) for exit, value in zip(found, exits, strict=True)]
    graph.outputs = [(name, first)]


def _fitted(cx: Context, exit: Exit, name: str, output: Value) -> Value:
    """The value of an exit with its axes as the output has them."""
    mine, wanted = exit.value.type, output.type
    sizes = {axis.name: axis.size for axis in mine}
    same = set(sizes) == set(wanted.names) and mine.dtype == wanted.dtype
    if not same or not all(cx.session.facts.equal(sizes[axis.name], axis.size) for axis in wanted):
        made = Label(output.graph.producer(output).span, f"`{name}` is {wanted}")
        title = f"the exit `{exit.name}` gives {mine}, and the output `{name}` is {wanted}"
        raise error("A204", title, exit.span, made)
    if mine.names == wanted.names:
        return exit.value
    (arranged,) = calls.add(cx, Arrange(order=wanted.names), [("x", exit.value)], exit.span, {})
    return arranged
