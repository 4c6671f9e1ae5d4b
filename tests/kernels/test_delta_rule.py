"""The delta rule."""

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
  input beta: [b, t, heads]
  input head: [b, t, heads]
  input channel: [b, t, heads, c]
  by_head = linear_recurrence(q, k, v, beta = beta, log_decay = head)
  by_channel = linear_recurrence(q, k, v, beta = beta, log_decay = channel)
  output y = by_head + by_channel + linear_recurrence(q, k, v, beta = beta)
}
"""
GATES = ["none", "head", "channel"]


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(ALL)


def inputs(t: int, c: int, d: int, gate: str, lead: Any = (1, 1)) -> list[torch.Tensor]:
    """q, k of length 1, v, strengths in (0, 1), and logarithms of decays: weak ones, and some as strong as exp(-20)."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(*lead, t, width, generator=random) for width in (c, c, d))
    beta, g = (torch.rand(*lead, t, width, generator=random) for width in (1, c if gate == "channel" else 1))
    number = torch.arange(t)[:, None] + 7 * torch.arange(g.shape[-1])
    g = -g * torch.where((number % 96 == 8) | (number % 96 == 20), 20, 0.1)
    k = torch.nn.functional.normalize(k, dim=-1)
    return [q, k, v, beta] if gate == "none" else [q, k, v, beta, g]


def forms(module: Any) -> tuple[Any, Any]:
    """The kernel and the PyTorch form as functions of the tensors."""
    return lambda *x: module.triton_delta_rule(*x, scale=0.7), lambda *x: module.delta_rule(*x, scale=0.7)


def forms_from(module: Any) -> list[Any]:
    """The same as functions of a state to start from and the tensors."""
    return [lambda start, *x, f=f: f(*x, scale=0.7, start=start) for f in (module.triton_delta_rule, module.delta_rule)]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    ("t", "c", "d"),
    [(1, 16, 16), (17, 8, 24), *(pytest.param(t, c, d, marks=pytest.mark.slow) for t, c, d in [(63, 64, 16), (64, 5, 40), (100, 24, 7)])],
)  # fmt: skip
def test_delta_rules(module: Any, t: int, c: int, d: int, gate: str) -> None:
    check(*forms(module), inputs(t, c, d, gate))


@pytest.mark.parametrize("gate", [pytest.param("none", marks=pytest.mark.slow), "head", "channel"])
def test_several_chunks(module: Any, gate: str) -> None:
    check(*forms(module), inputs(70, 5, 18, gate))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "gate", [*(pytest.param(gate, marks=pytest.mark.slow) for gate in ("none", "channel")), "head"]
)
def test_half_precision(module: Any, gate: str, kind: torch.dtype) -> None:
    check(*forms(module), inputs(40, 16, 16, gate), kind)


@pytest.mark.parametrize("t", [1, 40])
@pytest.mark.parametrize("gate", [pytest.param("none", marks=pytest.mark.slow), "head", "channel"])
def test_a_state_to_start_from(module: Any, gate: str, t: int) -> None:
    """Of each head, or one for all samples."""
    start = torch.randn(2, 1, 5, 18, generator=torch.Generator().manual_seed(1))
    given = inputs(t, 5, 18, gate, lead=(2, 1))
    check(*forms_from(module), [start, *given])
    check(*forms_from(module), [start[0, 0], *given])


@pytest.mark.parametrize("t", [*(pytest.param(t, marks=pytest.mark.slow) for t in (1, 40)), 20])
@pytest.mark.parametrize("gate", [pytest.param("none", marks=pytest.mark.slow), "head", "channel"])
def test_the_last_state(module: Any, gate: str, t: int) -> None:
    """From nothing or from a state, with or without the outputs."""
    start = torch.randn(2, 1, 5, 18, generator=torch.Generator().manual_seed(1))
    given = inputs(t, 5, 18, gate, lead=(2, 1))
    for first, alone in ((start, False), (torch.zeros(1), True)):
        rules = module.triton_delta_rule, module.delta_rule
        kernel, form = (with_last(partial(f, scale=0.7), alone=alone) for f in rules)
        check(kernel, form, [first, *given])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_the_last_state_in_half_precision(module: Any, kind: torch.dtype) -> None:
    start = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    kernel, form = (with_last(f) for f in (module.triton_delta_rule, module.delta_rule))
    check(kernel, form, [start, *inputs(40, 16, 16, "head", lead=(2, 1))], kind)


def test_equal_keys(module: Any) -> None:
    """The powers of such a system are as large as 10^17; its inverse is not."""
    q, k, v, beta = inputs(64, 8, 8, "none")
    check(*forms(module), [q, k[..., :1, :].expand_as(k), v, torch.ones_like(beta)])


@pytest.mark.parametrize("gate", ["head", "channel"])
def test_documents_start_from_nothing(module: Any, gate: str) -> None:
    q, k, v, beta, g = inputs(40, 8, 8, gate)
    g[..., [0, 20, 32], :] = float("-inf")
    check(*forms(module), [q, k, v, beta, g])


def test_decays_of_any_strength(module: Any) -> None:
    """Each channel forgets all within two positions, or nothing; the product of a chunk's decays is exp(-1600)."""
    q, k, v, beta, g = inputs(40, 8, 8, "channel")
    check(*forms(module), [q, k, v, beta, torch.where(torch.arange(8) % 2 == 0, -50.0, 0.0).expand_as(g)])


@pytest.mark.parametrize("gate", ["head", "channel"])
def test_states_may_grow(module: Any, gate: str) -> None:
    *given, g = inputs(20, 8, 8, gate)
    check(*forms(module), [*given, g.clamp(min=-0.1) + 0.05])


def test_heads_share_queries_and_keys(module: Any) -> None:
    """One decay for all positions, one query and key for all heads; any axes before."""
    random = torch.Generator().manual_seed(0)
    shapes = (2, 1, 1, 9, 4), (2, 1, 1, 9, 4), (2, 1, 3, 9, 5), (2, 1, 3, 9, 1)
    q, k, v, beta = (torch.randn(shape, generator=random) for shape in shapes)
    given = [q, torch.nn.functional.normalize(k, dim=-1), v, beta.sigmoid()]
    check(*forms(module), [*given, -torch.rand(1, 1, 3, 1, 1, generator=random)])
    check(*forms(module), [x[0, 0, 0] for x in given])


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module)
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(9, 4, 4, "head"))


def test_checkpointing_and_autocast(module: Any) -> None:
    given = [x.requires_grad_() for x in inputs(9, 4, 4, "head")]
    kernel, _ = forms(module)
    again = torch.utils.checkpoint.checkpoint(kernel, *given, use_reentrant=False)
    expected = torch.autograd.grad(kernel(*given).sum(), given)
    torch.testing.assert_close(torch.autograd.grad(again.sum(), given), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel(*given).dtype == torch.float32


def test_operators_are_well_formed(module: Any) -> None:
    given = [x.requires_grad_() for x in inputs(9, 4, 4, "head")]
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.write_in_chunks, (*given, None, 0.5, False), test_utils=tests)
    start = torch.randn(1, 1, 4, 4, requires_grad=True)
    torch.library.opcheck(module.write_in_chunks, (*given, start, 0.5, True), test_utils=tests)


def launch(kind: torch.dtype, c: int, d: int, gate: str, starts: bool = False) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(ALL)
    module.runs = lambda *x: True
    q, k, v = (torch.empty(1, 2, 4096, width, dtype=kind, requires_grad=True) for width in (c, c, d))
    widths = {"none": [1], "head": [1, 1], "channel": [1, c]}[gate]
    more = [torch.empty(1, 2, 4096, width, requires_grad=True) for width in widths]
    start = torch.empty(c, d, requires_grad=True) if starts else None
    made = module.triton_delta_rule(q, k, v, *more, start=start, final=starts)
    torch.autograd.backward(made, (v, start.expand(1, 2, c, d)) if starts else v)
