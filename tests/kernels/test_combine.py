"""Results of experts, back at their tokens."""

from typing import Any

import pytest
import torch

from tests.kernels import check, emitted

NET = """
use std.ffn: mlp
use std.moe: moe
model net(dim: int = 8) {
  input x: [b, t, c = dim]
  output y = x -> moe(mlp(ratio = 2), experts = 4) as moe
}
"""
SHAPES = [  # tokens, channels, experts, choices of each token; an expert more takes what is dropped
    (1, 1, 1, 1),
    (17, 6, 4, 2),
    (63, 64, 3, 1),
    (64, 100, 5, 3),
    (100, 17, 2, 2),
]


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(module: Any, tokens: int, c: int, experts: int, choices: int) -> tuple[list[Any], Any]:
    """Rows and weights, and the two forms as functions of them; some choices are of no expert."""
    random = torch.Generator().manual_seed(0)
    index = torch.rand(tokens, experts + 1, generator=random).argsort(1)[:, :choices]
    _, order = module.sorted_choices(index, experts)
    counts = [int((index == e).sum()) for e in range(experts)]
    rows = torch.randn(sum(counts), c, generator=random)

    def form(function: Any) -> Any:
        return lambda rows, weight: function(rows.split(counts), order, weight)

    given = [rows, torch.rand(tokens, choices, generator=random)]
    return given, [form(f) for f in (module.triton_combine, module.combine)]


@pytest.mark.parametrize(("tokens", "c", "experts", "choices"), SHAPES)
def test_combine(module: Any, tokens: int, c: int, experts: int, choices: int) -> None:
    given, forms = inputs(module, tokens, c, experts, choices)
    check(*forms, given)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    given, forms = inputs(module, 9, 6, 4, 2)
    check(*forms, given, kind)


def test_what_is_dropped_by_all_is_0(module: Any) -> None:
    order, weight = torch.arange(6), torch.rand(3, 2)
    assert not module.triton_combine([torch.zeros(0, 5)], order, weight).any()


def test_operators_are_well_formed(module: Any) -> None:
    rows, weight = torch.randn(5, 4, requires_grad=True), torch.rand(3, 2, requires_grad=True)
    places = torch.tensor([[0, 1], [4, 2], [-1, 3]])
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.combined, (rows, places, weight), test_utils=tests)


def launch(kind: torch.dtype, c: int, choices: int) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(NET)
    module.runs = lambda *x: True
    rows = torch.empty(64, c, dtype=kind, requires_grad=True)
    weight = torch.empty(64 // choices, choices, dtype=kind, requires_grad=True)
    module.triton_combine([rows], torch.arange(64), weight).sum().backward()
