"""Laws of positions in attention."""

import pytest
import torch

from archlang.primitive import AxisMap, OpError, Primitive
from archlang.primitives.domain import Causal, Full, Grid, Windows
from archlang.primitives.position import Alibi, Relative, Rope, Sinusoid
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


def test_relative_in_other_ranks():
    for sizes in ({"n": 4}, {"h": 2, "w": 2, "d": 2}, {"t": 4}):
        q = tensor(b=2, **sizes, heads=2, c=2)
        check_law(Relative(), q, q)
        check_law(Relative(over=Windows(size=2)), tensor(b=2, **sizes, c=2), q)
    q = tensor(b=symbol("b"), h=symbol("h"), w=symbol("w"), heads=2, group=2, c=2)
    check_law(Relative(over=Windows(size=2)), q, q, sizes={"h": 4, "w": 4})


def test_relative_is_by_offset():
    """Equal offsets have equal biases, the rows of the table in order of query - key."""
    q = tensor(n=3, heads=1, c=2)
    module = check_law(Relative(), q, q)
    module.op.weight.data = torch.arange(5.0, dtype=torch.float64)[:, None]
    x = torch.zeros(3, 1, 2, dtype=torch.float64)
    assert module(x, x)[0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12])
def test_alibi(heads: int):
    q = tensor(b=2, t=symbol("t"), heads=heads, c=2)
    check_law(Alibi(), q, q, sizes={"t": 5})
    check_law(Alibi(over=Causal()), tensor(n=4, heads=heads, c=2), tensor(n=4, c=2))


@pytest.mark.parametrize(
    "op", [Rope(), Rope(interleaved=True), Rope(dim=4), Rope(dim=2, base=100, interleaved=True)], ids=str
)
def test_rope(op: Rope):
    check_law(op, tensor(b=2, t=symbol("t"), heads=2, c=8), sizes={"t": 5})
    check_law(op, tensor(c=8, n=4, b=2))


def test_rope_keeps_products_of_equal_offsets():
    module = check_law(Rope(), tensor(t=6, c=8))
    q, k = (module(x.expand(6, 8)) for x in torch.randn(2, 8, dtype=torch.float64))
    products = q @ k.T
    for offset in range(-5, 6):
        diagonal = products.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


def test_sinusoid():
    check_law(Sinusoid(), tensor(b=2, t=symbol("t"), c=6), sizes={"t": 5})
    check_law(Sinusoid(base=100, on=("w",)), tensor(h=2, w=4, c=6))


@pytest.mark.parametrize(
    ("op", "types", "title"),
    [
        (Relative(), [tensor(n=symbol("n"), c=2)] * 2, "a size known at compile time"),
        (Relative(), [tensor(c=2), tensor(n=3, c=2)], "compares positions"),
        (Relative(), [tensor(n=4, c=2), tensor(n=3, c=2)], "`n` has 4 in `q` and 3 in `k`"),
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
