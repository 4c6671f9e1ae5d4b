"""The way back along a tape: what each step passes on of the slope of its result."""

from collections.abc import Callable, Mapping

from archlang.emit.chains.tape import Tape

Slope = Callable[[Tape, tuple[int, ...], int, int], tuple[int | None, ...]]  # (tape, operands, result, its slope)


def _times(tape: Tape, *parts: int | float) -> int:
    made, *rest = (part if isinstance(part, int) else tape.number(part) for part in parts)
    for part in rest:
        made = tape.put("mul", made, part)
    return made


def _less(tape: Tape, a: float | int, b: int) -> int:
    return tape.put("sub", a if isinstance(a, int) else tape.number(a), b)


def _where(tape: Tape, op: str, a: int, b: int | float, yes: int | float, no: int | float) -> int:
    b, yes, no = (x if isinstance(x, int) else tape.number(x) for x in (b, yes, no))
    return tape.put("where", tape.put(op, a, b), yes, no)


def _divided(tape: Tape, args: tuple[int, ...], y: int, slope: int) -> tuple[int, int]:
    part = tape.put("div", slope, args[1])
    return part, tape.put("neg", tape.put("mul", part, y))


def _larger(op: str) -> Slope:
    """All to the larger (or smaller), half to either where they are equal, as in PyTorch."""

    def slopes(tape: Tape, args: tuple[int, ...], y: int, slope: int) -> tuple[int, int]:
        a, b = args
        half = _where(tape, "eq", a, b, _times(tape, 0.5, slope), 0.0)
        return tuple(_where(tape, op, x, other, slope, half) for x, other in ((a, b), (b, a)))  # type: ignore[return-value]

    return slopes


def _back(tape: Tape, y: int, slope: int, turned: bool) -> int:
    """A slope along the lane that a value came from."""
    lane, to = tape.steps[y].text.split()
    return tape.move(slope, to, lane, turned)


SLOPES: Mapping[str, Slope] = {
    "add": lambda t, x, y, g: (g, g),
    "sub": lambda t, x, y, g: (g, t.put("neg", g)),
    "mul": lambda t, x, y, g: (t.put("mul", g, x[1]), t.put("mul", g, x[0])),
    "div": _divided,
    "neg": lambda t, x, y, g: (t.put("neg", g),),
    "exp": lambda t, x, y, g: (t.put("mul", g, y),),
    "log": lambda t, x, y, g: (t.put("div", g, x[0]),),
    "log1p": lambda t, x, y, g: (t.put("div", g, t.put("add", t.number(1.0), x[0])),),
    "expm1": lambda t, x, y, g: (t.put("mul", g, t.put("exp", x[0])),),
    "sqrt": lambda t, x, y, g: (t.put("div", _times(t, 0.5, g), y),),
    "rsqrt": lambda t, x, y, g: (_times(t, -0.5, g, y, y, y),),
    "sin": lambda t, x, y, g: (t.put("mul", g, t.put("cos", x[0])),),
    "cos": lambda t, x, y, g: (t.put("neg", t.put("mul", g, t.put("sin", x[0]))),),
    "erf": lambda t, x, y, g: (_times(t, 1.1283791670955126, g, t.put("exp", t.put("neg", _times(t, x[0], x[0])))),),
    "abs": lambda t, x, y, g: (_where(t, "lt", x[0], 0.0, t.put("neg", g), _where(t, "gt", x[0], 0.0, g, 0.0)),),
    "sigmoid": lambda t, x, y, g: (_times(t, g, y, _less(t, 1.0, y)),),
    "tanh": lambda t, x, y, g: (t.put("mul", g, _less(t, 1.0, _times(t, y, y))),),
    "softplus": lambda t, x, y, g: (t.put("mul", g, t.put("sigmoid", x[0])),),
    "maximum": _larger("gt"),
    "minimum": _larger("lt"),
    "where": lambda t, x, y, g: (
        None,
        t.put("where", x[0], g, t.number(0.0)),
        t.put("where", x[0], t.number(0.0), g),
    ),
    "sum": lambda t, x, y, g: (g,),
    "peak": lambda t, x, y, g: (None,),
    "below": lambda t, x, y, g: (g,),
    "turn": lambda t, x, y, g: (_back(t, y, g, True),),
    "same": lambda t, x, y, g: (_back(t, y, g, False),),
}


def backward(tape: Tape, results: Mapping[int, int]) -> dict[int, int]:
    """The slopes of all that was read, from those of the results, by step."""
    slopes: dict[int, int] = dict(results)
    for step in reversed(tape.needed(results)):
        if (slope := slopes.get(step)) is None or not tape.steps[step].args:
            continue
        args = tape.steps[step].args
        wanted = SLOPES[tape.steps[step].op](tape, args, step, slope)
        for arg, part in zip(args, wanted, strict=True):
            if part is not None and tape.kinds[arg] is not None:
                part = _narrowed(tape, step, arg, part)
                slopes[arg] = tape.put("add", slopes[arg], part) if arg in slopes else part
    return {step: slope for step, slope in slopes.items() if not tape.steps[step].args}


def _narrowed(tape: Tape, step: int, arg: int, part: int) -> int:
    """What is alike along a lane gets the sum over it of what all elements pass on."""
    for lane in sorted(tape.lanes(step) - tape.lanes(arg)) if tape.steps[step].op not in ("turn", "same") else ():
        part = tape.sum(part, lane)
    return part
