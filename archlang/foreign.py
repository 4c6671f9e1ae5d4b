"""Permission for foreign operations: Python from outside runs only where the user names its package."""

from collections.abc import Iterator
from importlib import import_module

from archlang.diagnostics import error
from archlang.ir import Foreign, Graph, Node
from archlang.source import Span


def allow(graph: Graph, allowed: tuple[str, ...]) -> None:
    """Raise `ArchError` where the graph holds a foreign operation of a package that is not allowed."""
    for node in foreign_nodes(graph):
        assert isinstance(node.op, Foreign)
        package = node.op.module
        if not any(package == name or package.startswith(f"{name}.") for name in allowed):
            raise error(
                "A405",
                f"`{node.op.symbol}` runs Python from `{package}`",
                node.span,
                help=f"if you trust it: --allow-python {package}",
            )
        _check_found(node.op, node.span)


def _check_found(op: Foreign, span: Span) -> None:
    name = op.target.partition(":")[2]
    try:
        found = hasattr(import_module(op.module), name)
    except ImportError as failure:
        raise error("A405", f"`{op.module}` cannot be imported: {failure}", span) from None
    if not found:
        raise error("A405", f"`{op.module}` has no `{name}`", span)


def foreign_nodes(graph: Graph) -> Iterator[Node]:
    """All foreign operations, each distinct block once."""
    todo, seen = [graph], {graph.digest}
    while todo:
        for _, node in (here := todo.pop()).deep():
            if isinstance(node.op, Foreign):
                yield node
        for inner in here.calls:
            if inner.digest not in seen:
                seen.add(inner.digest)
                todo.append(inner)
