"""Laws of linear recurrences: every form, in chunks, equals one position after another."""

import math

import pytest
import torch

from archlang.facts import Facts
from archlang.helpers.delta_rule import delta_rule
from archlang.helpers.linear_recurrence import linear_recurrence
from archlang.helpers.recurrence_steps import recurrence_steps
from archlang.primitives.recurrence import LinearRecurrence
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law


def tensor(dtype: str = "float", **sizes: object) -> TensorType:
    return TensorType(tuple(axis(name, size) for name, size in sizes.items()), dtype)


HEADS = {"b": 2, "t": 11, "heads": 2}
Q, V = tensor(**HEADS, c=3), tensor(**HEADS, c=4)
INNER = {"b": 2, "t": 5, "heads": 2, "step": 3}
DECAYS = {
    "none": None,
    "constant": tensor(heads=2),
    "head": tensor(**HEADS),
    "key": tensor(**HEADS, c=3),
}


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("beta", [None, tensor(**HEADS)], ids=["linear", "delta"])
@pytest.mark.parametrize("decay", DECAYS)
def test_forms(decay: str, beta: TensorType | None, chunk: int | None):
    check_law(LinearRecurrence(chunk=chunk, scale=0.5), Q, Q, V, None, beta, DECAYS[decay])


@pytest.mark.parametrize("beta", [None, tensor(**HEADS)], ids=["linear", "delta"])
@pytest.mark.parametrize("decay", [*DECAYS, "pair"])
def test_a_state_to_start_from(decay: str, beta: TensorType | None):
    given = tensor(**HEADS, c=3, c_value=4) if decay == "pair" else DECAYS[decay]
    for start in (tensor(b=2, heads=2, c=3, c_value=4), tensor(c_value=4, c=3)):
        check_law(LinearRecurrence(chunk=4, scale=0.5), Q, Q, V, None, beta, given, None, start)


@pytest.mark.parametrize("length", [1, 11])
@pytest.mark.parametrize("beta", [False, True], ids=["linear", "delta"])
@pytest.mark.parametrize("decay", [*DECAYS, "pair"])
def test_the_last_state(decay: str, beta: bool, length: int):
    """From nothing and from a state, in chunks and at one position, which is no chunk."""
    sizes = HEADS | {"t": length}
    q, v, strength = tensor(**sizes, c=3), tensor(**sizes, c=4), tensor(**sizes) if beta else None
    decays = {"none": None, "constant": tensor(heads=2), "head": tensor(**sizes), "key": q}
    gate = (decays | {"pair": tensor(**sizes, c=3, c_value=4)})[decay]
    for start in (None, tensor(b=2, heads=2, c=3, c_value=4), tensor(c_value=4, c=3)):
        check_law(LinearRecurrence(chunk=4, scale=0.5, final=True), q, q, v, None, strength, gate, None, start)
        if length == 1:
            check_law(LinearRecurrence(), q, q, v, None, strength, gate, None, start)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("beta", [False, True], ids=["linear", "delta"])
def test_the_last_state_of_several_factors(beta: bool, length: int):
    """Queries alone have groups, and the state has what the results have."""
    sizes = INNER | {"t": length}
    k, v, strength = tensor(**sizes, c=3), tensor(**sizes, c=4), tensor(**sizes) if beta else None
    q, doc = tensor(b=2, t=length, heads=2, group=2, c=3), torch.tensor([0, 0, 1, 1, 1])[:length]
    for decay in (None, tensor(t=length, heads=2), tensor(b=2, t=length, c=3)):
        op = LinearRecurrence(inner="step", final=True)
        check_law(op, q, k, v, None, strength, decay, None, tensor(c=3, c_value=4))
        check_law(op, q, k, v, None, strength, decay, (tensor("segments", t=length), doc))


def test_the_last_state_at_the_end():
    """Which is the first position; of the last document."""
    x, doc = tensor(b=2, n=9, c=4), (tensor("segments", n=9), torch.tensor([0] * 3 + [1] * 4 + [0] * 2))
    check_law(LinearRecurrence(reverse=True, final=True), x, x, x, None, None, x, doc)
    check_law(LinearRecurrence(reverse=True, final=True), x, x, x, None, tensor(b=2, n=9), None, doc)


def test_a_state_stays_in_the_dtype_of_its_start():
    """In float32 it loses nothing from one call to the next, whatever the values are in."""
    x, wide = torch.ones(1, 3, 4, dtype=torch.bfloat16), torch.ones(1, 4, 4, dtype=torch.float32)
    for form, given in ((linear_recurrence, ()), (delta_rule, (x[..., :1],)), (recurrence_steps, ())):
        assert [y.dtype for y in form(x, x, x, *given, final=True)] == [torch.bfloat16, torch.bfloat16]
        assert [y.dtype for y in form(x, x, x, *given, start=wide, final=True)] == [torch.bfloat16, torch.float32]
    op, state = LinearRecurrence(final=True), tensor("float32", b=2, heads=2, c=3, c_value=4)
    assert op.infer(Facts(), Q, Q, V, None, None, None, None, state) == (V, state)


def test_a_sequence_in_two_parts():
    """The second starts where the first ends, in every form."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 50, c, generator=random) for c in (8, 8, 6))
    k, beta = torch.nn.functional.normalize(k, dim=-1), torch.rand(2, 50, 1, generator=random)
    for decay in (None, -torch.rand(2, 50, 1, generator=random), -torch.rand(2, 50, 8, generator=random)):
        for form, given in ((linear_recurrence, (q, k, v)), (delta_rule, (q, k, v, beta))):
            gate = () if decay is None else (decay,)
            whole, last = form(*given, *gate, final=True)
            left, state = form(*(x[:, :37] for x in (*given, *gate)), final=True)
            right, after = form(*(x[:, 37:] for x in (*given, *gate)), start=state, final=True)
            torch.testing.assert_close(torch.cat([left, right], 1), whole)
            torch.testing.assert_close(after, last)


@pytest.mark.parametrize("beta", [None, tensor(b=2, n=4, step=2)], ids=["linear", "delta"])
def test_a_state_to_start_from_at_the_end(beta: TensorType | None):
    x, y = tensor(b=2, n=4, step=2, c=3), tensor(b=2, n=4, step=2, c=2)
    start = tensor(b=2, c=3, c_value=2)
    check_law(LinearRecurrence(inner="step", reverse=True), tensor(b=2, n=4, c=3), x, y, None, beta, None, None, start)


@pytest.mark.parametrize("beta", [None, tensor(**INNER), tensor(heads=2)], ids=["linear", "delta", "constant"])
@pytest.mark.parametrize("decay", DECAYS)
def test_several_factors_a_position(decay: str, beta: TensorType | None):
    types = {"none": None, "constant": tensor(heads=2), "head": tensor(t=5, heads=2), "key": tensor(b=2, t=5, c=3)}
    k, v = tensor(**INNER, c=3), tensor(b=2, step=3, t=5, heads=2, c=2)
    check_law(LinearRecurrence(inner="step"), tensor(b=2, t=5, heads=2, c=3), k, v, None, beta, types[decay])


@pytest.mark.parametrize("beta", [None, tensor(**HEADS)], ids=["linear", "delta"])
def test_a_decay_for_every_pair_of_channels(beta: TensorType | None):
    check_law(LinearRecurrence(), Q, Q, V, None, beta, tensor(**HEADS, c=3, c_value=4))
    check_law(LinearRecurrence(), Q, Q, V, None, beta, tensor(heads=2, c_value=4))


@pytest.mark.parametrize("beta", [None, tensor(b=2, n=9)], ids=["linear", "delta"])
def test_space_forward_and_reverse(beta: TensorType | None):
    x = tensor(b=2, n=9, c=4)
    for reverse in (False, True):
        check_law(LinearRecurrence(reverse=reverse), x, x, x, None, beta, tensor(b=2, n=9, c=4))
    image = tensor(b=2, h=3, w=5, c=4)
    check_law(LinearRecurrence(on="w", reverse=True), image, image, image)
    step = tensor(b=2, n=4, step=2, c=4)
    check_law(LinearRecurrence(inner="step", reverse=True), x_of(4), step, step, None, None, tensor(n=4))


def x_of(n: int) -> TensorType:
    return tensor(b=2, n=n, c=4)


def test_free_sizes():
    x = tensor(b=symbol("b"), t=symbol("t"), heads=2, c=3)
    gate = (tensor(b=2, t=70, heads=2), -torch.rand(2, 70, 2, dtype=torch.float64))
    key = (x, torch.randn(2, 70, 2, 3, dtype=torch.float64) / 2)
    for beta in (None, gate):
        check_law(LinearRecurrence(), x, key, x, None, beta, gate, sizes={"b": 2, "t": 70})


def test_axes_that_some_inputs_lack():
    """Shared queries and keys, one beta for all heads, no batch."""
    shared, v, one = tensor(b=2, t=6, c=3), tensor(b=2, t=6, heads=2, c=4), tensor(t=6, c=3)
    check_law(LinearRecurrence(), shared, shared, v, None, None, tensor(t=6, heads=2))
    check_law(LinearRecurrence(), shared, shared, v, None, tensor(t=6), tensor(b=2, t=6, heads=2))
    check_law(LinearRecurrence(), tensor(t=6, group=2, c=3), one, tensor(t=6, c=2), None, None, one)
    check_law(LinearRecurrence(), one, one, tensor(t=6, heads=2, c=2), None, None, tensor(heads=2))


@pytest.mark.parametrize("beta", [None, tensor(b=2, t=6)], ids=["linear", "delta"])
def test_decays_by_channel_for_shared_keys(beta: TensorType | None):
    """Keys that lack the heads or the batch of their decay."""
    q, decay = tensor(b=2, t=6, heads=2, c=3), tensor(b=2, t=6, heads=2, c=3)
    for k in (tensor(t=6, c=3), tensor(b=2, t=6, c=3), tensor(t=6, heads=2, c=3)):
        check_law(LinearRecurrence(), q, k, tensor(t=6, c=4), None, beta, decay)


def test_one_number_for_a_decay():
    for beta in (None, tensor(**INNER)):
        k, doc = tensor(**INNER, c=3), (tensor("segments", t=5), torch.tensor([0, 0, 1, 1, 1]))
        check_law(LinearRecurrence(inner="step"), tensor(b=2, t=5, heads=2, c=3), k, k, None, beta, tensor(), doc)
    check_law(LinearRecurrence(), Q, Q, V, None, None, tensor())


def test_the_decay_itself():
    """As a factor in (0, 1], and not as its logarithm."""
    factor = torch.rand(2, 11, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    check_law(LinearRecurrence(), Q, Q, V, (Q, factor))
    check_law(LinearRecurrence(), Q, Q, V, (tensor(**HEADS), factor[..., 0]), tensor(**HEADS))


@pytest.mark.parametrize("beta", [None, "t"], ids=["linear", "delta"])
@pytest.mark.parametrize("decay", [*DECAYS, "pair"])
@pytest.mark.parametrize("reverse", [False, True])
def test_documents(decay: str, beta: str | None, reverse: bool):
    """The state is 0 where a document starts."""
    along = "n" if reverse else "t"
    sizes = {"b": 2, along: 11, "heads": 2}
    decays = {
        "none": None,
        "constant": tensor(heads=2),
        "head": tensor(**sizes),
        "key": tensor(**sizes, c=3),
        "pair": tensor(**sizes, c=3, c_value=4),
    }
    q, v, strength = tensor(**sizes, c=3), tensor(**sizes, c=4), tensor(**sizes) if beta else None
    doc = tensor("segments", **{"b": 2, along: 11}), torch.tensor([[0] * 3 + [1] * 8, [2] * 6 + [0] + [2] * 4])
    check_law(LinearRecurrence(chunk=4, reverse=reverse), q, q, v, None, strength, decays[decay], doc)


@pytest.mark.parametrize("beta", [None, tensor(**INNER)], ids=["linear", "delta"])
def test_documents_with_several_factors_a_position(beta: TensorType | None):
    k, doc = tensor(**INNER, c=3), (tensor("segments", t=5), torch.tensor([0, 0, 1, 1, 1]))
    for decay in (None, tensor(t=5, heads=2)):
        check_law(LinearRecurrence(inner="step"), tensor(b=2, t=5, heads=2, c=3), k, k, None, beta, decay, doc)


@pytest.mark.parametrize("beta", [None, tensor(**HEADS)], ids=["linear", "delta"])
@pytest.mark.parametrize("least", [0.16, 0.9])
def test_decays_that_are_bounded_from_below(beta: TensorType | None, least: float):
    log_decay = torch.rand(2, 11, 2, 3, dtype=torch.float64) * math.log(least)
    op = LinearRecurrence(least=least)
    check_law(op, Q, Q, V, None, beta, (tensor(**HEADS, c=3), log_decay))
    assert "never below" in op.algorithm(Q, Q, V, None, beta, tensor(**HEADS, c=3))


def test_a_bound_that_a_chunk_leaves_is_of_no_use():
    assert "never below" not in LinearRecurrence(least=0.02).algorithm(*(tensor(b=2, t=100, c=3),) * 3, None, None, Q)
