"""What each operation of a chain is in numbers: steps on a tape."""

from collections.abc import Callable, Mapping
from typing import Any

from archlang.emit.chains.tape import COLUMN, Tape

Numbers = Mapping[str, int]  # the fields of an operation, as steps
Form = Callable[..., int]  # (tape, numbers, *operands)


def _plain(op: str) -> Form:
    return lambda tape, numbers, x: tape.put(op, x)


def _binary(op: str) -> Form:
    return lambda tape, numbers, a, b: tape.put(op, a, b)


def _extreme(op: str, beyond: str) -> Form:
    """The larger or smaller; where one is a number, what equals it keeps its slope."""

    def form(tape: Tape, numbers: Numbers, a: int, b: int) -> int:
        x, bound = (b, a) if tape.kinds[a] is None else (a, b)
        if tape.kinds[bound] is not None:
            return tape.put(op, a, b)
        return tape.put("where", tape.put(beyond, x, bound), bound, x)

    return form


def _sigmoid(tape: Tape, numbers: Numbers, x: int, slope: float = 1.0) -> int:
    """x sigmoid(slope x)"""
    return tape.put("mul", x, tape.put("sigmoid", tape.put("mul", tape.number(slope), x)))


def _clip(tape: Tape, x: int, low: float, high: float, inside: int) -> int:
    """`inside`, and 0 or 1 of its ends where x is at or beyond `low` or `high`."""
    ends = (tape.number(0.0), tape.number(1.0))
    above = tape.put("where", tape.put("ge", x, tape.number(high)), ends[1], inside)
    return tape.put("where", tape.put("le", x, tape.number(low)), ends[0], above)


def _bounded(tape: Tape, x: int, low: float, high: float) -> int:
    ends = (tape.number(low), tape.number(high))
    above = tape.put("where", tape.put("ge", x, ends[1]), ends[1], x)
    return tape.put("where", tape.put("le", x, ends[0]), ends[0], above)


def _hard_sigmoid(tape: Tape, numbers: Numbers, x: int) -> int:
    return _clip(tape, x, -3.0, 3.0, tape.put("add", tape.put("div", x, tape.number(6.0)), tape.number(0.5)))


def _hard_swish(tape: Tape, numbers: Numbers, x: int) -> int:
    """x, 0 or x (x + 3) / 6"""
    inside = tape.put("div", tape.put("mul", x, tape.put("add", x, tape.number(3.0))), tape.number(6.0))
    above = tape.put("where", tape.put("ge", x, tape.number(3.0)), x, inside)
    return tape.put("where", tape.put("le", x, tape.number(-3.0)), tape.number(0.0), above)


def _rectified(tape: Tape, x: int, below: int) -> int:
    """x, and something else where it is not above 0."""
    return tape.put("where", tape.put("le", x, tape.number(0.0)), below, x)


def _relu(tape: Tape, numbers: Numbers, x: int) -> int:
    return _rectified(tape, x, tape.number(0.0))


def _elu(tape: Tape, numbers: Numbers, x: int) -> int:
    """alpha (e^x - 1) below 0; what is above it must not overflow there."""
    negative = tape.put("minimum", x, tape.number(0.0))
    below = tape.put("mul", numbers["alpha"], tape.put("expm1", negative))
    return _rectified(tape, x, below)


def _gelu(tape: Tape, numbers: Numbers, x: int) -> int:
    """x / 2 (1 + erf(x / sqrt 2))"""
    bend = tape.put("erf", tape.put("mul", x, tape.number(0.7071067811865476)))
    return tape.put("mul", tape.put("mul", tape.number(0.5), x), tape.put("add", tape.number(1.0), bend))


def _gelu_tanh(tape: Tape, numbers: Numbers, x: int) -> int:
    """x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))"""
    cubic = tape.put("mul", tape.number(0.044715), tape.put("mul", x, tape.put("mul", x, x)))
    inner = tape.put("mul", tape.number(1.5957691216057308), tape.put("add", x, cubic))
    return tape.put("mul", x, tape.put("sigmoid", inner))


def _softplus(tape: Tape, numbers: Numbers, x: int) -> int:
    return tape.put("div", tape.put("softplus", tape.put("mul", numbers["beta"], x)), numbers["beta"])


def _mish(tape: Tape, numbers: Numbers, x: int) -> int:
    return tape.put("mul", x, tape.put("tanh", tape.put("softplus", x)))


def _softsign(tape: Tape, numbers: Numbers, x: int) -> int:
    return tape.put("div", x, tape.put("add", tape.number(1.0), tape.put("abs", x)))


def _leaky(tape: Tape, numbers: Numbers, x: int) -> int:
    return _rectified(tape, x, tape.put("mul", numbers["slope"], x))


def _clamp(tape: Tape, numbers: Numbers, x: int) -> int:
    for field, beyond in (("low", "lt"), ("high", "gt")):
        if field in numbers:
            x = tape.put("where", tape.put(beyond, x, numbers[field]), numbers[field], x)
    return x


def _power(tape: Tape, numbers: Numbers, x: int, exponent: float) -> int:
    if exponent in (2, 3):
        square = tape.put("mul", x, x)
        return square if exponent == 2 else tape.put("mul", x, square)
    if exponent == -1:
        return tape.put("div", tape.number(1.0), x)
    return tape.put({0.5: "sqrt", -0.5: "rsqrt"}[exponent], x)


# ---- over a lane
def _mean(tape: Tape, x: int, lane: str) -> int:
    return tape.put("div", tape.sum(x, lane), tape.width(lane))


def _over(tape: Tape, x: int, square: int, eps: int) -> int:
    """x / sqrt(square + eps)"""
    root = tape.put("rsqrt", tape.put("add", square, eps))
    tape.hint(root, "scale")
    return tape.put("mul", x, root)


def _rms_norm(tape: Tape, numbers: Numbers, x: int, lane: str) -> int:
    return _over(tape, x, _mean(tape, tape.put("mul", x, x), lane), numbers["eps"])


def _centred(tape: Tape, x: int, lane: str) -> int:
    mean = _mean(tape, x, lane)
    centred = tape.put("sub", x, mean)
    tape.hint(mean, "mean")
    tape.hint(centred, "centred")
    return centred


def _var(tape: Tape, numbers: Numbers, x: int, lane: str) -> int:
    centred = _centred(tape, x, lane)
    return _mean(tape, tape.put("mul", centred, centred), lane)


def _layer_norm(tape: Tape, numbers: Numbers, x: int, lane: str) -> int:
    return _over(tape, _centred(tape, x, lane), _var(tape, numbers, x, lane), numbers["eps"])


def _l2_norm(tape: Tape, numbers: Numbers, x: int, lane: str) -> int:
    """x / max(|x|, eps); a length of 0 has no slope"""
    square = tape.sum(tape.put("mul", x, x), lane)
    near = tape.put("le", square, tape.put("mul", numbers["eps"], numbers["eps"]))
    length = tape.put("sqrt", tape.put("where", near, tape.number(1.0), square))
    tape.hint(square, "square")
    return tape.put("div", x, tape.put("where", near, numbers["eps"], length))


def _norm(tape: Tape, numbers: Numbers, x: int, lane: str) -> int:
    """|x|; a length of 0 has no slope"""
    square = tape.sum(tape.put("mul", x, x), lane)
    near = tape.put("le", square, tape.number(0.0))
    length = tape.put("sqrt", tape.put("where", near, tape.number(1.0), square))
    tape.hint(square, "square")
    return tape.put("where", near, tape.number(0.0), length)


def _max(tape: Tape, numbers: Numbers, x: int, lane: str) -> int:
    """The mean of those that are the largest: they share the slope."""
    largest = tape.put("eq", x, tape.peak(x, lane))
    total = tape.sum(tape.put("where", largest, x, tape.number(0.0)), lane)
    count = tape.sum(tape.put("where", largest, tape.number(1.0), tape.number(0.0)), lane)
    tape.hint(largest, "largest")
    tape.hint(count, "count")
    return tape.put("div", total, count)


def _min(tape: Tape, numbers: Numbers, x: int, lane: str) -> int:
    return tape.put("neg", _max(tape, numbers, tape.put("neg", x), lane))


def _softmax(tape: Tape, numbers: Numbers, x: int, lane: str) -> int:
    power = tape.put("exp", tape.below(x, lane))
    return tape.put("div", power, tape.sum(power, lane))


OVER: dict[str, Form] = {  # (tape, numbers, x, lane)
    "sum": lambda tape, numbers, x, lane: tape.sum(x, lane),
    "mean": lambda tape, numbers, x, lane: _mean(tape, x, lane),
    "var": _var,
    "norm": _norm,
    "max": _max,
    "min": _min,
    "softmax": _softmax,
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "l2_norm": _l2_norm,
}
FORMS: dict[str, Form] = {
    **{name: _plain(name) for name in "exp expm1 log log1p sqrt rsqrt sin cos erf abs sigmoid tanh neg".split()},
    **{name: _binary(name) for name in "add sub mul div".split()},
    "maximum": _extreme("maximum", "lt"),
    "minimum": _extreme("minimum", "gt"),
    "log2": lambda tape, numbers, x: tape.put("mul", tape.number(1.4426950408889634), tape.put("log", x)),
    "reciprocal": lambda tape, numbers, x: tape.put("div", tape.number(1.0), x),
    "square": lambda tape, numbers, x: tape.put("mul", x, x),
    "clamp": _clamp,
    "relu": _relu,
    "relu6": lambda tape, numbers, x: _bounded(tape, x, 0.0, 6.0),
    "hard_tanh": lambda tape, numbers, x: _bounded(tape, x, -1.0, 1.0),
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "silu": _sigmoid,
    "swish": _sigmoid,
    "quick_gelu": lambda tape, numbers, x: _sigmoid(tape, numbers, x, 1.702),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "mish": _mish,
    "softsign": _softsign,
    "softplus": _softplus,
    "leaky_relu": _leaky,
    "elu": _elu,
}


def lowered(tape: Tape, op: Any, numbers: Numbers, operands: Mapping[str, int], lane: str = COLUMN) -> int:
    """The steps of an operation; `numbers` are those of its fields that hold some, `lane` is that of norms and sums."""
    if op.name in OVER:
        return OVER[op.name](tape, numbers, operands["x"], lane)
    if op.name == "pow":
        return _power(tape, numbers, operands["a"], op.right)
    sides = getattr(op, "numbers", {})
    given = [operands[p] if p in operands else numbers[sides[p]] for p in _ports(op, operands)]
    return FORMS[op.name](tape, numbers, *given)


def _ports(op: Any, operands: Mapping[str, int]) -> list[str]:
    sides = getattr(op, "numbers", {})
    return [port.strip("*?") for port in op.inputs if port.strip("*?") in {**sides, **operands}]
