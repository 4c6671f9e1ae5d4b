"""Laws of positions in attention."""

import pytest
import torch

import archlang
from archlang.primitive import AxisMap, OpError, Primitive
from archlang.primitives.domain import Causal, Full, Grid, Windows
from archlang.primitives.near import Chunks, Neighborhood, Sliding
from archlang.primitives.position import Distance, Relative
from archlang.primitives.position_bucket import Alibi, T5Buckets
from archlang.primitives.position_embedding import Sinusoid
from archlang.primitives.position_mlp import DynamicBias, LogCpb
from archlang.primitives.position_rotary import Rope
from archlang.primitives.position_scaling import Llama3, Ntk, PositionInterpolation, Scaling, Yarn
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law, single


def tensor(dtype: str = "float", **sizes: object) -> TensorType:
    return TensorType(tuple(axis(name, size) for name, size in sizes.items()), dtype)


@pytest.mark.parametrize(
    "over", [None, Full(), Windows(size=2), Windows(size=AxisMap((("h", 2), ("w", 3)))), Grid(size=2)], ids=str
)
def test_relative(over: object):
    q = tensor(b=2, h=4, w=6, heads=3, c=2)
    check_law(Relative(over=over), q, q)


@pytest.mark.parametrize("over", [Neighborhood(size=3), Neighborhood(size=3, dilation=2), Chunks(size=4)], ids=str)
def test_relative_to_what_is_near(over: object):
    for sizes in ({"n": 8}, {"h": 6, "w": 7}):
        if len(sizes) == 1 or not isinstance(over, Chunks):
            q = tensor(b=2, **sizes, heads=2, group=2, c=2)
            check_law(Relative(over=over), q, q, flops=False)  # a module that gives its weight itself cannot be counted
            check_law(Relative(over=over), tensor(b=2, **sizes, c=2), q, flops=False)


def test_relative_in_other_ranks():
    for sizes in ({"n": 4}, {"h": 2, "w": 2, "d": 2}, {"t": 4}):
        q = tensor(b=2, **sizes, heads=2, c=2)
        check_law(Relative(), q, q)
        check_law(Relative(over=Windows(size=2)), tensor(b=2, **sizes, c=2), q)
    q = tensor(b=symbol("b"), h=symbol("h"), w=symbol("w"), heads=2, group=2, c=2)
    check_law(Relative(over=Windows(size=2)), q, q, sizes={"h": 4, "w": 4})


def test_relative_of_a_larger_table():
    q = tensor(b=2, h=4, w=6, heads=2, c=2)
    check_law(Relative(window=7), q, q)
    check_law(Relative(window=AxisMap((("h", 5),)), over=Windows(size=AxisMap((("h", 4), ("w", 2))))), q, q)
    small = check_law(Relative(), tensor(n=2, c=2), tensor(n=2, c=2))
    large = check_law(Relative(window=3), tensor(n=2, c=2), tensor(n=2, c=2))
    small.op.weight.data = large.op.weight.data[1:-1]
    x = torch.zeros(2, 2, dtype=torch.float64)
    assert torch.equal(small(x, x), large(x, x))


def test_relative_is_by_offset():
    """Equal offsets have equal biases, the rows of the table in order of query - key."""
    q = tensor(n=3, heads=1, c=2)
    module = check_law(Relative(), q, q)
    module.op.weight.data = torch.arange(5.0, dtype=torch.float64)[:, None]
    x = torch.zeros(3, 1, 2, dtype=torch.float64)
    assert module(x, x)[0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


TABLES = [
    Distance(),
    LogCpb(hidden=6),
    LogCpb(hidden=6, pretrained=2),
    LogCpb(hidden=3, pretrained=AxisMap((("w", 3),))),
    DynamicBias(hidden=4),
    DynamicBias(hidden=4, depth=0),
]


@pytest.mark.parametrize("op", TABLES, ids=str)
def test_tables_by_offset(op: Primitive):
    q = tensor(b=2, h=4, w=6, heads=3, c=2)
    for over in (None, Windows(size=2, shift=1), Grid(size=AxisMap((("h", 4), ("w", 3))))):
        check_law(op.model_copy(update={"over": over}), q, q)


@pytest.mark.parametrize("op", [Distance(), LogCpb(hidden=6, pretrained=3), DynamicBias(hidden=4)], ids=str)
def test_tables_in_other_ranks(op: Primitive):
    for sizes in ({"n": 4}, {"h": 2, "w": 2, "d": 4}, {"t": 4}):
        q = tensor(b=2, **sizes, heads=2, c=2)
        check_law(op, tensor(b=2, **sizes, c=2), q)
        check_law(op.model_copy(update={"over": Windows(size=2)}), q, q)
    q = tensor(b=symbol("b"), h=symbol("h"), w=symbol("w"), heads=2, group=2, c=2)
    check_law(op.model_copy(update={"over": Windows(size=2)}), q, q, sizes={"h": 4, "w": 4})


def test_distance_is_the_same_both_ways():
    q = tensor(h=2, w=3, heads=1, c=2)
    module = check_law(Distance(), q, q)
    module.op.weight.data = torch.arange(6.0, dtype=torch.float64)[:, None]
    bias = module(*[torch.zeros(2, 3, 1, 2, dtype=torch.float64)] * 2)[0]
    assert torch.equal(bias, bias.T)
    assert bias[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_larger_window_reads_the_same_function():
    """With the window that weights come from, equal offsets have equal biases in a window of any size."""
    small, large = tensor(h=4, w=4, heads=2, c=2), tensor(h=8, w=8, heads=2, c=2)
    trained = check_law(LogCpb(hidden=8), small, small)
    moved = check_law(LogCpb(hidden=8, pretrained=4), large, large)
    moved.load_state_dict(trained.state_dict())
    x = torch.zeros(8, 8, 2, 2, dtype=torch.float64)
    inner = moved(x, x).view(2, 8, 8, 8, 8)[:, :4, :4, :4, :4].reshape(2, 16, 16)
    torch.testing.assert_close(inner, trained(x[:4, :4], x[:4, :4]))


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12])
def test_alibi(heads: int):
    q = tensor(b=2, t=symbol("t"), heads=heads, c=2)
    check_law(Alibi(), q, q, sizes={"t": 5})
    check_law(Alibi(over=Causal()), tensor(n=4, heads=heads, c=2), tensor(n=4, c=2))
    check_law(Alibi(over=Sliding(n=3)), q, q, sizes={"t": 5})
    check_law(Alibi(over=Neighborhood(size=3, dilation=2)), tensor(n=9, heads=heads, group=2, c=2), tensor(n=9, c=2))


@pytest.mark.parametrize("over", ["sliding(4)", "chunks(3) & causal", "neighborhood(5, dilation = 2)"])
def test_alibi_near_is_that_of_pairs(over: str):
    """bias[head, j - i] in a domain that moves with the query is -slope[head] |i - j|."""
    text = "model net {\n  input q: [b, n = 11, heads = 2, c = 4]\n%s  output y = attend(q, q, q, %s, over = OVER)\n}"
    near = archlang.loads((text % ("", "position = alibi")).replace("OVER", over)).net().module()
    given = "  input bias: [heads = 2, n, n_key = 11]\n"
    pairs = archlang.loads((text % (given, "bias = bias")).replace("OVER", over)).net().module()
    q, place = torch.randn(2, 11, 2, 4, generator=torch.Generator().manual_seed(0)), torch.arange(11.0)
    bias = -torch.tensor([2.0**-4, 2.0**-8])[:, None, None] * (place[:, None] - place).abs()
    torch.testing.assert_close(near(q), pairs(q, bias))


@pytest.mark.parametrize(
    "op", [T5Buckets(), T5Buckets(buckets=8, distance=12), T5Buckets(buckets=4, distance=5)], ids=str
)
def test_t5_buckets(op: T5Buckets):
    q = tensor(b=2, t=symbol("t"), heads=2, c=2)
    for size in (5, 40):
        check_law(op, q, q, sizes={"t": size})
    check_law(op, *[tensor(n=24, heads=2, group=2, c=2)] * 2)


def test_t5_buckets_look_both_ways_or_back():
    for role, buckets in (
        ("n", [[0, 5, 6, 6], [1, 0, 5, 6], [2, 1, 0, 5], [2, 2, 1, 0]]),
        ("t", [[0] * 4, [1, 0, 0, 0], [2, 1, 0, 0], [3, 2, 1, 0]]),
    ):
        q = tensor(**{role: 4}, heads=1, c=2)
        module = check_law(T5Buckets(buckets=8, distance=16), q, q)
        module.op.weight.data = torch.arange(8.0, dtype=torch.float64)[:, None]
        x = torch.zeros(4, 1, 2, dtype=torch.float64)
        assert module(x, x)[0].tolist() == buckets


SCALINGS: list[Scaling] = [
    PositionInterpolation(factor=4),
    Ntk(factor=2),
    Llama3(factor=8, original=32, low=1, high=4),
    Yarn(factor=4, original=64),
]


@pytest.mark.parametrize(
    "op",
    [
        Rope(),
        Rope(interleaved=True),
        Rope(dim=4),
        Rope(dim=2, base=100, interleaved=True),
        *(Rope(base=100, scaling=scaling) for scaling in SCALINGS),
    ],
    ids=str,
)
def test_rope(op: Rope):
    check_law(op, tensor(b=2, t=symbol("t"), heads=2, c=8), sizes={"t": 5})
    check_law(op, tensor(c=8, n=4, b=2))


@pytest.mark.parametrize(
    "op",
    [Rope(on=("space",)), Rope(on=("w", "h"), interleaved=True), Rope(on=("h", "w"), dim=4, scaling=SCALINGS[2])],
    ids=str,
)
def test_rope_on_a_map(op: Rope):
    check_law(op, tensor(b=2, h=symbol("h"), w=3, heads=2, c=8), sizes={"h": 4})
    check_law(op, tensor(c=12, w=2, h=3))
    if op.dim is None and "space" in op.on:
        check_law(op, tensor(h=2, w=3, d=4, c=12))


def test_rope_keeps_products_of_equal_offsets():
    module = check_law(Rope(), tensor(t=6, c=8))
    q, k = (module(x.expand(6, 8)) for x in torch.randn(2, 8, dtype=torch.float64))
    products = q @ k.T
    for offset in range(-5, 6):
        diagonal = products.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


def test_rope_on_a_map_keeps_products_of_equal_offsets():
    module = check_law(Rope(on=("h", "w")), tensor(h=3, w=4, c=8))
    q, k = (module(x.expand(3, 4, 8)) for x in torch.randn(2, 8, dtype=torch.float64))
    products = torch.einsum("hwc,ijc->hwij", q, k)
    torch.testing.assert_close(products[:2, :3, :2, :3], products[1:, 1:, 1:, 1:])
    assert not torch.allclose(products[0, 0, 0, 1], products[0, 0, 1, 0])


def test_sinusoid():
    check_law(Sinusoid(), tensor(b=2, t=symbol("t"), c=6), sizes={"t": 5})
    check_law(Sinusoid(base=100, on=("w",)), tensor(h=2, w=4, c=6))
    check_law(Sinusoid(interleaved=False), tensor(n=3, c=8))
    check_law(Sinusoid(on=("w", "h"), interleaved=False), tensor(b=2, h=symbol("h"), w=4, c=12), sizes={"h": 3})
    check_law(Sinusoid(on=("space",)), tensor(h=2, w=3, d=2, c=12))


@pytest.mark.parametrize(
    ("op", "types", "title"),
    [
        (Relative(), [tensor(n=symbol("n"), c=2)] * 2, "a size known at compile time"),
        (Relative(), [tensor(c=2), tensor(n=3, c=2)], "compares positions"),
        (Relative(), [tensor(n=4, c=2), tensor(n=3, c=2)], "`n` has 4 in `q` and 3 in `k`"),
        (Relative(), [tensor(n=4, heads=symbol("m"), c=2)] * 2, "a size known at compile time"),
        (Relative(window=3), [tensor(n=4, c=2)] * 2, "a window of 3 along `n`, where the cell has 4"),
        (LogCpb(hidden=0), [tensor(n=4, c=2)] * 2, "`hidden` must be at least 1"),
        (LogCpb(pretrained=-1), [tensor(n=4, c=2)] * 2, "the size of a window"),
        (LogCpb(pretrained=AxisMap((("w", 2),))), [tensor(n=4, c=2)] * 2, "no axis `w`"),
        (DynamicBias(hidden=2, depth=-1), [tensor(n=4, c=2)] * 2, "`depth`"),
        (T5Buckets(buckets=30), [tensor(n=4, c=2)] * 2, "a multiple of 4"),
        (T5Buckets(distance=8), [tensor(n=4, c=2)] * 2, "more than 8"),
        (T5Buckets(), [tensor(h=2, w=3, c=2)] * 2, "along one axis"),
        (Rope(on=("h", "w")), [tensor(h=2, w=3, c=6)], "a multiple of 4, for 2 axes"),
        (Rope(on=("w",)), [tensor(n=3, c=4)], "no axis `w`"),
        (Rope(scaling=Ntk(factor=0.5)), [tensor(n=3, c=4)], "at least 1"),
        (Rope(scaling=Llama3(factor=2, original=8, low=4)), [tensor(n=3, c=4)], "below `high`"),
        (Rope(scaling=Yarn(factor=2, original=8, fast=1)), [tensor(n=3, c=4)], "below `fast`"),
        (Rope(scaling=Yarn(factor=2, original=0)), [tensor(n=3, c=4)], "a length"),
        (Sinusoid(on=("h", "w")), [tensor(h=2, w=3, c=6)], "for each of 2 axes"),
        (Alibi(), [tensor(h=2, w=3, c=2)] * 2, "along one axis"),
        (Rope(), [tensor(h=2, w=3, c=2)], "along one axis"),
        (Rope(), [tensor(n=3, c=5)], "pairs of channels"),
        (Rope(dim=6), [tensor(n=3, c=4)], "pairs of channels"),
        (Rope(), [tensor("int", n=3, c=4)], "float"),
        (Sinusoid(), [tensor(n=3, c=5)], "pairs of channels"),
    ],
)
def test_refusals(op: Primitive, types: list[TensorType], title: str):
    with pytest.raises(OpError, match=".") as caught:
        single(op, types)
    assert title in str(caught.value)
