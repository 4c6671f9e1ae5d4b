"""Choice by measurement: the implementation of each operation that a record of `archlang tune` says is the fastest, and
what follows it in the same call.
"""

from collections.abc import Sequence

from archlang.ir import Node, Value
from archlang.passes.options import Options
from archlang.primitives.linear import Linear
from archlang.primitives.packed import PackedConv
from archlang.primitives.sliding import windows
from archlang.rewrite import Match, No, Result, Rule, rule
from archlang.tuning import Record, candidates, case, choose, loads

PACKED = "packed_linear packed_conv"
EPILOGUES = "relu relu6 gelu gelu_tanh silu swish sigmoid tanh hard_swish hard_sigmoid"
TUNED = "linear conv depthwise linear_recurrence attend"


def rules(options: Options) -> Sequence[Rule]:
    """None without a record, and with one of kernels alone."""
    record = loads(options.tuned) if options.tuned else None
    if record is None or (record.gpus and len(record.gpus) == len(record.devices)):
        return ()
    return implementation(record, options.evaluates), activation, residual


def implementation(record: Record, inference: bool) -> Rule:
    """The rule that follows a record."""

    @rule("layer(x, ...)", "reassociating", layer=TUNED)
    def implementation(m: Match) -> Result:
        """layer(x) = layer(x), in the way that was measured to be the fastest."""
        types = m.types(m.layer)
        known, about = candidates(m.layer.op, types, inference), case(m.layer.op, types)
        if len(known) == 1 or about is None:
            return None
        chosen = known[choose(about, known, record)]
        if chosen == m.layer.op:
            return None
        return m.results(m.add(chosen, m.layer, m.layer.label, **operands(m, m.layer)))

    return implementation


@rule("act(layer(x, ...))", "reassociating", act=EPILOGUES, layer=PACKED)
def activation(m: Match) -> Result:
    """act(layer(x)) in one call."""
    op = m.layer.op
    if op.activation or m.operand(m.layer, "other"):
        return None
    name = "silu" if m.act.op.name == "swish" else m.act.op.name
    return m.add(op.model_copy(update={"activation": name}), m.layer, m.layer.label, **operands(m, m.layer))


@rule("y + layer(x, ...)", "reassociating", layer=PACKED)
def residual(m: Match) -> Result:
    """y + layer(x) in one call."""
    op = m.layer.op
    if op.activation or m.operand(m.layer, "other"):
        return None
    if set(m.y.type.axes) != set(m.layer.types[0].axes) or m.y.type.dtype != m.layer.types[0].dtype:
        return No(f"{m.y.type} is added to all of {m.layer.types[0]}")
    if not _is_simple(op, m):
        return No("the result has axes that are flat while it is computed")
    return m.add(op, m.layer, m.layer.label, **operands(m, m.layer), other=m.y)


def _is_simple(packed: PackedConv, m: Match) -> bool:
    """Whether the result in memory has the axes of its type."""
    if isinstance(packed.op, Linear):
        return not isinstance(packed.op.units, tuple)
    return len(m.x.type.axes) == 2 + len(windows(packed.op, m.x.type))


def operands(m: Match, node: Node) -> dict[str, Value]:
    """What a node is given, by input."""
    return dict(m.graph.operands(node))
