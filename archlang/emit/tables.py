"""Tables of whole numbers that follow from known sizes, as indices of positions: made once, in `__init__`, and held as
buffers that no checkpoint has.
"""

from typing import Any

from archlang.emit.hints import hints
from archlang.emit.writer import Writer
from archlang.ir import Graph, Node, Value
from archlang.primitive import Term
from archlang.primitives.elementwise import Unary, Where
from archlang.primitives.index import Index
from archlang.primitives.pointwise import Binary
from archlang.primitives.rearrange import Rearrange
from archlang.primitives.shape import Concat, Expand, Rename
from archlang.sizes import Poly, product

_MOST = 2**16  # numbers that are held; larger tables are made where they are used
_KINDS = (Binary, Unary, Where, Rename, Expand, Rearrange, Concat)


class Tables:
    """The nodes of a graph that make tables out of indices and of tables, and the text of each."""

    def __init__(self, graph: Graph) -> None:
        self.found: set[int] = set()
        self.texts: dict[int, Term] = {}
        for node in graph:
            operands = [value.node for _, value in graph.operands(node)]
            made = isinstance(node.op, _KINDS) and operands and self.found.issuperset(operands)
            if (isinstance(node.op, Index) or made) and _is_small(node):
                self.found.add(node.id)

    def write(self, body: Any, node: Node) -> None:
        """A table as an expression, and as a buffer where something else reads it."""
        writer = _Writer(body, node, body.types(node))
        if isinstance(node.op, Index):
            term = Term(f"torch.arange({writer.size(node.op.size)})", (node.op.axis,))
        else:
            (term,) = body.emit(node, writer, [(name, self.texts[v.node]) for name, v in body.operands(node)])
        self.texts[node.id] = term
        value = Value(body.graph, node.id, 0, node.types[0])
        inner = [user for user, _ in body.graph.users(value) if user.id in self.found and body.uses[user.id, 0]]
        if body.uses[node.id, 0] > len(inner):
            only = node.types[0].names[0] if len(node.types[0].names) == 1 else None
            label = node.name or only or hints(body.graph, value, [])[0]
            body.hold((node.id, 0), Term(writer.buffer(label, term.code), term.order), pending=False)


def _is_small(node: Node) -> bool:
    """Whether a node makes few whole numbers or truth values, of a count that is known."""
    (type_,) = node.types if len(node.types) == 1 else (None,)
    if type_ is None or type_.dtype not in ("int", "bool"):
        return False
    count = product(axis.size for axis in type_)
    return isinstance(count, int) and count <= _MOST and not any(isinstance(field, Poly) for _, field in node.op)


class _Writer(Writer):
    """Writes an expression, without variables for its parts."""

    def bind(self, term: Term, hint: str, part: bool = False) -> Term:
        return term
