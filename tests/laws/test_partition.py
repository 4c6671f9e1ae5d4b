"""Laws of maps cut into cells."""

import pytest
import torch

from archlang.primitive import AxisMap, OpError
from archlang.primitives.domain import Axial, Domain, Full, Grid, Stripes, Windows
from archlang.primitives.near import Chunks, Sliding
from archlang.primitives.partition import Partition, Unpartition
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law, single


def tensor(**sizes: object) -> TensorType:
    return TensorType(tuple(axis(name, size) for name, size in sizes.items()))


CELLS = [
    Windows(size=2),
    Windows(size=2, dilation=2),
    Windows(size=AxisMap((("h", 4), ("w", 2))), dilation=AxisMap((("w", 3),))),
    Windows(size=99),
    Grid(size=2),
    Stripes(sizes=AxisMap((("h", 2),))),
    Axial(on=("w",)),
    Full(),
]


@pytest.mark.parametrize("domain", CELLS, ids=str)
def test_partition(domain: Domain):
    check_law(Partition(over=domain), tensor(b=3, h=4, w=12, c=2))
    if str(domain) not in ("windows(size = 99)", "full"):
        check_law(Partition(over=domain), tensor(h=4, c=2, w=12))


@pytest.mark.parametrize("domain", [*CELLS, Chunks(size=3)], ids=str)
def test_there_and_back(domain: Domain):
    map_ = tensor(b=3, n=12, c=2) if isinstance(domain, Chunks) else tensor(b=3, h=4, w=12, c=2)
    cut, cells = check_law(Partition(over=domain), map_), single(Partition(over=domain), [map_])[1].types[0]
    join = check_law(Unpartition(over=domain), cells, map_)
    x = torch.randn([axis.size for axis in map_], dtype=torch.float64)
    order = single(Unpartition(over=domain), [cells, map_])[1].types[0].names
    assert torch.equal(join(cut(x), x), x.permute([map_.names.index(name) for name in order]))


def test_free_sizes():
    check_law(
        Partition(over=Windows(size=2)),
        tensor(b=symbol("b"), h=symbol("h"), w=symbol("w"), c=2),
        sizes={"h": 4, "w": 6},
    )


@pytest.mark.parametrize(
    ("op", "types", "title"),
    [
        (Partition(over=Windows(size=3)), [tensor(b=2, h=4, c=1)], "needs `h` to be a multiple of 3, and it is 4"),
        (Partition(over=Chunks(size=3)), [tensor(b=2, n=4, c=1)], "needs `n` to be a multiple of 3, and it is 4"),
        (Partition(over=Windows(size=2, shift=1)), [tensor(b=2, h=4, c=1)], "does not cut a map into cells"),
        (Partition(over=Sliding(n=2)), [tensor(b=2, h=4, c=1)], "does not cut a map into cells"),
        (Partition(over=Windows(size=2)), [tensor(b=2, t=4, c=1)], "has no space axis"),
        (Unpartition(over=Windows(size=2)), [tensor(b=4, c=1), tensor(b=2, h=4, c=1)], "there is no axis `h`"),
    ],
)
def test_refusals(op: Partition | Unpartition, types: list[TensorType], title: str):
    with pytest.raises(OpError, match=".") as caught:
        single(op, types)
    assert title in str(caught.value)
