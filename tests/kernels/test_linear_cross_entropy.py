"""Cross-entropy right after the layer that makes the logits."""

import sys
from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check, emitted, guarded
from tests.kernels.test_chains import forms as networks

NET = """
model net(classes: int = 1024) {
  input x: [b, t, c = 8]
  input next: int[b, t]
  output y = cross_entropy(x -> linear(classes) as head, next)
}
"""
TIED = """
model net {
  input x: [b, t, c = 8]
  input next: int[b, t]
  table = embedding(1030, 8)
  output y = cross_entropy(dot(x + (next -> table), table.weight, on = c), next, on = vocab, label_smoothing = 0.1)
}
"""


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(rows: int, c: int, units: int, bias: bool = True) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(rows, c, generator=random), torch.randn(units, c, generator=random) / 2]
    return [*given, torch.randn(units, generator=random)] if bias else given


def forms(module: Any, rows: int, units: int, **options: Any) -> tuple[Any, Any]:
    """The kernel and the PyTorch form as functions of x, weight and bias; every seventh target is ignored."""
    target = torch.randint(0, units, (rows,), generator=torch.Generator().manual_seed(1))
    if rows > 1:
        target[::7] = options.get("ignore_index", -100)
    kernel, form = module.triton_linear_cross_entropy, module.linear_cross_entropy
    return tuple(lambda x, w, b=None, f=f: f(x, w, guarded(target), b, **options) for f in (kernel, form))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("rows", "c", "units"), [(1, 1, 1), (17, 63, 64), (63, 17, 100), (64, 100, 17), (100, 64, 63), (2, 3, 5000)]
)
def test_sizes(module: Any, rows: int, c: int, units: int) -> None:
    check(*forms(module, rows, units), inputs(rows, c, units))


@pytest.mark.parametrize(
    "options",
    [{"reduction": "sum"}, {"label_smoothing": 0.1}, {"z_loss": 0.01}, {"ignore_index": 3, "label_smoothing": 1.0}],
    ids=str,
)
def test_options(module: Any, options: dict[str, Any]) -> None:
    check(*forms(module, 17, 33, **options), inputs(17, 9, 33, bias=False))


def test_some_rows_at_a_time(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGITS", 33 * 5)
    check(*forms(module, 17, 33), inputs(17, 9, 33))


def test_large_logits(module: Any) -> None:
    x, weight, bias = inputs(9, 4, 70)
    bias[1::2] = float("-inf")
    target = torch.arange(0, 18, 2)
    kernel, form = (
        lambda x, w, b=bias, f=f: f(x, w, target, b.to(x.dtype))
        for f in (module.triton_linear_cross_entropy, module.linear_cross_entropy)
    )
    check(kernel, form, [x * 50, weight])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    check(*forms(module, 20, 100), inputs(20, 32, 100), kind)


def test_without_gradients(module: Any) -> None:
    kernel, form = forms(module, 5, 40)
    given = inputs(5, 4, 40)
    torch.testing.assert_close(kernel(*given), form(*given))
    with torch.no_grad():
        torch.testing.assert_close(kernel(*(x.requires_grad_() for x in given)), form(*given))


def test_a_class_that_is_not_there_is_seen(module: Any) -> None:
    assert module.triton_linear_cross_entropy(*inputs(2, 4, 8, bias=False), torch.tensor([1, 8])).isnan()


@pytest.mark.parametrize("program", [NET, TIED])
def test_networks(program: str) -> None:
    assert "kernel linear_cross_entropy" in archlang.loads(program).net().explain(target="triton")
    kernel, plain, weights = networks(program)
    random = torch.Generator().manual_seed(3)
    x, target = torch.randn(2, 5, 8, generator=random), torch.randint(0, 1024, (2, 5), generator=random)
    given = [w.requires_grad_() for w in (x, *weights)]
    found, meant = (form(x, target, *weights) for form in (kernel, plain))
    torch.testing.assert_close(found, meant)
    for ours, theirs in zip(*(torch.autograd.grad(y, given) for y in (found, meant)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_pytorch_form_makes_logits_again(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All logits are never there, and the numbers are those of PyTorch's own loss."""
    x, weight = (y.double().requires_grad_() for y in inputs(40, 4, 64, bias=False))
    target, held = torch.randint(0, 64, (40,), generator=torch.Generator().manual_seed(4)), []
    monkeypatch.setattr(module, "LOGITS", 64 * 8)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = module.linear_cross_entropy(x, weight, target)
    meant = torch.nn.functional.cross_entropy(x @ weight.t(), target)
    torch.testing.assert_close(found, meant)
    assert max(held) <= 64 * 8
    for ours, theirs in zip(*(torch.autograd.grad(y, (x, weight)) for y in (found, meant)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module, 7, 20)
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(7, 4, 20))


def test_operators_are_well_formed(module: Any) -> None:
    x, weight, bias = (y.requires_grad_() for y in inputs(7, 4, 20))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    given = x, weight, torch.arange(7), bias, -100, 0.0, 0.0, True
    torch.library.opcheck(module.entropy_of_linear, given, test_utils=tests)


def launch(kind: torch.dtype, c: int, units: int) -> None:
    """One of the configurations that `test_aot` compiles."""
    fused: Any = archlang.loads(NET.replace("c = 8", f"c = {c}")).net(classes=units).module(target="triton").to(kind)
    sys.modules[type(fused).__module__].runs = lambda *x: True  # type: ignore[attr-defined]
    fused(torch.empty(1, 16, c, dtype=kind, requires_grad=True), torch.zeros(1, 16, dtype=torch.int64)).backward()
