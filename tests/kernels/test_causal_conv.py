"""Causal convolutions of each channel."""

from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check, emitted

NET = """
model net(c: int = 8, kernel: int = 4) {
  input x: [b, t, c = c]
  output y = x -> depthwise(kernel) as conv -> silu
}
"""
SHAPES = [  # positions, channels, taps, dilation, and more
    (1, 1, 2, 1, {}),
    (17, 6, 4, 1, {"silu": True}),
    (63, 64, 4, 1, {"silu": True, "bias": False}),
    (64, 100, 3, 2, {}),
    (100, 17, 4, 1, {"silu": True, "before": True}),
    (2, 5, 4, 3, {"silu": True, "before": True}),
    (40, 3, 6, 1, {"silu": True}),
]


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(
    length: int, c: int, taps: int, dilation: int = 1, bias: bool = True, before: bool = False, **_: Any
) -> list[Any]:
    random = torch.Generator().manual_seed(0)
    shapes = [(2, length, c), (c, 1, taps), *([(c,)] if bias else [])]
    shapes += [(2, (taps - 1) * dilation, c)] if before else []
    return [torch.randn(shape, generator=random) for shape in shapes]


def forms(module: Any, dilation: int = 1, silu: bool = False, bias: bool = True, before: bool = False) -> list[Any]:
    """The kernel and the PyTorch form as functions of the tensors."""

    def call(function: Any, x: Any, weight: Any, *more: Any) -> Any:
        named = {"bias": more[0] if bias else None, "before": more[-1] if before else None}
        return function(x, weight, dilation=dilation, silu=silu, **named)

    return [lambda *x, f=f: call(f, *x) for f in (module.triton_causal_conv, module.causal_conv)]


@pytest.mark.parametrize(("length", "c", "taps", "dilation", "options"), SHAPES, ids=str)
def test_convolutions(module: Any, length: int, c: int, taps: int, dilation: int, options: dict[str, Any]) -> None:
    check(*forms(module, dilation, **options), inputs(length, c, taps, dilation, **options))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    check(*forms(module, silu=True), inputs(17, 6, 4), kind)


def test_programs_have_several_tiles_each(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONV_PARTS", 2)
    check(*forms(module, silu=True), inputs(700, 5, 3))


def test_a_sequence_in_two_pieces_is_the_whole(module: Any) -> None:
    def pieces(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        first = module.triton_causal_conv(x[:, :9], *weights, silu=True)
        return torch.cat([first, module.triton_causal_conv(x[:, 9:], *weights, silu=True, before=x[:, 6:9])], 1)

    check(pieces, forms(module, silu=True)[1], inputs(20, 6, 4))


def test_views_are_read_where_they_lie(module: Any) -> None:
    x, weight, bias = inputs(9, 12, 4)
    kernel, form = forms(module)
    check(lambda x, w, b: kernel(x[..., 4:10], w[:6], b[:6]), lambda x, w, b: form(x[..., 4:10], w[:6], b[:6]), [x, weight, bias])  # fmt: skip


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module, silu=True)
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(5, 4, 3))


def test_operators_are_well_formed(module: Any) -> None:
    x, weight, bias, before = (x.requires_grad_() for x in inputs(5, 4, 3, before=True))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.causal_sums, (x, weight, bias, before, 1, True), test_utils=tests)
    torch.library.opcheck(module.causal_sums, (x, weight, None, None, 1, True), test_utils=tests)


def test_what_it_takes() -> None:
    text = """
    model net {
      input x: [b, t, c = 8]
      input image: [b, c = 8, h = 8, w = 8]
      long = x -> depthwise(9) as long
      output y = long + (x -> depthwise(3, dilation = 2, bias = false) as short)
      output z = image -> depthwise(3) as map
      output u = image -> depthwise(3, padding = "causal", on = w) as line -> relu
    }
    """
    said = archlang.loads(text).net().explain(target="triton")
    assert "causal_depthwise, 1 place" in said
    assert "copies are saved for 6 positions at most, and there are 9" in said
    assert said.count("kernel causal_conv: channels last, nothing padded or copied") == 1
    assert "kernel" not in archlang.loads(text).net().explain()


def launch(kind: torch.dtype, c: int, taps: int) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(NET)
    module.runs = lambda *x: True
    x = torch.empty(2, 256, c, dtype=kind, requires_grad=True)
    weight, bias = torch.empty(c, 1, taps, dtype=kind), torch.empty(c, dtype=kind)
    module.triton_causal_conv(x, weight, bias, silu=True).backward(x.detach())
