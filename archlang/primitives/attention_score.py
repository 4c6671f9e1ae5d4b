"""The options of a score other than a plain softmax, as arguments of `scored_attention`."""

from typing import Any

from archlang.primitive import Emission, Term
from archlang.primitives.attention_code import EXTRA, Layout, arrange, extra_axes
from archlang.primitives.score import Softmax
from archlang.sizes import Size, product


def most(op: Any, types: tuple[Any, ...], parts: Layout) -> Size:
    """The number of keys that a query sees at most, those beside the map included."""
    extra = types[EXTRA] if len(types) > EXTRA else None
    beside = product(axis.size for axis in extra_axes(parts, extra)) if extra is not None else 0
    count: Size = op.domain(parts).most(parts.keys) + beside
    return count


def scored(
    op: Any, code: Emission, parts: Layout, sink: Term | None, logit_mix: Term | None, weight_mix: Term | None
) -> dict[str, str]:
    """Nothing for a plain softmax."""
    found: dict[str, str] = {}
    if not isinstance(op.score, Softmax):
        found["score"] = op.score.emit(code, most(op, code.inputs, parts))
    if op.cap is not None:
        found["cap"] = code.const(float(op.cap))
    if sink is not None:
        heads = {"*heads": parts.heads, "*query": (), "*key": ()}
        found["sink"] = arrange(code, sink, heads).code
    elif op.sink is not None:
        found["sink"] = f"torch.tensor({code.const(float(op.sink))}, device={code.device()})"
    for name, mix in (("logit_mix", logit_mix), ("weight_mix", weight_mix)):
        if mix is not None:
            (own,) = (axis.name for axis in parts.heads)
            found[name] = code.last(mix, [axis for axis in mix.order if axis != own]).code
    return found
