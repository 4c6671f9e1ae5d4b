"""Tiles of what is near, on maps of several tiles: random domains and sizes against attention to all with a mask."""

from functools import reduce

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from archlang.emit import load
from archlang.emit.torch import class_name, emit
from archlang.primitive import OpError
from archlang.primitives.attention import Attend
from archlang.primitives.domain import Domain, Windows
from archlang.primitives.near import Chunks, Neighborhood, Radius, Sliding
from archlang.shapes import TensorType, axis
from archlang.testing.laws import single

SMALL = st.integers(1, 9)
NEAR = (
    st.builds(Sliding, n=SMALL)
    | st.builds(Neighborhood, size=st.sampled_from([3, 5, 7, 11]), dilation=st.integers(1, 3))
    | st.builds(Radius, r=SMALL)
)
CELLS = [Windows(size=4), Windows(size=4, shift=1), Windows(size=6, shift=3)]
SPACES = [{"n": 48}, {"n": 60}, {"t": 48}, {"h": 12, "w": 24}, {"h": 24, "w": 36}, {"d": 12, "h": 12, "w": 12}]


@st.composite
def domains(draw: st.DrawFn, rank: int) -> Domain:
    parts = draw(st.lists(NEAR, min_size=1, max_size=2))
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(CELLS)))
    if rank == 1 and draw(st.booleans()):
        parts.append(Chunks(size=draw(st.integers(2, 20))))
    return reduce(lambda a, b: a.meet(b), draw(st.permutations(parts)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Domain, dict[str, int]]:
    """A domain, and a map whose sizes need not be those of whole tiles."""
    space = draw(st.sampled_from(SPACES))
    return draw(domains(len(space))), {name: size + draw(st.sampled_from([0, 0, 1, 2])) for name, size in space.items()}


def seen(domain: Domain, type_: TensorType, space: dict[str, int]) -> torch.Tensor:
    """bool[query, key] over all pairs of positions."""
    axes, mask = tuple(type_[name] for name in space), torch.ones(1, 1, dtype=torch.bool)
    for part in domain.parts():
        joined = torch.ones(1, 1, dtype=torch.bool)
        for own in axes:
            i = torch.arange(space[own.name])
            along = part.sees(axes, own, i[:, None], i)
            joined = (joined[:, None, :, None] & along[:, None]).flatten(0, 1).flatten(1)
        mask = mask & joined
    places = torch.cartesian_prod(*(torch.arange(size) for size in space.values())).view(-1, len(space))
    for part in domain.parts():
        if part.disc() is not None:
            mask = mask & ((places[:, None] - places).square().sum(-1) < part.disc() ** 2)
    return mask


@settings(max_examples=40)
@given(cases())
def test_tiles(case: tuple[Domain, dict[str, int]]):
    domain, space = case
    type_ = TensorType(tuple(axis(n, size) for n, size in {"b": 2, **space, "heads": 2, "c": 4}.items()))
    try:
        graph, _ = single(Attend(over=domain), [type_] * 3)
    except OpError:
        return
    leaves = [torch.randn(2, *space.values(), 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    found = load(emit(graph), class_name(graph))()(*leaves)
    laid = [x.flatten(1, -3).transpose(1, 2) for x in leaves]
    wanted = F.scaled_dot_product_attention(*laid, seen(domain, type_, space)).transpose(1, 2).view_as(found)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn_like(found)
    grads = [torch.autograd.grad((x * weight).sum(), leaves) for x in (found, wanted)]
    torch.testing.assert_close(*grads)
