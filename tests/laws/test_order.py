"""Orders over a map: paths visit every position once, neighbours stay near, and a path undone is the map."""

from typing import Any

import pytest
import torch

from archlang.facts import Facts
from archlang.helpers.hilbert_order import hilbert_order
from archlang.helpers.snake_order import snake_order
from archlang.primitive import AxisMap, OpError
from archlang.primitives import CONSTRUCTS
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor

MAPS = [("along", (3, 4)), ("snake", (3, 4)), ("snake", (2, 3, 4)), ("hilbert", (4, 4)), ("hilbert", (8, 8))]


def order(name: str, rank: int, **fields: Any) -> Any:
    return CONSTRUCTS[name](axes=("h", "w", "d")[:rank], **fields)


@pytest.mark.parametrize(("name", "sizes"), MAPS)
@pytest.mark.parametrize("reverse", [False, True])
def test_there_and_back(name: str, sizes: tuple[int, ...], reverse: bool) -> None:
    over = order(name, len(sizes), reverse=reverse)
    named = dict(zip(over.axes, sizes, strict=True))
    sequence: Any = CONSTRUCTS["sequence"](over=over)
    back: Any = CONSTRUCTS["unsequence"](over=over, sizes=AxisMap(tuple(named.items())))
    x = tensor(b="b", c=2, **named)
    made = check_law(sequence, x)
    undone = check_law(back, sequence.infer(Facts(), x))
    given = torch.randn(2, 2, *sizes, dtype=torch.float64)
    path = made(given)
    assert path.shape == (2, 2, len(list(over.path(sizes))))
    assert torch.equal(undone(path), given)


def test_columns_before_rows() -> None:
    over: Any = CONSTRUCTS["along"](axes=("w", "h"))
    check_law(CONSTRUCTS["sequence"](over=over), tensor(b="b", h=3, w=4, c=2))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "sizes"), MAPS)
def test_a_path_visits_every_position_once(name: str, sizes: tuple[int, ...]) -> None:
    places = list(order(name, len(sizes)).path(sizes))
    assert len(set(places)) == len(places) == torch.Size(sizes).numel()
    if name != "along":
        steps = torch.tensor(places).diff(dim=0).abs().sum(1)
        assert bool((steps == 1).all())


def test_free_sizes() -> None:
    for name in ("along", "snake"):
        sequence: Any = CONSTRUCTS["sequence"](over=order(name, 2))
        check_law(sequence, tensor(b="b", h="h", w="w", c=2), sizes={"h": 3, "w": 5})


def test_positions_as_the_helpers_make_them() -> None:
    for side in (1, 2, 4, 8, 16):
        meant = [row * side + column for row, column in order("hilbert", 2).path((side, side))]
        assert hilbert_order(side).tolist() == meant
    assert snake_order(2, 3).tolist() == [0, 1, 2, 5, 4, 3]


@pytest.mark.parametrize(
    ("name", "sizes", "said"),
    [
        ("hilbert", (4, 6), "the map is 4 x 6"),
        ("hilbert", (6, 6), "power of two, and the map is 6 x 6"),
        ("hilbert", (4, 4, 4), "walks a square"),
    ],
)
def test_maps_that_a_curve_does_not_walk(name: str, sizes: tuple[int, ...], said: str) -> None:
    with pytest.raises(OpError, match=said):
        CONSTRUCTS["sequence"](over=order(name, len(sizes))).infer(  # type: ignore[attr-defined]
            Facts(), tensor(b="b", **dict(zip(("h", "w", "d"), sizes, strict=False)))
        )
