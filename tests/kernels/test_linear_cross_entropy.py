"""Cross-entropy right after the layer that makes the logits."""

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
EACH = """
model net {
  input x: [b, t, c = 8]
  input next: int[b, t]
  input weight: [b, t]
  mean = cross_entropy(x -> linear(1024) as first, next, z_loss = 0.01)
  output y = mean + sum(weight * cross_entropy(x -> linear(1024) as second, next, reduction = none), on = [b, t])
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
    return emitted(EACH)


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
    check(*forms(module, rows, units, reduction="none"), inputs(rows, c, units))


@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "sum"},
        {"reduction": "none", "label_smoothing": 0.1, "z_loss": 0.01},
        {"label_smoothing": 0.1},
        {"z_loss": 0.01},
        {"ignore_index": 3, "label_smoothing": 1.0},
    ],
    ids=str,
)
def test_options(module: Any, options: dict[str, Any]) -> None:
    check(*forms(module, 17, 33, **options), inputs(17, 9, 33, bias=False))


def test_some_rows_at_a_time(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGITS", 33 * 5)
    for reduction in ("mean", "none"):
        check(*forms(module, 17, 33, reduction=reduction), inputs(17, 9, 33))


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
    for reduction in ("mean", "none"):
        check(*forms(module, 20, 100, reduction=reduction), inputs(20, 32, 100), kind)


def test_without_gradients(module: Any) -> None:
    kernel, form = forms(module, 5, 40)
    given = inputs(5, 4, 40)
    torch.testing.assert_close(kernel(*given), form(*given))
    with torch.no_grad():
        torch.testing.assert_close(kernel(*(x.requires_grad_() for x in given)), form(*given))


def test_a_class_that_is_not_there_is_seen(module: Any) -> None:
    assert module.triton_linear_cross_entropy(*inputs(2, 4, 8, bias=False), torch.tensor([1, 8])).isnan()


def test_a_loss_for_each_position(module: Any) -> None:
    """Under the axes of the targets, and in a network whose weights are data."""
    x, weight, bias = inputs(6, 4, 40)
    target = torch.arange(6).view(2, 3)
    found = module.triton_linear_cross_entropy(x.view(2, 3, 4), weight, target, bias, "none")
    torch.testing.assert_close(found, module.linear_cross_entropy(x.view(2, 3, 4), weight, target, bias, "none"))
    torch.testing.assert_close(found.mean(), module.triton_linear_cross_entropy(x, weight, target.flatten(), bias))
    kernel, plain, weights = networks(EACH)
    random = torch.Generator().manual_seed(3)
    data = torch.randint(0, 1024, (2, 5), generator=random), torch.rand(2, 5, generator=random)
    given = [w.requires_grad_() for w in (torch.randn(2, 5, 8, generator=random), *weights)]
    ours, theirs = (torch.autograd.grad(form(given[0], *data, *given[1:]), given) for form in (kernel, plain))
    for mine, meant in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, meant, rtol=1e-4, atol=1e-6)


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
    kernel, form = forms(module, 7, 20, reduction="none")
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(7, 4, 20))


def test_operators_are_well_formed(module: Any) -> None:
    x, weight, bias = (y.requires_grad_() for y in inputs(7, 4, 20))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    given = x, weight, torch.arange(7), bias, -100, 0.0, 0.0, True
    torch.library.opcheck(module.entropy_of_linear, given, test_utils=tests)
    torch.library.opcheck(module.entropies_of_linear, given[:-1], test_utils=tests)


def launch(kind: torch.dtype, c: int, units: int) -> None:
    """One of the configurations that `test_aot` compiles: the mean, and the loss of each position."""
    module = emitted(EACH)
    module.runs = lambda *x: True
    x, weight = (torch.empty(size, c, dtype=kind, requires_grad=True) for size in (16, units))
    for reduction in ("mean", "none"):
        module.triton_linear_cross_entropy(x, weight, torch.zeros(16).long(), reduction=reduction).sum().backward()
