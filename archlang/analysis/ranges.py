"""Between which numbers a value lies whatever the inputs and weights are, as far as operations say."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from archlang.ir import Graph, Value

Range: TypeAlias = tuple[float, float]
ANY: Range = (-math.inf, math.inf)
_DEEP = 32  # operations that are looked through
_VIEWS = frozenset("rename rearrange split slice select expand flip roll identity sequence unsequence concat".split())


def _monotone(function: Callable[[float], float]) -> Callable[[Any, Range], Range]:
    return lambda op, x: (function(x[0]), function(x[1]))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _softplus(x: float) -> float:
    return x if x > 30 else math.log1p(_exp(x))


def _power(op: Any, x: Range) -> Range:
    """x ** p of what is not negative."""
    p = op.right
    if not isinstance(p, int | float) or p < 0 or x[0] < 0:
        return ANY
    return x[0] ** p, x[1] ** p


def _clamp(op: Any, x: Range) -> Range:
    low, high = (bound if isinstance(bound, int | float) else None for bound in (op.low, op.high))
    x = x if low is None else (max(x[0], low), max(x[1], low))
    return x if high is None else (min(x[0], high), min(x[1], high))


# of an operation and the range of what it is applied to
UNARY: Mapping[str, Callable[[Any, Range], Range]] = {
    "sigmoid": _monotone(_sigmoid),
    "tanh": _monotone(math.tanh),
    "exp": _monotone(_exp),
    "softplus": lambda op, x: ANY if op.model_fields_set else (_softplus(x[0]), _softplus(x[1])),
    "relu": _monotone(lambda x: max(x, 0.0)),
    "relu6": _monotone(lambda x: min(max(x, 0.0), 6.0)),
    "hard_sigmoid": lambda op, x: (0.0, 1.0),
    "softmax": lambda op, x: (0.0, 1.0),
    "sin": lambda op, x: (-1.0, 1.0),
    "cos": lambda op, x: (-1.0, 1.0),
    "square": lambda op, x: (0.0, max(x[0] * x[0], x[1] * x[1])),
    "abs": lambda op, x: (0.0, max(abs(x[0]), abs(x[1]))),
    "sqrt": lambda op, x: ANY if x[0] < 0 else (math.sqrt(x[0]), math.sqrt(x[1])),
    "log": lambda op, x: ANY if x[0] < 0 else (_log(x[0]), _log(x[1])),
    "neg": lambda op, x: (-x[1], -x[0]),
    "clamp": _clamp,
    "pow": _power,
}
BINARY: Mapping[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: 0.0 if 0 in (a, b) else a * b,
    "div": lambda a, b: a / b if b else math.inf,
}


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def bounds(graph: Graph, value: Value, deep: int = _DEEP) -> Range:
    """The least and the greatest number that a value can hold; NaN aside."""
    node = graph.producer(value)
    operands = dict(graph.operands(node))
    name = node.op.name
    if not deep:
        return ANY
    if name in _VIEWS:
        found = [bounds(graph, operand, deep - 1) for operand in operands.values()]
        return min(low for low, _ in found), max(high for _, high in found)
    if name in UNARY and len(operands) == 1:
        return UNARY[name](node.op, bounds(graph, next(iter(operands.values())), deep - 1))
    if name in BINARY:
        return _binary(name, *(_side(graph, node.op, operands, port, deep) for port in ("a", "b")))
    return ANY


def _side(graph: Graph, op: Any, operands: Mapping[str, Value], port: str, deep: int) -> Range:
    """The range of one side of an operator: a tensor or a number."""
    if port in operands:
        return bounds(graph, operands[port], deep - 1)
    number = getattr(op, op.numbers[port])
    return (number, number) if isinstance(number, int | float) else ANY


def _binary(name: str, a: Range, b: Range) -> Range:
    """The corners of the two ranges, where the operator is monotone in each side."""
    if name == "div" and b[0] <= 0 <= b[1]:
        return ANY
    corners = [BINARY[name](x, y) for x in a for y in b]
    return ANY if any(math.isnan(corner) for corner in corners) else (min(corners), max(corners))
