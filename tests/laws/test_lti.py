"""Linear systems that do not change with time: convolution and recurrence are one function, and their parts hold."""

from typing import Any

import pytest
import torch

from archlang.facts import Facts
from archlang.helpers.long_conv import long_conv
from archlang.helpers.lti_scan import lti_scan
from archlang.primitive import OpError
from archlang.primitives import CONSTRUCTS
from archlang.testing.laws import check_emitted, check_law, random_tensor, single
from archlang.testing.strategies import tensor


def op(name: str, **fields: Any) -> Any:
    return CONSTRUCTS[name](**fields)


def system(kind: str = "complex", axis: str = "t") -> list[Any]:
    """u, dt, a, read, b, skip of 3 channels and 2 states."""
    random = torch.Generator().manual_seed(0)
    a = -torch.rand(3, 2, dtype=torch.float64, generator=random) - 0.1
    a = torch.complex(a, 3 * torch.rand(3, 2, dtype=torch.float64, generator=random)) if kind == "complex" else a
    dt = torch.rand(3, dtype=torch.float64, generator=random)
    states = tensor(c=3, state=2).cast(kind)
    return [tensor(b="b", c=3, **{axis: 7}), (tensor(c=3), dt), (states, a), states, states, tensor(c=3)]


@pytest.mark.parametrize("mode", ["convolution", "recurrence"])
@pytest.mark.parametrize("kind", ["complex", "float"])
def test_both_modes(mode: str, kind: str) -> None:
    check_law(op("lti_scan", mode=mode), *system(kind))
    check_law(op("lti_scan", mode=mode), *system(kind)[:4])
    check_law(op("lti_scan", mode=mode, reverse=True), *system(kind, "n"))


def test_heads_and_shared_systems() -> None:
    u = tensor(b="b", heads=2, t=5, c=3)
    a = tensor(heads=2, state=2), -torch.rand(2, 2, dtype=torch.float64)
    dt = tensor(c=3), torch.rand(3, dtype=torch.float64)
    for mode in ("convolution", "recurrence"):
        check_law(op("lti_scan", mode=mode), u, dt, a, tensor(c=3, state=2), None, tensor(heads=2))


def test_strong_decay_over_64k_positions() -> None:
    random = torch.Generator().manual_seed(0)
    u, read = torch.randn(1, 2, 65536, generator=random), torch.randn(2, 2, generator=random)
    a = torch.complex(torch.tensor([[-0.001, -20.0]] * 2), torch.rand(2, 2, generator=random))
    given = [u, torch.ones(2, 1), a, torch.complex(read, read.flip(0))]
    made, meant = lti_scan(*given), lti_scan(*(x.to(torch.promote_types(x.dtype, torch.float64)) for x in given))
    assert (made - meant).abs().max() <= 1e-3 * meant.abs().max()  # the phases of 64k steps, in float32
    assert bool(made.isfinite().all())


@pytest.mark.parametrize(
    ("u", "kernel"),
    [
        (tensor(b="b", t=6, c=2), tensor(c=2, t=6)),
        (tensor(b="b", n=6, c=2), tensor(n=12)),
        (tensor(t=4, c=2, b="b"), tensor(m=3, t=9, c=2)),
    ],
)
def test_long_conv(u: Any, kernel: Any) -> None:
    check_law(op("long_conv"), u, kernel)


def test_a_kernel_may_be_shorter() -> None:
    graph, _ = single(op("long_conv"), [tensor(b=2, t=6, c=2), tensor(t=3)])
    random = torch.Generator().manual_seed(0)
    check_emitted(graph, {port: random_tensor(value.type, random) for port, value in graph.inputs.items()})


def test_one_bad_channel_reaches_no_other() -> None:
    u, kernel = torch.randn(2, 3, 20), torch.randn(3, 20)
    clean = long_conv(u, kernel)
    u[0, 1, 4] = float("nan")
    made = long_conv(u, kernel)
    assert torch.equal(made[1], clean[1]) and torch.equal(made[0, ::2], clean[0, ::2])


def square(**more: Any) -> tuple[Any, torch.Tensor]:
    """A matrix that is no accident to invert."""
    shape = [size if isinstance(size, int) else 2 for size in more.values()]
    noise = torch.randn(*shape, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return tensor(**more, row=4, col=4), noise / 4 + torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize(
    "b", [tensor(row=4), tensor(c=3, row=4), tensor(row=4, col=4), tensor(col=4, c=3, row=4), tensor(b="b", row=4)]
)
def test_solve(b: Any) -> None:
    check_law(op("solve", on=("row", "col")), square(c=3), b)
    check_law(op("solve", on=("row", "col")), square(), b)


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_krylov(size: int) -> None:
    made = op("krylov", on=("row", "col"), axis="t", size=size)
    check_law(made, square(c=3), tensor(c=3, row=4), tensor(m=2, row=4))
    check_law(made, square(), tensor(c=3, row=4), tensor(row=4, c=3))
    check_law(made, square(), tensor(row=4), tensor(row=4))
    check_law(made, square(b="b", c=3), tensor(c=3, row=4), tensor(row=4))


def test_complex_numbers() -> None:
    z = tensor(b="b", c=3).cast("complex")
    check_law(op("complex"), tensor(b="b", c=3), tensor(c=3, n=2))
    check_law(op("real"), z)
    check_law(op("imag"), z)


def test_hippo() -> None:
    """HiPPO-LegS of order 3, from the paper."""
    a = eval(op("hippo_legs_a").code("(3, 3)"), {"torch": torch})
    b = eval(op("hippo_legs_b").code("(3,)"), {"torch": torch})
    root = [1, 3**0.5, 5**0.5]
    meant = [[-1, 0, 0], [-root[1], -2, 0], [-root[2], -root[1] * root[2], -3]]
    torch.testing.assert_close(a, torch.tensor(meant))
    torch.testing.assert_close(b, torch.tensor(root))


@pytest.mark.parametrize(
    ("name", "fields", "types", "code"),
    [
        ("lti_scan", {}, [tensor(b=2, t=3, c=2), tensor(c=2), tensor(c=2), tensor(c=2)], "A205"),
        ("lti_scan", {}, [tensor(b=2, t=3, c=2), tensor(t=3), tensor(c=2, n=4), tensor(c=2, n=4)], "A205"),
        ("lti_scan", {}, [tensor(b=2, t=3, c=2), tensor(c=2), tensor(c=2, n=4), tensor(c=2, n=5)], "A204"),
        ("lti_scan", {}, [tensor(b=2, t=3), tensor(), tensor(n=4).cast("complex"), tensor(n=4)], "A214"),
        ("long_conv", {}, [tensor(b=2, t=3), tensor(c=2)], "A205"),
        ("long_conv", {}, [tensor(b=2, t=3), tensor(t=3).cast("complex")], "A214"),
        ("solve", {"on": ("row", "col")}, [tensor(row=3, col=4), tensor(row=3)], "A204"),
        ("solve", {"on": ("row",)}, [tensor(row=3, col=3), tensor(row=3)], "A206"),
        ("solve", {"on": ("row", "col")}, [tensor(row=3, col=3), tensor(c=3)], "A205"),
        ("krylov", {"on": ("row", "col"), "axis": "t", "size": 0}, [square()[0], tensor(row=4), tensor(row=4)], "A220"),
        ("complex", {}, [tensor(c=3), tensor(c=3).cast("int")], "A214"),
        ("real", {}, [tensor(c=3)], "A214"),
    ],
)
def test_refusals(name: str, fields: dict[str, Any], types: list[Any], code: str) -> None:
    with pytest.raises(OpError) as failure:
        op(name, **fields).infer(Facts(), *types)
    assert failure.value.code == code
