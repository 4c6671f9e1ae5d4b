"""What a model gives beside its outputs, auxiliary losses and exits, and where its samples may leave it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from archlang.emit.draft import Draft
from archlang.emit.writer import Writer
from archlang.ir import Node, Value
from archlang.primitive import Term
from archlang.primitives.exits import FirstExit

if TYPE_CHECKING:
    from archlang.emit.forward import Forward


# ---- losses
def losses(body: "Forward") -> None:
    """`if self.training: self.losses = ...`, with one value for each place that states a loss."""
    found = body.graph.losses
    if not found:
        return
    codes = {name: [term.code for term in _named(body, values)] for name, values in found.items()}
    texts = [f'"{name}": torch.stack({_several(several, body.lists)})' for name, several in codes.items()]
    record = f"self.losses = {body.draft.need_helper('Losses')}({{{', '.join(texts)}}})"
    body.lines += ["if self.training:", f"    {record}"]
    for value in (value for values in found.values() for value in values):
        body.use(value)


def _several(codes: list[str], lists: Mapping[str, int]) -> str:
    """The values as a list, with all items of a list as `*items`."""
    items: list[str] = []
    while codes:
        name = codes[0].removesuffix("[0]")
        whole = [f"{name}[{i}]" for i in range(lists.get(name, 0))]
        items.append(f"*{name}" if whole and codes[: len(whole)] == whole else codes[0])
        codes = codes[len(whole) if items[-1].startswith("*") else 1 :]
    return items[0][1:] if len(items) == 1 and items[0].startswith("*") else f"[{', '.join(items)}]"


def init(draft: Draft) -> list[str]:
    """What `__init__` makes for them."""
    return ["self.losses = Losses()"] if draft.graph.losses else []


# ---- exits
def leave(body: "Forward", node: Node) -> None:
    """`if all_left(...): return ...`, once a node has made the last of what an exit needs."""
    exits = body.graph.exits
    for i, (_, value, leaves) in enumerate(exits):
        if max(value.node, leaves.node) == node.id:
            left = _named(body, [leaves for _, _, leaves in exits[: i + 1]])
            *values, last = _named(body, [value for _, value, _ in exits[: i + 1]])
            result = _first(body, values, left[:-1], last)
            check = f"{body.draft.need_helper('all_left')}({', '.join(term.code for term in left)})"
            body.lines += [f"if not self.training and {check}:", f"    return {result}"]


def _first(body: "Forward", exits: list[Term], leaves: list[Term], last: Term) -> str:
    """The text of the first exit that holds, else the last value."""
    ((_, output),) = body.graph.outputs
    node = body.graph.node(output.node)
    writer = Writer(body, node, body.types(node))
    if not exits:
        return writer.permute(last, output.type.names).code
    return FirstExit().emit(writer, last, exits, leaves).code


def results(body: "Forward", node: Node) -> None:
    """`if self.training: return ...`, the output and all exits, before the node that chooses among them."""
    output, *others = (value for _, value in body.operands(node))
    terms = _named(body, [output, *others[: len(body.graph.exits)]])
    writer = Writer(body, node, body.types(node))
    codes = [writer.permute(term, output.type.names).code for term in terms]
    body.lines += ["if self.training:", f"    return {', '.join(codes)}"]


def _named(body: "Forward", values: Iterable[Value]) -> list[Term]:
    """Values with names, which they get now where they have none."""
    values = list(values)
    body.lines += [body.baptise(value, *body.hints(value)) for value in dict.fromkeys(values) if body.inline(value)]
    return [body.held[value.node, value.output].term for value in values]
