"""Choices sorted by their experts."""

from typing import Any

import pytest
import torch

import archlang
from tests.kernels import emitted
from tests.kernels.test_combine import NET


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def check_sorted(module: Any, tokens: int, choices: int, experts: int) -> None:
    """Both forms agree on every number; some choices are of nobody."""
    index = torch.randint(experts + 1, (tokens, choices), generator=torch.Generator().manual_seed(0))
    for found, meant in zip(
        *(f(index, experts) for f in (module.triton_sorted_choices, module.sorted_choices)), strict=True
    ):
        assert found.dtype == torch.int64 and found.equal(meant), (found, meant)


@pytest.mark.parametrize(
    ("tokens", "choices", "experts"),
    [(1, 1, 1), (17, 2, 4), (63, 3, 63), (64, 1, 64), (100, 8, 128), (9, 2, 1023), (3000, 1, 3)],
)
def test_sizes(module: Any, tokens: int, choices: int, experts: int) -> None:
    check_sorted(module, tokens, choices, experts)


def test_an_expert_that_nobody_chooses(module: Any) -> None:
    ends, order = module.triton_sorted_choices(torch.tensor([[3, 0], [3, 4]]), 4)
    assert ends.tolist() == [1, 1, 1, 3] and order.tolist() == [1, 0, 2, 3]


def test_no_choices(module: Any) -> None:
    ends, order = module.triton_sorted_choices(torch.zeros(0, 2).long(), 4)
    assert ends.tolist() == [0] * 4 and not order.numel()


def test_operators_are_well_formed(module: Any) -> None:
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(module.sort_choices, (torch.tensor([1, 0, 2, 1]), 2), test_utils=tests)


def test_what_it_takes() -> None:
    assert "kernel sorted_choices: choices sorted by counting" in archlang.loads(NET).net().explain(target="triton")


def launch(kind: torch.dtype, experts: int) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(NET)
    module.runs = lambda *x: True
    module.triton_sorted_choices(torch.zeros(4096, 8).long(), experts)
