"""Linear recurrences at one position."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.utils.checkpoint

import archlang
from tests.kernels import check, emitted, with_last

ALL = """
model net {
  input x: [b, t = 1, heads = 2, c = 4]
  input before: float32[b, heads = 2, c = 4, c_value = 4]
  y, after = linear_recurrence(x, x, x, decay = sigmoid(x), beta = sigmoid(sum(x, on = c)), start = before, final = true)
  output out = y
  output state = after
}
"""
DECAYS = {"none": None, "head": (1, 1), "key": (5, 1), "value": (1, 18), "pair": (5, 18)}


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(ALL)


def inputs(decay: str, beta: bool, t: int = 1, c: int = 5, d: int = 18, lead: Any = (2, 3)) -> list[Any]:
    """q, k of length 1, v, and where they are there strengths in (0, 1) and logarithms of decays."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(*lead, t, width, generator=random) for width in (c, c, d))
    strength = [torch.rand(*lead, t, 1, generator=random)] if beta else []
    shape = DECAYS[decay]
    gate = [] if shape is None else [-torch.rand(*lead, t, *shape, generator=random) * 3]
    return [q, torch.nn.functional.normalize(k, dim=-1), v, *strength, *gate]


def forms(module: Any, beta: bool = False, **given: Any) -> list[Any]:
    """The kernel and the PyTorch form, as functions of a start and the tensors; without strengths the decay follows."""

    def run(rule: Any, q: Any, k: Any, v: Any, *more: Any, **named: Any) -> Any:
        strength, gate = (more[0], more[1:]) if beta else (None, more)
        return rule(q, k, v, strength, gate[0] if gate else None, 0.7, **named)

    rules = module.triton_recurrence_steps, module.recurrence_steps
    return [with_last(partial(run, rule), **given) for rule in rules]


def start(c: int = 5, d: int = 18, lead: Any = (2, 3)) -> torch.Tensor:
    return torch.randn(*lead, c, d, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("beta", [False, True], ids=["linear", "delta"])
@pytest.mark.parametrize("decay", DECAYS)
def test_one_position(module: Any, decay: str, beta: bool) -> None:
    """From a state of each head, of all samples, or from nothing; several factors are as many positions."""
    given = inputs(decay, beta)
    check(*forms(module, beta), [start(), *given])
    check(*forms(module, beta), [start()[0], *given])
    check(*forms(module, beta, alone=True), [torch.zeros(1), *given])
    check(*forms(module, beta), [start(), *inputs(decay, beta, t=3)])


@pytest.mark.parametrize(("c", "d"), [(1, 1), (16, 16), (64, 40), pytest.param(300, 7, marks=pytest.mark.slow)])
def test_sizes(module: Any, c: int, d: int) -> None:
    check(*forms(module, True), [start(c, d, (1, 2)), *inputs("head", True, c=c, d=d, lead=(1, 2))])


def test_columns_are_as_many_as_keep_a_gpu_busy(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for programs, values in ((1, 32), (4, 16), (264, 8)):
        monkeypatch.setattr(module, "STEP_PROGRAMS", programs)
        k, v = torch.ones(1, 1, 1, 64), torch.ones(1, 1, 1, 64)
        assert module.step_call(k, v, None)["VALUES"] == values
        check(*forms(module), [start(5, 40, (1, 1)), *inputs("head", False, d=40, lead=(1, 1))])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    """A state in float32 stays one, and loses nothing."""
    check(*forms(module, True), [start(), *inputs("head", True)], kind)
    q, k, v, beta, gate = (x.to(kind) for x in inputs("head", True))
    rules = module.triton_recurrence_steps, module.recurrence_steps
    found, meant = (rule(q, k, v, beta, gate, start=start(), final=True) for rule in rules)
    assert [x.dtype for x in found] == [x.dtype for x in meant] == [kind, torch.float32]
    torch.testing.assert_close(found[1], meant[1], rtol=1e-6, atol=1e-6)


def test_heads_share_queries_and_keys(module: Any) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = (2, 1, 1, 1, 4), (2, 1, 1, 1, 4), (2, 1, 3, 1, 5)
    given = [torch.randn(shape, generator=random) for shape in shapes]
    check(*forms(module), [start(4, 5, (3,)), *given, -torch.rand(1, 1, 3, 1, 1, 1, generator=random)])
    check(*forms(module), [start(4, 5, ()), *(x[0, 0, 0] for x in given)])


def test_samples_may_lie_far_apart(module: Any) -> None:
    """Beyond 2^31 elements."""
    far = torch.empty(2**31 + 1024, dtype=torch.float16)  # memory that is not touched is not there
    q, k, v = (x.half() for x in inputs("none", False, c=16, d=16, lead=(2, 1)))
    kernel, form = module.triton_recurrence_steps, module.recurrence_steps
    found = kernel(q, far.as_strided(k.shape, (2**31, 16, 16, 1)).copy_(k), v)
    torch.testing.assert_close(found, form(q, k, v), atol=4e-3, rtol=4e-3)


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module, True)
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, [start(), *inputs("key", True)])


def test_operators_are_well_formed(module: Any) -> None:
    q, k, v, beta, gate = (x.requires_grad_() for x in inputs("key", True))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.recur_by_steps, (q, k, v, beta, gate, start(), 0.7, True), test_utils=tests)
    torch.library.opcheck(module.recur_by_steps, (q, k, v, None, None, None, 0.7, False), test_utils=tests)


def test_a_network_of_one_position_calls_it() -> None:
    """With the numbers of the network that runs on torch alone."""
    model = archlang.loads(ALL).net()
    assert "kernel recurrence_steps: one position" in model.explain(target="triton")
    random = torch.Generator().manual_seed(0)
    x, before = torch.randn(2, 1, 2, 4, generator=random), torch.randn(2, 2, 4, 4, generator=random)
    assert "triton_recurrence_steps(" in model.source("triton") and "triton_" not in model.source()
    torch.testing.assert_close(model.module(target="triton")(x, before), model.module()(x, before))


def launch(kind: torch.dtype, c: int, d: int, decay: str, beta: bool, heads: int = 16) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(ALL)
    module.runs = lambda *x: True
    shape = {"none": None, "head": (1, 1), "key": (c, 1), "pair": (c, d)}[decay]
    q, k, v = (torch.empty(1, heads, 1, width, dtype=kind) for width in (c, c, d))
    strength, gate = torch.empty(1, heads, 1, 1, dtype=kind) if beta else None, None
    if shape is not None:
        gate = torch.empty(1, heads, 1, *shape)
    first = torch.empty(1, heads, c, d)
    module.triton_recurrence_steps(q, k, v, strength, gate, start=first, final=True)
