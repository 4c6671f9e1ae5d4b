"""Documents on one axis: an input `doc: segments[b, t]` cuts `t`, and every operation that mixes `t` must keep to its
document.
"""

from collections.abc import Sequence
from dataclasses import replace

from archlang.diagnostics import Label, error
from archlang.elaborate import calls
from archlang.elaborate.context import Context
from archlang.ir import Graph, Value
from archlang.primitive import Primitive
from archlang.primitives.attention import Attend
from archlang.primitives.indexing import Gather, Scatter
from archlang.primitives.norm import BatchNorm
from archlang.source import Span

Pairs = Sequence[tuple[str, Value]]


def cut(cx: Context, value: Value) -> None:
    """Cut the axes of an input of dtype `segments`: all but those of the batch."""
    for axis in value.type:
        if axis.role != "batch":
            cx.session.cuts[axis.name] = value


def honour(cx: Context, op: Primitive, pairs: Pairs, span: Span) -> Pairs:
    """The operands of an operation with the cut threaded to it: attention and recurrences get the documents. Whatever
    else mixes the axis is refused.
    """
    types = Graph.arguments(op, [(argument, value.type) for argument, value in pairs])
    mixed = sorted(op.mixes(*types) & cx.session.cuts.keys())
    if not mixed or isinstance(op, BatchNorm):  # statistics over the batch are over all documents anyway
        return pairs
    if isinstance(op, Gather):  # along space, edges that leave a graph are its own affair
        mixed = [axis for axis in mixed if dict(pairs)["x"].type[axis].role != "space"]
    if isinstance(op, Scatter):  # a value for each document
        mixed = [axis for axis in mixed if dict(pairs)["index"] != cx.session.cuts[axis]]
    for axis in mixed:
        documents = cx.session.cuts[axis]
        own, captured = dict(pairs).get("segments"), cx.frame.capture(documents)
        apart = isinstance(op, Attend) and any(axis not in dict(pairs)[port].type for port in ("q", "k"))
        if apart or ("mask?" if own not in (None, captured) else "segments?") not in op.inputs:
            raise error(
                "A219",
                f"`{op.name}` mixes `{axis}` across the documents of `{documents.graph.name_of(documents)}`",
                Label(span),
                Label(documents.graph.node(documents.node).span, f"`{axis}` is cut here"),
            )
        if own is None:
            pairs = [*pairs, ("segments", captured)]
        elif own != captured:  # cut by two inputs
            pairs = _masked(cx, pairs, documents, axis, span)
    return pairs


def _masked(cx: Context, pairs: Pairs, documents: Value, axis: str, span: Span) -> Pairs:
    """Only keys of the same document are seen: mask[.., axis, axis_key] = documents[axis] == documents[axis_key]."""
    cx = cx.inner(session=replace(cx.session, cuts={}))
    mask = calls.operation(cx, "same_segment", [("doc", documents)], {"on": (axis,)}, span)
    known = dict(pairs)
    if "mask" in known:
        mask = calls.operation(cx, "logical_and", [("a", known["mask"]), ("b", mask)], {}, span)
    return list({**known, "mask": mask}.items())
