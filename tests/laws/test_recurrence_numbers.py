"""Recurrences in working precision: long sequences, strong decays, numbers that are none."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from archlang.helpers.delta_rule import delta_rule
from archlang.helpers.linear_recurrence import linear_recurrence
from archlang.helpers.recurrence_steps import recurrence_steps

FORMS = pytest.mark.parametrize(
    ("channels", "delta"), [(0, False), (1, False), (4, False), (0, True), (1, True), (4, True)]
)
STRENGTHS = torch.tensor([0.0, -1e-4, -0.01, -1.0, -20.0])


def inputs(length: int, channels: int, delta: bool, heads: int = 1) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(channels)
    q, k, v = (torch.randn(2, heads, length, 4, generator=random) for _ in range(3))
    made = {"q": q, "k": F.normalize(k, dim=-1) * (0.1 if channels == 0 else 1), "v": v}
    if delta:
        made["beta"] = torch.rand(2, heads, length, 1, generator=random)
    if channels:  # from none to exp(-20) a step, all mixed
        some = torch.randint(0, 5, (2, heads, length, channels), generator=random)
        made["log_decay"] = STRENGTHS[some] * torch.rand(some.shape, generator=random)
    return made


def run(given: dict[str, Tensor], dtype: torch.dtype, chunk: int = 64) -> Tensor:
    function = delta_rule if "beta" in given else linear_recurrence
    return function(**{name: x.to(dtype) for name, x in given.items()}, chunk=chunk)


def error(made: Tensor, meant: Tensor) -> float:
    return ((made - meant).abs().max() / meant.abs().max()).item()


@pytest.mark.parametrize("length", [2**11, pytest.param(2**16, marks=pytest.mark.slow)])
@FORMS
def test_strong_decays_over_a_long_sequence(channels: int, delta: bool, length: int):
    """In single precision and in bfloat16; nothing overflows, no difference of large sums is taken."""
    given = inputs(length if channels else 2**11, channels, delta)
    meant = run(given, torch.float64, chunk=16)
    assert error(run(given, torch.float32), meant) <= 1e-5
    rounded = {name: x.bfloat16() for name, x in given.items()}
    made = run(rounded, torch.bfloat16)
    assert made.dtype == torch.bfloat16
    assert error(made, run(rounded, torch.float64, chunk=16)) <= 2**-8


@pytest.mark.parametrize("delta", [False, True])
def test_bounded_decays_at_their_bound(delta: bool):
    """All decays of a chunk as small as they may be together, and none: as without the bound."""
    given = inputs(300, 4, delta)
    given["log_decay"] = torch.where(given["log_decay"] < -0.5, -120 / 64, 0.0)
    given["log_decay"][..., 0] = -120 / 64
    meant = run(given, torch.float64)
    leaves = {name: x.clone().requires_grad_() for name, x in given.items()}
    function = delta_rule if delta else linear_recurrence
    made = function(**leaves, bounded=True, chunk=64)
    assert error(made, meant) <= 1e-5
    made.sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in leaves.values() if x.grad is not None)


@FORMS
def test_gradients_under_strong_decays(channels: int, delta: bool):
    """As those of one step after another in double precision."""
    given = inputs(200, channels, delta)
    given["log_decay"] = given.get("log_decay", torch.zeros(2, 1, 200, 1)) * 1.0
    plain = {name: x[..., None] if name == "log_decay" else x for name, x in given.items()}

    def slopes(function: Callable[..., Tensor], values: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        leaves = {name: x.to(dtype).requires_grad_() for name, x in values.items()}
        function(**leaves).square().sum().backward()
        return {name: x.grad.flatten() for name, x in leaves.items()}

    made = slopes(delta_rule if delta else linear_recurrence, given, torch.float32)
    meant = slopes(recurrence_steps, plain, torch.float64)
    for name, slope in made.items():
        assert error(slope, meant[name]) <= 1e-4, name


@FORMS
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_stays_in_its_head(channels: int, delta: bool, bad: float):
    given = inputs(100, channels, delta, heads=3)
    clean = run(given, torch.float32)
    for name in given:
        spoilt = {**given, name: given[name].clone()}
        spoilt[name][1, 1, 40] = bad
        made = run(spoilt, torch.float32)
        others = torch.ones(2, 3, dtype=torch.bool)
        others[1, 1] = False
        assert torch.equal(made[others], clean[others]), name


def test_autocast():
    """Under autocast the state stays in single precision."""
    given = inputs(300, 4, True)
    with torch.autocast("cpu", torch.bfloat16):
        made = run(given, torch.float32)
    assert error(made, run(given, torch.float64)) <= 2**-6
