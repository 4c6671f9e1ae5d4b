"""Large convolutions of each channel of an image."""

from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check, emitted

NET = """
model net(c: int = 8, kernel: int = 7) {
  input x: [b, h, w, c = c]
  output y = x -> depthwise(kernel) as conv
}
"""
SHAPES = [  # height, width, channels, the kernel, whether there is a bias
    (1, 1, 1, (3, 2), True),
    (3, 17, 6, (5, 2), True),
    (1, 63, 17, (1, 8), False),
    (2, 64, 3, (1, 4), True),
    (3, 1, 100, (4, 1), True),
    pytest.param(5, 17, 6, (7, 7), True, marks=pytest.mark.slow),
    pytest.param(14, 15, 5, (13, 13), True, marks=pytest.mark.slow),
    pytest.param(9, 100, 2, (31, 31), False, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(height: int, width: int, c: int, kernel: tuple[int, int], bias: bool = True) -> list[Any]:
    random = torch.Generator().manual_seed(0)
    shapes = [(2 if height < 4 else 1, height, width, c), (c, 1, *kernel), *([(c,)] if bias else [])]
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.parametrize(("height", "width", "c", "kernel", "bias"), SHAPES, ids=str)
def test_convolutions(module: Any, height: int, width: int, c: int, kernel: Any, bias: bool) -> None:
    check(module.triton_wide_depthwise, module.wide_depthwise, inputs(height, width, c, kernel, bias))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    check(module.triton_wide_depthwise, module.wide_depthwise, inputs(2, 5, 3, (2, 2)), kind)


def test_programs_have_several_tiles_each(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDE_PARTS", 6)
    check(module.triton_wide_depthwise, module.wide_depthwise, inputs(4, 3, 2, (3, 3)))


def test_views_are_read_where_they_lie(module: Any) -> None:
    x, weight, bias = inputs(4, 6, 8, (3, 3))
    kernel, form = module.triton_wide_depthwise, module.wide_depthwise
    check(lambda x, w, b: kernel(x[:, 1:, :4, 2:6], w, b), lambda x, w, b: form(x[:, 1:, :4, 2:6], w, b), [x, weight[:4], bias[:4]])  # fmt: skip


def test_compilers_take_it_as_one_step(module: Any) -> None:
    compiled = torch.compile(module.triton_wide_depthwise, backend="aot_eager", fullgraph=True)
    check(compiled, module.wide_depthwise, inputs(2, 3, 2, (2, 2)))


def test_operators_are_well_formed(module: Any) -> None:
    x, weight, bias = (x.requires_grad_() for x in inputs(2, 3, 4, (3, 3)))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.wide_sums, (x, weight, bias), test_utils=tests)
    torch.library.opcheck(module.wide_sums, (x, weight, None), test_utils=tests)


def test_what_it_takes() -> None:
    text = """
    model net {
      input x: [b, c = 8, h = 40, w = 40]
      output y = (x -> depthwise(7) as square) + (x -> depthwise(33) as huge)
      output z = x -> depthwise(5) as small
    }
    """
    said = archlang.loads(text).net().explain(target="triton")
    assert "kernel wide_depthwise: channels last, a place is read once for several rows" in said
    assert said.count("kernel wide_depthwise") == 1
    assert "the kernel is for 31 positions along an axis at most, and there are 33" in said


def launch(kind: torch.dtype, c: int, side: int) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(NET)
    module.runs = lambda *x: True
    x = torch.empty(2, 56, 56, c, dtype=kind, requires_grad=True)
    weight, bias = torch.empty(c, 1, side, side, dtype=kind, requires_grad=True), torch.empty(c, dtype=kind)
    module.triton_wide_depthwise(x, weight, bias).backward(x.detach())
