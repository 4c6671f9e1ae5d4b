"""Linear recurrences."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.utils.checkpoint

from tests.kernels import check, emitted, with_last

ALL = """
model net {
  input q: [b, t, heads, c]
  input k: [b, t, heads, c]
  input v: [b, t, heads, c = d]
  input head: [b, t, heads]
  input channel: [b, t, heads, c]
  by_head = linear_recurrence(q, k, v, log_decay = head)
  by_channel = linear_recurrence(q, k, v, log_decay = channel)
  output y = by_head + by_channel + linear_recurrence(q, k, v)
}
"""
GATES = ["none", "head", "channel"]


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(ALL)


def inputs(t: int, c: int, d: int, gate: str, lead: Any = (1, 1)) -> list[torch.Tensor]:
    """q, k, v and the logarithms of decays: weak ones, that states outlast, and some as strong as exp(-20)."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(*lead, t, width, generator=random) for width in (c, c, d))
    if gate == "none":
        return [q, k, v]
    g = torch.rand(*lead, t, 1 if gate == "head" else c, generator=random)
    number = torch.arange(t)[:, None] + 7 * torch.arange(g.shape[-1])
    return [q, k, v, -g * torch.where((number % 96 == 8) | (number % 96 == 20), 20, 0.1)]


def forms(module: Any) -> tuple[Any, Any]:
    """The kernel and the PyTorch form as functions of the tensors."""
    return (
        lambda *x: module.triton_linear_recurrence(*x, scale=0.7),
        lambda *x: module.linear_recurrence(*x, scale=0.7),
    )


def forms_from(module: Any) -> list[Any]:
    """The same as functions of a state to start from and the tensors."""
    return [
        lambda start, *x, f=f: f(*x, scale=0.7, start=start)
        for f in (module.triton_linear_recurrence, module.linear_recurrence)
    ]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    ("t", "c", "d"),
    [(1, 16, 16), (17, 8, 24), *(pytest.param(t, c, d, marks=pytest.mark.slow) for t, c, d in [(63, 64, 16), (64, 5, 40), (100, 24, 7)])],
)  # fmt: skip
def test_recurrences(module: Any, t: int, c: int, d: int, gate: str) -> None:
    check(*forms(module), inputs(t, c, d, gate))


@pytest.mark.parametrize("gate", [pytest.param("none", marks=pytest.mark.slow), "head", "channel"])
def test_several_chunks(module: Any, gate: str) -> None:
    check(*forms(module), inputs(70, 5, 18, gate))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gate", ["head", pytest.param("channel", marks=pytest.mark.slow)])
def test_half_precision(module: Any, gate: str, kind: torch.dtype) -> None:
    check(*forms(module), inputs(66, 16, 16, gate), kind)


@pytest.mark.parametrize("gate", ["head", pytest.param("channel", marks=pytest.mark.slow)])
def test_parts_of_a_sequence_start_from_states(module: Any, gate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(100, 16, 16, gate)
    outputs = []
    for programs in (1, 2, 4):
        monkeypatch.setattr(module, "RECURRENCE_PROGRAMS", programs)
        outputs.append(module.triton_linear_recurrence(*given))
    for y in outputs:
        torch.testing.assert_close(y, module.linear_recurrence(*given), rtol=1e-5, atol=1e-5)


def test_documents_start_from_nothing(module: Any) -> None:
    """Their first decay is 0: nothing passes, not even along strong decays, and no gradient."""
    q, k, v, g = inputs(70, 8, 8, "head")
    g[..., [0, 20, 64], :] = float("-inf")
    check(*forms(module), [q, k, v, g])
    apart = torch.cat([module.linear_recurrence(*(x[..., i:j, :] for x in (q, k, v, g))) for i, j in [(0, 20), (20, 64), (64, 70)]], -2)  # fmt: skip
    torch.testing.assert_close(module.triton_linear_recurrence(q, k, v, g), apart, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gate", ["head", "channel"])
def test_states_may_grow(module: Any, gate: str) -> None:
    *given, g = inputs(20, 8, 8, gate)
    check(*forms(module), [*given, g.clamp(min=-0.1) + 0.05])


def test_heads_share_queries_and_keys(module: Any) -> None:
    """One decay for all positions, one query and key for all heads; any axes before."""
    random = torch.Generator().manual_seed(0)
    shapes = (2, 1, 1, 9, 4), (2, 1, 1, 9, 4), (2, 1, 3, 9, 5)
    given = [torch.randn(shape, generator=random) for shape in shapes]
    check(*forms(module), [*given, -torch.rand(1, 1, 3, 1, 1, generator=random)])
    check(*forms(module), [x[0, 0, 0] for x in given])


@pytest.mark.parametrize("t", [1, 17, 70])
@pytest.mark.parametrize("gate", ["none", "head", "channel"])
def test_a_state_to_start_from(module: Any, gate: str, t: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each head, in one part of the sequence or in several; and one for all samples."""
    monkeypatch.setattr(module, "RECURRENCE_PROGRAMS", 8)
    start = torch.randn(2, 1, 5, 18, generator=torch.Generator().manual_seed(1))
    given = inputs(t, 5, 18, gate, lead=(2, 1))
    check(*forms_from(module), [start, *given])
    monkeypatch.setattr(module, "RECURRENCE_PROGRAMS", 1)
    check(*forms_from(module), [start[:1], *given])


@pytest.mark.parametrize("t", [*(pytest.param(t, marks=pytest.mark.slow) for t in (1, 17, 70)), 40])
@pytest.mark.parametrize("gate", [pytest.param("none", marks=pytest.mark.slow), "head", "channel"])
def test_the_last_state(module: Any, gate: str, t: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing or from a state, of one part of the sequence or of several."""
    start = torch.randn(2, 1, 5, 18, generator=torch.Generator().manual_seed(1))
    given = inputs(t, 5, 18, gate, lead=(2, 1))
    for programs, first, alone in ((8, start, False), (1, torch.zeros(1), True)):
        monkeypatch.setattr(module, "RECURRENCE_PROGRAMS", programs)
        kernel, form = (with_last(partial(f, scale=0.7), alone=alone) for f in rules(module))
        check(kernel, form, [first, *given])


def rules(module: Any) -> list[Any]:
    return [module.triton_linear_recurrence, module.linear_recurrence]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_the_last_state_in_half_precision(module: Any, kind: torch.dtype) -> None:
    """It is in float32 where its start is, and loses nothing."""
    start = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    kernel, form = (with_last(f) for f in rules(module))
    check(kernel, form, [start, *inputs(40, 16, 16, "head", lead=(2, 1))], kind)
    given = [x.to(kind) for x in inputs(1, 16, 16, "head", lead=(2, 1))]
    found, meant = (f(*given, start=start, final=True)[1] for f in rules(module))
    torch.testing.assert_close(found, meant, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_a_state_to_start_from_in_half_precision(module: Any, kind: torch.dtype) -> None:
    start = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    check(*forms_from(module), [start, *inputs(40, 16, 16, "head")], kind)


def test_states_may_leave_the_range_of_half_precision(module: Any) -> None:
    """What is read of them does not."""
    q, k, v = (torch.full((1, 1, 300, 1), x, dtype=torch.float16) for x in (0.01, 16.0, 16.0))
    wide = module.linear_recurrence(q.double(), k.double(), v.double())
    torch.testing.assert_close(module.triton_linear_recurrence(q, k, v).double(), wide, rtol=4e-3, atol=0.0)


def test_samples_may_lie_far_apart(module: Any) -> None:
    """Beyond 2^31 elements."""
    far = torch.empty(2**31 + 1024, dtype=torch.float16)  # memory that is not touched is not there
    near = inputs(5, 16, 16, "head", lead=(2, 1))
    k = far.as_strided((2, 1, 5, 16), (2**31, 16, 16, 1)).copy_(near[1])
    kernel, form = forms(module)
    found = kernel(near[0].half(), k, near[2].half(), near[3])
    torch.testing.assert_close(found, form(*near).half(), atol=4e-3, rtol=4e-3)


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module)
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(9, 4, 4, "head"))


def test_checkpointing_and_autocast(module: Any) -> None:
    given = [x.requires_grad_() for x in inputs(9, 4, 4, "channel")]
    kernel, _ = forms(module)
    again = torch.utils.checkpoint.checkpoint(kernel, *given, use_reentrant=False)
    expected = torch.autograd.grad(kernel(*given).sum(), given)
    torch.testing.assert_close(torch.autograd.grad(again.sum(), given), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel(*given).dtype == torch.float32


def test_operators_are_well_formed(module: Any) -> None:
    q, k, v, g = (x.requires_grad_() for x in inputs(9, 4, 4, "channel"))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.recur_in_chunks, (q, k, v, g, None, 0.5, False), test_utils=tests)
    start = torch.randn(1, 1, 4, 4, requires_grad=True)
    torch.library.opcheck(module.recur_in_chunks, (q, k, v, g, start, 0.5, True), test_utils=tests)


def launch(kind: torch.dtype, c: int, d: int, gate: str, starts: bool = False) -> None:
    """One of the configurations that `test_aot` compiles: a long sequence of few heads, which is cut into parts."""
    module = emitted(ALL)
    module.runs = lambda *x: True
    q, k, v = (torch.empty(1, 2, 4096, width, dtype=kind, requires_grad=True) for width in (c, c, d))
    g = [torch.empty(1, 2, 4096, 1 if gate == "head" else c, requires_grad=True)] if gate != "none" else []
    start = torch.empty(c, d, requires_grad=True) if starts else None
    made = module.triton_linear_recurrence(q, k, v, *g, start=start, final=starts)
    torch.autograd.backward(made, (v, start.expand(1, 2, c, d)) if starts else v)
