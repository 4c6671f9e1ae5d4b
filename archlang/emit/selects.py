"""Parts of an axis that are read one by one."""

from typing import TYPE_CHECKING

from archlang.ir import Node, Value
from archlang.primitive import Term
from archlang.primitives.shape import Select

if TYPE_CHECKING:
    from archlang.emit.forward import Forward


def write(body: "Forward", node: Node, op: Select) -> None:
    """One part of an axis; where every part is read, all of them at once: `q, k, v = qkv.unbind(2)`."""
    if (node.id, 0) in body.held:
        return
    ((_, value),) = body.operands(node)
    parts = _parts(body, value, op.axis)
    if not parts:
        body.write(node)
        return
    whole = body.held[value.node, value.output].term
    order = tuple(name for name in whole.order if name != op.axis)
    targets = [body.temporarily(*body.hints(Value(body.graph, part.id, 0, part.types[0]))) for part in parts]
    body.lines.append(f"{', '.join(targets)} = {whole.safe}.unbind({whole.at(op.axis)})")
    for part, target in zip(parts, targets, strict=True):
        body.hold((part.id, 0), Term(target, order), pending=False)
        body.use(value)
    body.settle()


def _parts(body: "Forward", value: Value, axis: str) -> list[Node]:
    """The selections of every part of an axis in order, if these are all that reads a value."""
    readers = [node for node, _ in body.graph.users(value)]
    parts = {node.op.index: node for node in readers if isinstance(node.op, Select) and node.op.axis == axis}
    found = [node for index in range(len(parts)) if (node := parts.get(index)) and body.uses[node.id, 0]]
    whole = len(found) == len(readers) == body.uses[value.node, value.output] == value.type.size(axis)
    return found if whole and len(found) > 1 else []
