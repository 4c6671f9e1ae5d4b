"""Modules in modules: how the class of a graph is constructed, lent and called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archlang.emit import marks
from archlang.emit.draft import Declaration, Draft
from archlang.emit.writer import Body, Writer
from archlang.ir import Call, Node
from archlang.primitive import Term
from archlang.sizes import symbol


@dataclass(frozen=True, slots=True)
class Port:
    """What a caller must know of the class of a graph."""

    constructor: str
    values: tuple[tuple[str, object], ...]  # arguments of the constructor: (name, value)
    inputs: Mapping[str, tuple[str, ...]]  # the order of axes of each input
    outputs: tuple[tuple[str, ...], ...]  # the order of axes of each tensor that it returns
    of: tuple[int, ...]  # which of these each output of the graph is
    extra: tuple[str, ...]  # free sizes that it must be told
    layers: Mapping[str, Declaration]  # what its layer ports hold
    layer_values: Sequence[object]  # the marks in that


def declare(draft: Draft, node: Node, op: Call, port: Port) -> str:
    """Make the module that a node calls, and what it borrows where nothing here does; returns its label."""
    label = node.label or draft.spare_label(op.graph.name)
    for name, lent in op.layers:
        if lent not in draft.declarations and name in port.layers and not _made_here(draft, lent):
            draft.declare(lent, _translated(draft, port.layers[name], port.layer_values))
    draft.declare(label, Declaration("modules", _construct(draft, port)))
    return label


def _made_here(draft: Draft, label: str) -> bool:
    return any(node.label == label for _, node in draft.graph.deep())


def _construct(draft: Draft, port: Port) -> str:
    texts = [(name, draft.mark(value, name)) for name, value in port.values]
    return (
        f"{port.constructor}({', '.join(text if i == 0 else f'{name}={text}' for i, (name, text) in enumerate(texts))})"
    )


def _translated(draft: Draft, declaration: Declaration, values: Sequence[object]) -> Declaration:
    """A declaration with marks of its own draft, as one of this."""

    def again(text: str) -> str:
        return marks.MARK.sub(lambda match: draft.mark(values[int(match[1])], "size"), text)

    return Declaration(
        declaration.kind, again(declaration.code), [(leaf, again(code)) for leaf, code in declaration.starts]
    )


def call(body: Body, node: Node, op: Call, writer: Writer, given: Mapping[str, Term]) -> str:
    """The text of a call."""
    port = body.called[op.graph.digest]
    label = declare(body.draft, node, op, port)
    arguments = [writer.permute(given[name], order).code for name, order in port.inputs.items() if name in given]
    arguments += [body.draft.reach(lent) for _, lent in op.layers]
    arguments += [writer.size(symbol(name)) for name in port.extra]
    return applied(body.draft, body.draft.reach(label), arguments, "self.training" if op.recomputed else "")


def applied(draft: Draft, module: str, arguments: Sequence[str], again: str = "") -> str:
    """A module applied to its arguments; `again` says when what it makes on the way is not kept, but made again."""
    if not again:
        return f"{module}({', '.join(arguments)})"
    return f"{draft.need_helper('recompute')}({', '.join([module, *arguments, f'when={again}'])})"


def results(body: Body, node: Node, op: Call, code: str) -> list[Term]:
    """The results of a call, one term an output; several are bound together."""
    port = body.called[op.graph.digest]
    if len(port.of) == 1:
        return [Term(code, port.outputs[0])]
    used = {port.of[i]: i for i in reversed(range(len(port.of))) if body.uses[node.id, i]}
    targets = [body.target(node, used[k]) if k in used else "_" for k in range(len(port.outputs))]
    body.lines.append(f"{', '.join(targets)} = {code}")
    return [Term(targets[k], port.outputs[k]) for k in port.of]
