"""The selective scan."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.utils.checkpoint

from tests.kernels import check, emitted, with_last

NET = """
model net {
  input u: [b, t, c]
  input dt: [b, t, c]
  input a: [c, state]
  input write: [b, t, state]
  input read: [b, t, state]
  input skip: [c]
  input documents: int[b, t]
  output y = selective_scan(u, dt, a, write, read, skip, segments = documents)
}
"""


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(t: int, c: int, n: int, documents: bool = False) -> list[torch.Tensor]:
    """u, dt, a, b, c and skip, and where documents start; some states decay by exp(-20) a step."""
    random = torch.Generator().manual_seed(0)
    u, b, read = (torch.randn(2, t, width, generator=random) for width in (c, n, n))
    dt, a = torch.rand(2, t, c, generator=random), -torch.rand(n, c, generator=random)
    a[0] *= 20
    starts = [torch.rand(2, t, 1, generator=random) < 0.2] if documents else []
    return [u, dt, a, b, read, torch.randn(c, generator=random), *starts]


def forms(module: Any, reverse: bool = False) -> tuple[Any, Any]:
    """The kernel and the PyTorch form as functions of the tensors; a alone has no slope of one position."""
    return (
        lambda *x: module.triton_selective_scan(*x, reverse=reverse),
        lambda *x: module.selective_scan(*x, reverse=reverse) + 0.0 * x[2].sum(),
    )


@pytest.mark.parametrize(
    ("t", "c", "n"),
    [
        (1, 1, 1),
        (17, 40, 16),
        (64, 5, 3),
        *(pytest.param(*size, marks=pytest.mark.slow) for size in [(63, 16, 4), (100, 8, 100)]),
    ],
)
def test_scans(module: Any, t: int, c: int, n: int) -> None:
    check(*forms(module), inputs(t, c, n))


@pytest.mark.parametrize("reverse", [False, True])
def test_documents_and_both_ways(module: Any, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCAN_EVERY", 8)
    check(*forms(module, reverse), inputs(21, 6, 4, documents=True))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("t", [1, 21])
def test_a_state_to_start_from_and_the_last_one(
    module: Any, t: int, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each sample or of all, or none; with the outputs or alone."""
    monkeypatch.setattr(module, "SCAN_EVERY", 8)
    start = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    for first, alone in ((start, False), (start[0], True), (torch.zeros(1), False)):
        rules = module.triton_selective_scan, module.selective_scan
        kernel, form = (with_last(partial(f, reverse=reverse), alone=alone) for f in rules)
        check(kernel, form, [first, *inputs(t, 6, 4)])


def test_a_state_stays_in_the_dtype_of_its_start(module: Any) -> None:
    given = [x.bfloat16() for x in inputs(9, 6, 4)]
    start = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    for first, kind in ((start, torch.float32), (None, torch.bfloat16)):
        _, last = module.triton_selective_scan(*given, start=first, final=True)
        _, meant = module.selective_scan(*given, start=first, final=True)
        assert last.dtype == meant.dtype == kind
        torch.testing.assert_close(last, meant, rtol=1e-2 if first is None else 1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    check(*forms(module), inputs(20, 8, 4), kind)


def test_without_a_skip(module: Any) -> None:
    check(*forms(module), inputs(9, 4, 4)[:5])


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module)
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(9, 4, 4))


def test_checkpointing(module: Any) -> None:
    given = [x.requires_grad_() for x in inputs(9, 4, 4)]
    kernel, _ = forms(module)
    again = torch.utils.checkpoint.checkpoint(kernel, *given, use_reentrant=False)
    expected = torch.autograd.grad(kernel(*given).sum(), given)
    torch.testing.assert_close(torch.autograd.grad(again.sum(), given), expected)


def test_operators_are_well_formed(module: Any) -> None:
    given = [x.requires_grad_() for x in inputs(9, 4, 4)]
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.scan_selectively, (*given, None, None, False, False), test_utils=tests)
    start = torch.randn(2, 4, 4, requires_grad=True)
    torch.library.opcheck(module.scan_selectively, (*given, None, start, False, True), test_utils=tests)


def launch(kind: torch.dtype, c: int, n: int, starts: bool = False) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(NET)
    module.runs = lambda *x: True
    u, dt, b, read = (torch.empty(1, 4096, width, dtype=kind, requires_grad=True) for width in (c, c, n, n))
    a, skip = torch.empty(n, c, requires_grad=True), torch.empty(c, requires_grad=True)
    start = torch.empty(1, n, c, requires_grad=True) if starts else None
    made = module.triton_selective_scan(u, dt, a, b, read, skip, start=start, final=starts)
    torch.autograd.backward(made, (u, start) if starts else u)
