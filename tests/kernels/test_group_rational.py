"""Rational activations."""

from typing import Any

import pytest
import torch
import torch.utils.checkpoint

from tests.kernels import check, emitted

MIXED = """
model net {
  input x: [b, n, c = 8]
  output y = x -> rational(2) as first -> rational(2, order = [3, 2], denominator = "whole") as second
}
"""
ONE = """
model net(c: int) {
  input x: [b, n, c = c]
  output y = x -> rational(8) as first
}
"""


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(MIXED)


def layer(module: Any, groups: int, powers: tuple[int, int], shared: bool, whole: bool, kernel: bool) -> Any:
    """The activation as a function of x and its coefficients."""
    kind = module.TritonGroupRational if kernel else module.GroupRational
    made = kind(groups, [0.0] * powers[0], [0.0] * powers[1], shared=shared, whole=whole)
    return lambda x, a, b: torch.func.functional_call(made, {"numerator": a, "denominator": b}, (x,))


def inputs(rows: int, c: int, groups: int, powers: tuple[int, int], shared: bool) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = (rows, c), (1 if shared else groups, powers[0]), (groups, powers[1])
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.parametrize("whole", [False, True], ids=["terms", "whole"])
@pytest.mark.parametrize(
    ("rows", "c", "groups", "powers", "shared"),
    [(1, 1, 1, (6, 4), True), (17, 6, 2, (6, 4), False), (63, 64, 1, (4, 2), True), (64, 160, 1, (6, 4), True), (100, 24, 8, (2, 1), False)],
)  # fmt: skip
def test_rationals(module: Any, rows: int, c: int, groups: int, powers: Any, shared: bool, whole: bool) -> None:
    given = inputs(rows, c, groups, powers, shared)
    given[0].view(-1)[0] = 0.0  # where |x| turns
    check(*(layer(module, groups, powers, shared, whole, kernel) for kernel in (True, False)), given)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    given = inputs(17, 6, 2, (6, 4), False)
    check(*(layer(module, 2, (6, 4), False, False, kernel) for kernel in (True, False)), given, kind)


def test_programs_have_several_tiles_each(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RATIONAL_PARTS", 2)
    pair = [layer(module, 1, (6, 4), True, False, kernel) for kernel in (True, False)]
    check(*pair, inputs(1300, 1, 1, (6, 4), True))


def test_compilers_take_it_as_one_step(module: Any) -> None:
    pair = [layer(module, 2, (6, 4), True, False, kernel) for kernel in (True, False)]
    check(torch.compile(pair[0], backend="aot_eager", fullgraph=True), pair[1], inputs(5, 4, 2, (6, 4), True))


def test_operators_are_well_formed(module: Any) -> None:
    x, a, b = (x.requires_grad_() for x in inputs(5, 4, 2, (6, 4), False))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.rational, (x, a, b, False), test_utils=tests)


def launch(kind: torch.dtype, c: int) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(ONE.replace("(c: int)", f"(c: int = {c})"))
    module.runs = lambda *x: True
    made = module.TritonGroupRational(8, [0.0] * 6, [0.0] * 4)
    made(torch.empty(64, c, dtype=kind, requires_grad=True)).sum().backward()
