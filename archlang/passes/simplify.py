"""Rules that make a graph smaller without changing a bit of what it computes.

What is false for -0.0, infinities or NaN is not here: x + 0, x * 0, x - x, x / x, exp(log(x)).
"""

from math import copysign

from archlang.ir import Graph, Kept, Node, Value, live, prune
from archlang.rewrite import Match, No, Record, Result, Rule, everywhere, rule


def same(m: Match, value: Value) -> Value | None:
    """The value, where it has the type of what it is to stand for."""
    made, meant = value.type, m.root.types[0]
    return value if set(made.axes) == set(meant.axes) and made.dtype == meant.dtype else None


# ---- evaluation: noise is for training
@rule("noise(x)", "exact", noise="dropout drop_path stochastic_depth label_dropout")
def no_noise(m: Match) -> Result:
    """In evaluation dropout(x) = x."""
    return m.x


@rule("attend(q, k, v, ...)", "exact")
def no_noise_in_attention(m: Match) -> Result:
    """In evaluation attend(q, k, v, drop = p) = attend(q, k, v)."""
    return m.vary(m.attend, drop=0) if m.attend.op.drop else None


@rule("extreme(extreme_1(x))", "exact", extreme="max min")
def extreme_of_extremes(m: Match) -> Result:
    """max over a of max over b = max over a and b. Several largest would share the gradient in another way."""
    return _over_both(m, m.extreme, m.extreme_1)


# ---- identities
@rule("identity(x)", "exact")
def no_identity(m: Match) -> Result:
    """identity(x) = x."""
    return m.x


@rule("x * 1", "exact")
def times_one(m: Match) -> Result:
    """x * 1 = x."""
    return same(m, m.x)


@rule("over(x, 1)", "exact", over="div pow")
def over_one(m: Match) -> Result:
    """x / 1 = x ** 1 = x."""
    return same(m, m.x)


@rule("x - 0", "exact")
def minus_zero(m: Match) -> Result:
    """x - 0 = x. Not x + 0, nor x - -0.0: these make 0 of -0.0."""
    return same(m, m.x) if copysign(1, m.sub.op.right) > 0 else None


@rule("neg(neg_1(x))", "exact")
def minus_minus(m: Match) -> Result:
    """--x = x."""
    return m.x


@rule("a + neg(b)", "exact")
def plus_minus(m: Match) -> Result:
    """a + -b = a - b."""
    return same(m, m.call("sub", m.a, m.b))


@rule("a - neg(b)", "exact")
def minus_of_minus(m: Match) -> Result:
    """a - -b = a + b."""
    return same(m, m.call("add", m.a, m.b))


@rule("even(neg(x))", "exact", even="abs square")
def even_of_minus(m: Match) -> Result:
    """|-x| = |x|, (-x)^2 = x^2."""
    return m.call(m.even.op.name, m.x)


@rule("logical_not(logical_not_1(x))", "exact")
def not_not(m: Match) -> Result:
    """not not x = x."""
    return m.x


@rule("either(x, x)", "exact", either="maximum minimum logical_and logical_or")
def of_itself(m: Match) -> Result:
    """x max x = x min x = x and x = x or x = x."""
    return m.x


@rule("where(condition, x, x)", "exact")
def where_the_same(m: Match) -> Result:
    """x where it holds, else x, is x."""
    return same(m, m.x)


# ---- what is done already
@rule("f(f_1(x))", "exact", shared="f_1", f="relu relu6 abs floor ceil round sign hard_tanh")
def done_already(m: Match) -> Result:
    """f(f(x)) = f(x) for relu, |x|, rounding, signs."""
    return m.result(m.f_1) if m.f.op == m.f_1.op else None


@rule("f(g(x))", "exact", shared="g", f="relu abs", g="relu relu6 abs square sigmoid softmax exp hard_sigmoid")
def not_negative(m: Match) -> Result:
    """relu(y) = |y| = y, where y is at least 0 or NaN."""
    return same(m, m.result(m.g)) if m.f.op != m.g.op else None


@rule("clamp(clamp_1(x))", "exact")
def clamp_of_clamp(m: Match) -> Result:
    """x kept between bounds twice is kept between the narrower ones, where they leave something."""
    bounds = [m.clamp.op.low, m.clamp_1.op.low, m.clamp.op.high, m.clamp_1.op.high]
    if not all(bound is None or isinstance(bound, int | float) for bound in bounds):
        return No("a bound is a free size")
    low = max((x for x in bounds[:2] if x is not None), default=None)
    high = min((x for x in bounds[2:] if x is not None), default=None)
    if low is not None and high is not None and low > high:
        return No("the bounds do not meet: one of them is all there is")
    return m.call("clamp", m.x, low=low, high=high)


_WIDER = {
    "bool": "uint8 int8 int16 int32 int64 int float float16 bfloat16 float32 float64 complex complex64 complex128",
    "uint8": "int16 int32 int64 int float32 float64",
    "int8": "int16 int32 int64 int float32 float64",
    "int16": "int32 int64 int float32 float64",
    "int32": "int64 int float64",
    "int64": "int",
    "int": "int64",
    "float16": "float32 float64",
    "bfloat16": "float32 float64",
    "float32": "float64",
    "complex64": "complex128 complex",
    "complex": "complex64 complex128",
}


@rule("cast(x)", "exact")
def cast_to_itself(m: Match) -> Result:
    """x as what it is."""
    return m.x if m.cast.op.dtype == m.x.type.dtype else None


@rule("cast(cast_1(x))", "exact")
def cast_of_cast(m: Match) -> Result:
    """x as one dtype and then as another is x as the other, where the first holds all that x may be."""
    if m.cast_1.op.dtype not in _WIDER.get(m.x.type.dtype, "").split():
        return No(f"`{m.cast_1.op.dtype}` does not hold every `{m.x.type.dtype}`")
    return m.call("cast", m.x, dtype=m.cast.op.dtype)


# ---- reductions
@rule("reduce(reduce_1(x))", "reassociating", reduce="mean sum prod all any")
def reduced_twice(m: Match) -> Result:
    """The mean over a of the mean over b is the mean over a and b; so are sums, products, all and any."""
    return _over_both(m, m.reduce, m.reduce_1)


def _over_both(m: Match, outer: Node, inner: Node) -> Result:
    """One reduction over the axes of two of a kind."""
    if type(outer.op) is not type(inner.op):
        return None
    before, after = m.x.type.names, m.root.types[0].names
    return m.call(outer.op.name, m.x, on=tuple(name for name in before if name not in after))


# ---- what nothing reads
def no_dead_code(graph: Graph, record: Record) -> Graph:
    """What no result needs is not computed. Weights stay."""

    def change(part: Graph) -> Graph:
        if (made := prune(part)) is part:
            return part
        needed = live(part)
        for node in part:
            if node.id not in needed and not isinstance(node.op, Kept):
                record.fired("no_dead_code", part, node, [node], [])
        return made

    return everywhere(graph, change)


EVALUATION: tuple[Rule, ...] = (no_noise, no_noise_in_attention, extreme_of_extremes)
RULES: tuple[Rule, ...] = (
    *(no_identity, times_one, over_one, minus_zero, minus_minus, plus_minus, minus_of_minus, even_of_minus),
    *(not_not, of_itself, where_the_same),
    *(done_already, not_negative, clamp_of_clamp, cast_to_itself, cast_of_cast, reduced_twice),
)
