"""Forms of linear recurrences that hold under what is known of their decays."""

import math
from typing import Any

from archlang.analysis.ranges import bounds
from archlang.rewrite import Match, No, Result, Rule, rule


@rule("linear_recurrence(...)", "reassociating")
def bounded_decay(m: Match) -> Result:
    """A decay per key channel that is never below a number may be divided out inside a chunk."""
    op: Any = m.root.op
    given = dict(m.graph.operands(m.root))
    decay = given.get("decay") or given.get("log_decay")
    if decay is None or op.least or "c" not in decay.type or "c_value" in decay.type:
        return None
    if "segments" in given:
        return No("where a document starts, the decay is 0")
    least, _ = bounds(m.graph, decay)
    least = math.exp(min(least, 0.0)) if "log_decay" in given else least
    if least <= 0:
        return No("nothing bounds the decay from below: chunks are made of products of blocks, which any decay allows")
    return m.results(m.add(op.model_copy(update={"least": least}), None, None, **given))


RULES: tuple[Rule, ...] = (bounded_decay,)
