"""Laws of domains: who sees whom, by the paper's words; every domain beside every option equals the slow meaning."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from archlang.facts import Facts
from archlang.primitive import AxisMap, OpError
from archlang.primitives.attention import Attend
from archlang.primitives.domain import Axial, Causal, Domain, Full, Grid, Stripes, Windows
from archlang.primitives.near import Chunks, Neighborhood, Radius, Sliding
from archlang.primitives.position import Relative
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law, single

MAP = {"b": 2, "h": 6, "w": 9, "heads": 2, "c": 3}


def tensor(dtype: str = "float", **sizes: object) -> TensorType:
    return TensorType(tuple(axis(name, size) for name, size in sizes.items()), dtype)


def alike(**sizes: object) -> list[TensorType]:
    return [tensor(**sizes)] * 3


def per(**sizes: int) -> AxisMap:
    return AxisMap(tuple(sizes.items()))


ON_MAPS = [
    Neighborhood(size=3),
    Neighborhood(size=per(h=3, w=5)),
    Neighborhood(size=3, dilation=2),
    Neighborhood(size=3, dilation=per(h=1, w=3)),
    Neighborhood(size=per(h=3)),
    Stripes(sizes=per(h=2)),
    Axial(on=("w",)),
    Windows(size=3, dilation=per(h=2)),
    Windows(size=per(h=3, w=3), dilation=per(h=2, w=3)),
    Radius(r=2),
    Radius(r=3),
    Neighborhood(size=3).meet(Sliding(n=2)),
    Sliding(n=per(h=2, w=3)),
    Radius(r=3).meet(Sliding(n=per(h=2))),
]


@pytest.mark.parametrize("domain", ON_MAPS, ids=str)
def test_on_a_map(domain: Domain):
    check_law(Attend(over=domain), *alike(**MAP))


MEETS = [
    Radius(r=3).meet(Stripes(sizes=per(w=4))),
    Neighborhood(size=5).meet(Windows(size=4)),
    Windows(size=4, shift=2).meet(Neighborhood(size=3)),
    Windows(size=4, shift=1).meet(Windows(size=4)),
    Windows(size=4).meet(Stripes(sizes=per(h=3))),
    Axial(on=("h",)).meet(Neighborhood(size=3)),
    Neighborhood(size=3, dilation=2).meet(Sliding(n=2)),
    Neighborhood(size=3, dilation=2).meet(Windows(size=4, shift=2)),
    Neighborhood(size=3, dilation=2).meet(Neighborhood(size=3, dilation=per(h=3, w=2))),
]


@pytest.mark.parametrize("free", [False, True], ids=["sized", "free"])
@pytest.mark.parametrize("domain", MEETS, ids=str)
def test_meets(domain: Domain, free: bool):
    sides = (symbol("h"), symbol("w")) if free else (12, 8)
    types = alike(b=1, h=sides[0], w=sides[1], heads=2, c=3)
    check_law(Attend(over=domain), *types, sizes={"h": 12, "w": 8}, gradients=not free)


@pytest.mark.parametrize("domain", [MEETS[0], MEETS[4], Sliding(n=5).meet(MEETS[6]), MEETS[8]], ids=str)
def test_meets_with_a_table(domain: Domain):
    types = alike(b=1, h=12, w=8, heads=2, c=3)
    table = Relative(over=domain)
    check_law(table, *types[:2])
    check_law(Attend(over=domain), *types, table.infer(Facts(), *types[:2]))


FREE = [Neighborhood(size=3), Neighborhood(size=3, dilation=2), Radius(r=2), Stripes(sizes=per(h=2)), Axial(on=("h",))]


@pytest.mark.parametrize("domain", [*FREE, Windows(size=2, dilation=2)], ids=str)
def test_over_free_sizes(domain: Domain):
    types = alike(b=2, h=symbol("h"), w=symbol("w"), heads=2, c=3)
    check_law(Attend(over=domain), *types, sizes={"h": 8, "w": 12})


@pytest.mark.parametrize("length", [11, symbol("t")], ids=str)
@pytest.mark.parametrize("domain", [Neighborhood(size=3, dilation=2), Chunks(size=4), Sliding(n=3)], ids=str)
def test_on_time(domain: Domain, length: object):
    check_law(Attend(over=domain), *alike(b=2, t=length, heads=2, c=3), sizes={"t": 11})


@pytest.mark.parametrize("domain", [Chunks(size=4), Chunks(size=99), Sliding(n=3).meet(Causal())], ids=str)
def test_on_one_axis(domain: Domain):
    check_law(Attend(over=domain), *alike(b=2, n=10, heads=2, c=3))


@pytest.mark.parametrize("domain", [Sliding(n=3), Neighborhood(size=3), Radius(r=2), Axial(on=("w",))], ids=str)
@pytest.mark.parametrize("lacking", ["heads", "b"])
def test_axes_that_one_side_lacks(domain: Domain, lacking: str):
    """One key for all heads, queries for all samples, and the other way round."""
    sizes: dict[str, object] = {"b": 2, "h": symbol("h"), "w": symbol("w"), "heads": 2, "c": 3}
    whole, less = tensor(**sizes), tensor(**{name: size for name, size in sizes.items() if name != lacking})
    for types in ([whole, less, less], [less, whole, whole], [whole, whole, less], [less, less, whole]):
        check_law(Attend(over=domain), *types, sizes={"h": 5, "w": 6})


def test_a_dilated_neighborhood_in_many_tiles():
    check_law(Attend(over=Neighborhood(size=3, dilation=2)), *alike(b=2, n=17, heads=2, c=3))


def test_on_a_volume():
    volume = {"b": 1, "d": 4, "h": 3, "w": 5, "heads": 1, "c": 2}
    for domain in (Neighborhood(size=3), Axial(on=("d",)), Stripes(sizes=per(d=2))):
        check_law(Attend(over=domain), *alike(**volume), gradients=False)


def test_space_and_time():
    video = {"b": 2, "t": 4, "n": 7, "heads": 2, "c": 3}
    check_law(Attend(over=Sliding(n=per(t=2, n=2))), *alike(**video))
    check_law(Attend(over=Neighborhood(size=per(n=3)).meet(Causal())), *alike(**video))
    check_law(Attend(over=Axial(on=("n",))), *alike(**video))


@pytest.mark.parametrize("domain", [Neighborhood(size=5, dilation=2), Neighborhood(size=3, dilation=3)], ids=str)
@pytest.mark.parametrize("length", [3, 5])
def test_a_dilated_past_longer_than_the_sequence(domain: Domain, length: int):
    """As many positions as there are, but not all of them are seen."""
    check_law(Attend(over=domain), *alike(b=2, t=length, heads=2, c=3))
    check_law(Attend(over=domain.meet(Sliding(n=3))), *alike(b=2, t=length, heads=2, c=3))


@pytest.mark.parametrize("sides", [(4, 4), (4, 8), (8, 4)], ids=str)
def test_no_shift_where_a_free_size_is_the_window(sides: tuple[int, int]):
    types = alike(b=2, h=symbol("h"), w=symbol("w"), heads=2, c=3)
    over = Windows(size=4, shift=per(h=2, w=1))
    for domain in (over, over.meet(Neighborhood(size=3))):
        check_law(Attend(over=domain), *types, sizes=dict(zip("hw", sides, strict=True)))
    check_law(Attend(over=over), *types, tensor(heads=2, query=16, key=16), sizes=dict(zip("hw", sides, strict=True)))


# ---- what is seen
def seen(domain: Domain, *sizes: int) -> list[list[tuple[int, ...]]]:
    """For every query of a map, flattened, the keys that reach it: those whose value has a gradient."""
    names = ("h", "w")[: len(sizes)] if len(sizes) > 1 else ("n",)
    type_ = tensor(**dict(zip(names, sizes, strict=True)), c=1)
    graph, _ = single(Attend(over=domain), [type_] * 3)
    from archlang.emit import load
    from archlang.emit.torch import class_name, emit

    module = load(emit(graph), class_name(graph))()
    v = torch.zeros(*sizes, 1, requires_grad=True)
    out = module(torch.zeros(*sizes, 1), torch.zeros(*sizes, 1), v).flatten()
    rows = [torch.autograd.grad(value, v, retain_graph=True)[0][..., 0] for value in out]
    return [[tuple(map(int, place)) for place in row.nonzero()] for row in rows]


def one(domain: Domain, size: int) -> list[list[int]]:
    return [[place for (place,) in keys] for keys in seen(domain, size)]


def test_a_neighborhood_moves_inwards_at_borders():
    assert one(Neighborhood(size=3), 5) == [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4], [2, 3, 4]]
    assert all(len(keys) == 9 for keys in seen(Neighborhood(size=3), 4, 5))


def test_a_dilated_neighborhood_stays_in_its_class():
    """Of unequal sizes, where the dilation does not divide the axis."""
    wanted = [[0, 2, 4], [1, 3, 5], [0, 2, 4], [1, 3, 5], [2, 4, 6], [1, 3, 5], [2, 4, 6]]
    assert one(Neighborhood(size=3, dilation=2), 7) == wanted


def test_chunks_windows_and_radius():
    assert one(Chunks(size=2), 5) == [[0, 1], [0, 1], [2, 3], [2, 3], [4]]
    assert one(Windows(size=2, dilation=2), 8) == [[0, 2], [1, 3], [0, 2], [1, 3], [4, 6], [5, 7], [4, 6], [5, 7]]
    assert one(Radius(r=2), 4) == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]
    middle = seen(Radius(r=2), 5, 5)[12]  # the corners are at the square root of 2, two steps away is too far
    assert middle == [(i, j) for i in range(5) for j in range(5) if (i - 2) ** 2 + (j - 2) ** 2 < 4]


def test_stripes_and_axes():
    assert seen(Stripes(sizes=per(h=1)), 2, 3)[4] == [(1, 0), (1, 1), (1, 2)]
    assert seen(Axial(on=("h",)), 2, 3)[4] == [(0, 1), (1, 1)]


# ---- biases and masks
@pytest.mark.parametrize(
    "domain", [Neighborhood(size=3), Sliding(n=2), Chunks(size=3), Neighborhood(size=3, dilation=2)], ids=str
)
def test_a_bias_by_offset(domain: Domain):
    check_law(Attend(over=domain), *alike(b=2, n=8, heads=2, c=3), tensor(heads=2, n_offset=5))
    check_law(Attend(over=domain), *alike(b=2, n=8, heads=2, c=3), tensor(b=2, n_offset=5))


def test_a_bias_by_offset_on_a_map():
    table = tensor(heads=2, h_offset=5, w_offset=5)
    check_law(Attend(over=Neighborhood(size=3)), *alike(**MAP), table)
    check_law(Attend(over=Neighborhood(size=3, dilation=2)), *alike(**MAP), table)
    check_law(Attend(over=Radius(r=3)), *alike(**MAP), table)
    check_law(Attend(over=Sliding(n=3)), *alike(b=2, t=9, heads=2, c=3), tensor(heads=2, t_offset=5))


def test_biases_and_masks_beside_what_is_near():
    for domain in (Neighborhood(size=3), Sliding(n=2)):
        check_law(Attend(over=domain), *alike(**MAP), tensor(heads=2, h=6, h_key=6))
        check_law(Attend(over=domain), *alike(**MAP), None, tensor("bool", b=2, h=6, w=9))
        check_law(Attend(over=domain), *alike(**MAP), tensor(heads=2, query=54, key=54), tensor("bool", w=9, w_key=9))
    check_law(Attend(over=Chunks(size=3)), *alike(b=2, n=8, heads=2, c=3), None, tensor("bool", b=2, n=8))


@pytest.mark.parametrize(
    "domain", [Windows(size=3), Windows(size=3, shift=1), Grid(size=3), Stripes(sizes=per(w=3))], ids=str
)
def test_masks_in_cells(domain: Domain):
    check_law(Attend(over=domain), *alike(**MAP), None, tensor("bool", b=2, h=6, w=9))


def test_a_mask_over_places_of_a_window():
    check_law(Attend(over=Windows(size=3)), *alike(**MAP), None, tensor("bool", query=9, key=9))
    check_law(
        Attend(over=Windows(size=3)), *alike(**MAP), tensor(heads=2, query=9, key=9), tensor("bool", b=2, h=6, w=9)
    )


CELLS = [
    Windows(size=3),
    Windows(size=3, shift=1),
    Windows(size=3, shift=per(w=2)),
    Windows(size=3, dilation=per(w=3)),
    Grid(size=3),
    Stripes(sizes=per(w=3)),
    Axial(on=("h",)),
]


@pytest.mark.parametrize("domain", CELLS, ids=str)
def test_biases_and_masks_over_pairs_in_cells(domain: Domain):
    """Of all positions, of one axis, and of keys alone."""
    every = {"h": 6, "w": 9, "h_key": 6, "w_key": 9}
    check_law(Attend(over=domain), *alike(**MAP), tensor(heads=2, **every), tensor("bool", b=2, **every))
    check_law(Attend(over=domain), *alike(**MAP), tensor(b=2, h=6, h_key=6), tensor("bool", w=9, w_key=9))
    check_law(Attend(over=domain), *alike(**MAP), tensor(b=2, h=6, w=9, heads=2), tensor("bool", h=6, w_key=9))


def test_pairs_of_free_sizes_in_cells():
    free, sides = alike(b=2, n=symbol("n"), heads=2, c=3), {"n": symbol("n"), "n_key": symbol("n")}
    for domain in (Windows(size=2, shift=1), Grid(size=3)):
        pairs = tensor(heads=2, **sides), tensor("bool", **sides)
        check_law(Attend(over=domain), *free, *pairs, sizes={"n": 12})


# ---- keys beside the map
BESIDE = [Full(), Windows(size=3), Windows(size=3, shift=1), Neighborhood(size=3), Radius(r=2)]


@pytest.mark.parametrize("domain", BESIDE, ids=str)
def test_registers(domain: Domain):
    """Every query sees the keys beside the map."""
    extra = tensor(b=2, r=4, heads=2, c=3)
    none: list[Any] = [None] * 6
    check_law(Attend(over=domain), *alike(**MAP), *none, extra, extra)
    check_law(Attend(over=domain), *alike(**MAP), *none, tensor(r=4, c=3), tensor(heads=2, r=4, c=3))


def test_registers_beside_biases():
    extra, none = tensor(b=2, r=4, heads=2, c=3), [None] * 4
    check_law(Attend(over=Windows(size=3)), *alike(**MAP), tensor(heads=2, query=9, key=9), None, *none, extra, extra)
    check_law(Attend(), *alike(**MAP), None, tensor("bool", b=2, h=6, w=9), *none, extra, extra)
    check_law(
        Attend(over=Neighborhood(size=3)),
        *alike(**MAP),
        tensor(heads=2, h_offset=5, w_offset=5),
        None,
        *none,
        extra,
        extra,
    )
    check_law(Attend(), *alike(b=2, t=5, heads=2, c=3), None, None, *none, extra, extra)


def test_registers_see_all():
    """With q of their own and no domain."""
    axes = tensor(b=2, r=4, heads=2, c=3)
    extra = TensorType(tuple(replace(a, role="space") if a.name == "r" else a for a in axes))
    check_law(Attend(over=Full()), extra, *alike(**MAP)[1:], *[None] * 6, extra, extra)


# ---- conditions and refusals
def test_conditions():
    facts = Facts()
    types = alike(b=2, h=symbol("h"), w=12, heads=2, c=3)
    Attend(over=Neighborhood(size=3, dilation=2)).infer(facts, *types)
    assert [str(condition) for condition in facts.conditions] == ["6 <= h"]
    facts = Facts()
    Attend(over=Windows(size=2, dilation=3)).infer(facts, *types)
    assert [str(condition) for condition in facts.conditions] == ["h % 2 == 0", "h % 6 == 0"]


@pytest.mark.parametrize(
    ("op", "types", "title"),
    [
        (Attend(over=Neighborhood(size=7)), alike(**MAP), "needs 7 positions along `h`, and there are 6"),
        (Attend(over=Neighborhood(size=3, dilation=3)), alike(**MAP), "needs 3 * 3 = 9 positions along `h`, and there"),
        (Attend(over=Neighborhood(size=4)), alike(**MAP), "its size is odd"),
        (Attend(over=Stripes(sizes=per(h=4))), alike(**MAP), "needs `h` to be a multiple of 4, and it is 6"),
        (Attend(over=Stripes(sizes=per(z=4))), alike(**MAP), "no axis `z`"),
        (Attend(over=Axial(on=("z",))), alike(**MAP), "no axis `z`"),
        (Attend(over=Chunks(size=4)), alike(**MAP), "`chunks` are of one axis, not of h, w"),
        (
            Attend(over=Windows(size=3, dilation=3)),
            alike(**MAP),
            "needs `h` to be a multiple of 3 * 3 = 9, and it is 6",
        ),
        (Attend(over=Grid(size=3).meet(Neighborhood(size=3))), alike(**MAP), "is not a domain"),
        (Attend(over=Radius(r=2)), alike(b=2, t=4, heads=2, c=3), "looks ahead along the time axis `t`"),
        (Attend(over=Stripes(sizes=per(h=2))), alike(b=2, t=3, h=4, c=3), "looks ahead along the time axis `t`"),
        (Attend(over=Windows(size=3)), [*alike(**MAP), tensor(h_offset=5)], "no axis of the attention"),
        (
            Attend(over=Windows(size=3)),
            [*alike(**MAP), tensor(h=6, key=9)],
            "two ways where it holds, by `h` and by `key`",
        ),
        (Attend(over=Radius(r=2)), [*alike(**MAP), tensor(w=9, h_offset=3)], "by `w` and by `h_offset`"),
        (Attend(over=Neighborhood(size=3)), [*alike(**MAP), tensor(h_offset=4)], "no axis of the attention"),
        (
            Attend(),
            [*alike(**MAP), *[None] * 6, tensor(b=2, heads=2, c=3), tensor(b=2, heads=2, c=3)],
            "no axis of its own",
        ),
        (Attend(), [*alike(**MAP), *[None] * 6, tensor(r=2, c=3)], "go together"),
    ],
)
def test_refusals(op: Attend, types: list[TensorType | None], title: str):
    with pytest.raises(OpError, match=".") as caught:
        single(op, types)
    assert title in str(caught.value)
