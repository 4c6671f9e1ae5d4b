"""Laws of scores: every one beside every domain, sinks, caps and heads that talk."""

import pytest
import torch

from archlang.primitives.attention import Attend
from archlang.primitives.domain import Causal, Domain, Full, Windows
from archlang.primitives.near import Chunks, Neighborhood, Sliding
from archlang.primitives.score import Relu, Score, Sigmoid
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law

SCORES = [Sigmoid(), Sigmoid(bias=-1.5), Relu(), Relu(power=2, mean=False)]


def tensor(dtype: str = "float", **sizes: object) -> TensorType:
    return TensorType(tuple(axis(name, size) for name, size in sizes.items()), dtype)


def alike(**sizes: object) -> list[TensorType]:
    return [tensor(**sizes)] * 3


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("domain", [Full(), Windows(size=4), Neighborhood(size=3), Chunks(size=3)], ids=str)
def test_scores_beside_domains(score: Score, domain: Domain):
    check_law(Attend(over=domain, score=score), *alike(b=2, n=8, heads=2, c=3))


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("domain", [Causal(), Sliding(n=3)], ids=str)
def test_scores_on_time(score: Score, domain: Domain):
    check_law(Attend(over=domain, score=score), *alike(b=2, t=7, heads=2, c=3))
    check_law(Attend(over=domain, score=score), *alike(b=2, t=symbol("t"), heads=2, c=3), sizes={"t": 7})


def test_scores_of_groups_of_heads():
    k = tensor(b=2, t=5, heads=2, c=4)
    check_law(Attend(score=Sigmoid()), tensor(b=2, t=5, heads=2, group=3, c=4), k, k)


@pytest.mark.parametrize("domain", [Full(), Windows(size=4, shift=2), Neighborhood(size=3)], ids=str)
def test_caps_and_sinks(domain: Domain):
    types = alike(b=2, n=8, heads=2, c=3)
    check_law(Attend(over=domain, cap=2.0), *types)
    check_law(Attend(over=domain, sink=0), *types)
    check_law(Attend(over=domain, sink=0, drop=0.1, scale=0.7), *types, None, tensor("bool", b=2, n=8))
    check_law(Attend(over=domain), *types, None, None, None, tensor(heads=2))
    check_law(Attend(over=domain, cap=1.0), *types, None, None, tensor(heads=2), tensor(heads=2))


@pytest.mark.parametrize("domain", [Full(), Windows(size=4), Sliding(n=2)], ids=str)
def test_heads_that_talk(domain: Domain):
    types, mix, none = alike(b=2, n=8, heads=3, c=2), tensor(heads=3, mixed=3), [None] * 4
    check_law(Attend(over=domain), *types, *none, mix, mix)
    check_law(Attend(over=domain), *types, *none, mix)
    check_law(Attend(over=domain, score=Sigmoid()), *types, None, tensor("bool", b=2, n=8), None, None, None, mix)


def test_scores_beside_registers():
    extra, none = tensor(b=2, r=3, heads=2, c=3), [None] * 5
    for score in (Sigmoid(), Relu()):
        for domain in (Full(), Windows(size=4), Neighborhood(size=3)):
            types = alike(b=2, n=8, heads=2, c=3)
            check_law(Attend(over=domain, score=score), *types, *none, None, extra, extra)
            check_law(Attend(over=domain, sink=0), *types, *none, None, extra, extra)


@pytest.mark.parametrize(
    "op", [Attend(), Attend(sink=0), Attend(over=Windows(size=4)), Attend(over=Sliding(n=2))], ids=str
)
def test_what_is_no_number_stays_in_its_head_and_sample(op: Attend):
    types = alike(b=2, n=8, heads=2, c=3)
    module = check_law(op, *types)
    q, k, v = (torch.randn(2, 8, 2, 3, dtype=torch.float64) for _ in range(3))
    for bad in (float("nan"), float("inf")):
        broken = k.clone()
        broken[0, 3, 0] = bad
        out = module(q, broken, v)
        assert torch.equal(out[1], module(q, k, v)[1])
        assert torch.equal(out[0, :, 1], module(q, k, v)[0, :, 1])


def test_large_logits_stay_finite():
    module = check_law(Attend(sink=0), *alike(n=4, heads=1, c=2))
    x = torch.full((4, 1, 2), 1e3, dtype=torch.float64)
    assert bool(module(x, x, x).isfinite().all())
    assert bool(module(x, -x, x).isfinite().all())
