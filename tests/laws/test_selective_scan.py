"""The selective scan: emitted equals meant, step by step, in both directions, over documents, at strong decay."""

from typing import Any

import pytest
import torch

from archlang.facts import Facts
from archlang.helpers.selective_scan import selective_scan
from archlang.primitive import OpError
from archlang.primitives import CONSTRUCTS
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor

FADING = torch.linspace(-0.1, -3, 12, dtype=torch.float64).reshape(4, 3)


def scan(**fields: Any) -> Any:
    return CONSTRUCTS["selective_scan"](**fields)


def given(axis: str = "t", length: int = 5) -> list[Any]:
    """u, dt, A, B, C, D of 4 channels and 3 states; steps are positive."""
    u, read = tensor(b="b", **{axis: length}, c=4), tensor(b="b", **{axis: length}, state=3)
    steps = torch.rand(2, length, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return [u, (u, steps), (tensor(c=4, state=3), FADING), read, read, tensor(c=4)]


@pytest.mark.parametrize("length", [1, 5, 19])
def test_on_time(length: int) -> None:
    check_law(scan(), *given(length=length))


@pytest.mark.parametrize("reverse", [False, True])
def test_on_space(reverse: bool) -> None:
    check_law(scan(reverse=reverse), *given("n"))


def test_documents() -> None:
    doc = tensor(b="b", t=5).cast("segments"), torch.tensor([[0, 0, 1, 1, 1], [2, 2, 2, 2, 3]])
    check_law(scan(), *given(), doc)
    doc = tensor(b="b", n=5).cast("segments"), doc[1]
    check_law(scan(reverse=True), *given("n"), doc)


@pytest.mark.parametrize("length", [1, 5, 19])
def test_a_state_to_start_from_and_the_last_one(length: int) -> None:
    for start in (None, tensor(b="b", c=4, state=3), tensor(state=3)):
        check_law(scan(final=True), *given(length=length), None, start)
    check_law(scan(), *given(length=length), None, tensor(state=3, c=4, b="b"))
    check_law(scan(reverse=True, final=True), *given("n", length), None, tensor(state=3))


def test_a_state_stays_in_the_dtype_of_its_start() -> None:
    x, wide = torch.ones(1, 3, 4, dtype=torch.bfloat16), torch.zeros(1, 4, 4, dtype=torch.float32)
    assert [y.dtype for y in selective_scan(x, x, -x[0, :1].expand(4, -1), x, x, final=True)] == [torch.bfloat16] * 2
    made = selective_scan(x, x, -x[0, :1].expand(4, -1), x, x, start=wide, final=True)
    assert [y.dtype for y in made] == [torch.bfloat16, torch.float32]


def test_the_last_state_is_that_of_the_last_document() -> None:
    doc = tensor(b="b", t=5).cast("segments"), torch.tensor([[0, 0, 1, 1, 1], [2, 2, 2, 2, 3]])
    check_law(scan(final=True), *given(), doc)


def test_the_last_state_of_heads_and_groups() -> None:
    u, a = tensor(b="b", t=4, heads=2, c=3), (tensor(c=3, state=2), -torch.rand(3, 2, dtype=torch.float64))
    start, read = tensor(state=2, c=3), tensor(heads=2, t=4, state=2)
    check_law(scan(final=True), u, tensor(b="b", t=4, c=3, heads=2), a, read, read, None, None, start)


def test_heads_groups_and_shared_inputs() -> None:
    u, a = tensor(b="b", t=5, heads=2, c=3), (tensor(heads=2, c=3, state=2), -torch.rand(2, 3, 2, dtype=torch.float64))
    check_law(scan(), u, tensor(b="b", t=5, heads=2), a, tensor(t=5, state=2), tensor(t=5, b="b", state=2))
    u, a = tensor(b="b", t=4, heads=2, c=3), (tensor(c=3, state=2), -torch.rand(3, 2, dtype=torch.float64))
    check_law(
        scan(), u, tensor(b="b", t=4, c=3, heads=2), a, tensor(b="b", t=4, state=2), tensor(heads=2, t=4, state=2)
    )


def values(length: int, dtype: torch.dtype = torch.float32, decay: float = 1.0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    u, b, c = (torch.randn(2, length, n, generator=random).to(dtype) for n in (3, 2, 2))
    dt = torch.rand(2, length, 3, generator=random).to(dtype)
    return [u, dt, -decay * torch.rand(2, 3, generator=random), b, c]


def test_strong_decay_over_64k_positions() -> None:
    """exp(-20) a step neither overflows nor loses digits."""
    given = values(65536, decay=20.0)
    made, meant = selective_scan(*given), selective_scan(*(x.double() for x in given))
    assert (made - meant).abs().max() <= 1e-5 * meant.abs().max()
    halves = selective_scan(*(x.bfloat16() for x in given[:2]), given[2], *(x.bfloat16() for x in given[3:]))
    assert halves.dtype == torch.bfloat16 and bool(halves.isfinite().all())
    assert (halves - meant).abs().max() <= 2e-2 * meant.abs().max()


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_across_parts(shared: bool) -> None:
    """Of so many states that two positions are at work at once; dt may be the same for the batch."""
    random = torch.Generator().manual_seed(0)
    u, b, c = (torch.randn(2, 5, n, generator=random, dtype=torch.float64) for n in (256, 256, 256))
    dt = torch.rand(5, 256, generator=random, dtype=torch.float64) * (0.1 if shared else torch.ones(2, 1, 1))
    a = -torch.rand(256, 256, generator=random, dtype=torch.float64)
    leaves = [leaf.requires_grad_() for leaf in (u, dt, a, b, c)]

    def steps(u: Any, dt: Any, a: Any, b: Any, c: Any) -> torch.Tensor:
        h, rows = 0.0, []
        for t in range(5):
            step = dt[..., t, None, :]
            h = torch.exp(step * a) * h + step * u[:, t, None] * b[:, t, :, None]
            rows.append((c[:, t, :, None] * h).sum(1))
        return torch.stack(rows, 1)

    weight = torch.randn(2, 5, 256, generator=random, dtype=torch.float64)
    made, meant = (torch.autograd.grad(f(*leaves), leaves, weight) for f in (selective_scan, steps))
    for one, other in zip(made, meant, strict=True):
        torch.testing.assert_close(one, other)


def test_as_compiled() -> None:
    """In blocks side by side, at any length, from nothing and from a state."""
    for length in (1, 16, 37, 300):
        compiled = torch.compile(selective_scan, backend="eager", fullgraph=True, dynamic=False)
        given = [x.double() for x in values(length, decay=20.0)]
        for start in (None, torch.randn(2, 3, dtype=torch.float64)):
            made, meant = (f(*given, start=start, final=True) for f in (compiled, selective_scan))
            torch.testing.assert_close(made, meant, rtol=1e-10, atol=1e-12)
        torch._dynamo.reset()


def test_one_bad_channel_reaches_no_other() -> None:
    u, dt, a, b, c = values(40)
    clean = selective_scan(u, dt, a, b, c)
    for bad in (float("nan"), float("inf")):
        dt = dt.clone()
        dt[0, 7, 1] = bad
        made = selective_scan(u, dt, a, b, c)
        assert torch.equal(made[1], clean[1]) and torch.equal(made[0, :, ::2], clean[0, :, ::2])
        assert torch.equal(made[0, :7], clean[0, :7]) and not bool(made[0, 7, 1].isfinite())


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({2: tensor(c=4)}, "A205", "here none"),
        ({2: tensor(c=4, state=3, more=2)}, "A205", "`state` and `more`"),
        ({2: tensor(c=5, state=3)}, "A204", "`c` has 5 in `A` and 4 in `u`"),
        ({2: tensor(c=4, state=3, t=5)}, "A205", "here none|same at every"),
        ({3: tensor(b="b", t=5, state=2)}, "A204", "`state` has 2 in `B` and 3 in `A`"),
        ({4: tensor(b="b", state=3)}, "A205", "no axis `t`"),
        ({4: tensor(b="b", t=5, c=4, state=3)}, "A205", "`C` has c = 4, and may have t, state, b"),
        ({5: tensor(t=5, c=4)}, "A205", "`D` has t = 5"),
        ({7: tensor(b="b", t=5, c=4, state=3)}, "A205", "`start` has t = 5, and may have state, c, b"),
        ({7: tensor(b="b", c=4)}, "A205", "no axis `state`"),
        ({6: tensor(b="b", t=5).cast("segments"), 7: tensor(state=3)}, "A319", "documents start from nothing"),
        ({0: tensor(b="b", h=5, w=5, c=4)}, "A206", "over = along"),
        ({0: tensor(b="b", c=4)}, "A205", "none in"),
    ],
)
def test_refusals(changed: dict[int, Any], code: str, said: str) -> None:
    types = [item[0] if isinstance(item, tuple) else item for item in (*given(), None, None)]
    types = [changed.get(i, type_) for i, type_ in enumerate(types)]
    with pytest.raises(OpError) as failure:
        scan().infer(Facts(), *types)
    assert failure.value.code == code
    assert any(part in f"{failure.value} {failure.value.help}" for part in said.split("|"))
