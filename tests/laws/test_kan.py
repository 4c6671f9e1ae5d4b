"""Laws of learned functions: bases of univariate functions, and rational activations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError, Primitive
from archlang.primitives.conv import Depthwise
from archlang.primitives.kan import BSpline, Chebyshev, Fourier, Rbf, Rswaf
from archlang.primitives.kan_rational import STARTS, Rational
from archlang.shapes import TensorType
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types

FREE = {"h": 4, "w": 3, "t": 4, "b": 2, "heads": 2, "c": 4}
bases = st.sampled_from(
    [
        Rbf(),
        Rbf(centers=3, low=-1.0, high=2.0, width=0.7),
        Rswaf(),
        Rswaf(centers=2, low=0.0, high=1.0, width=2.0),
        Chebyshev(),
        Chebyshev(degree=1),
        Fourier(waves=3),
        Fourier(waves=1),
    ]
)


@settings(max_examples=40)
@given(tensor_types(), bases)
def test_bases(x: TensorType, op: Primitive) -> None:
    check_law(op, x, sizes=FREE)


@settings(max_examples=20)
@given(tensor_types(must=("c",)), st.sampled_from([(5, 3), (1, 0), (3, 1), (2, 2), (8, 5)]))
def test_splines(x: TensorType, size: tuple[int, int]) -> None:
    grid, order = size
    check_law(BSpline(grid=grid, order=order, low=-2.0), x.resized(c=3), sizes=FREE)


@settings(max_examples=30)
@given(
    tensor_types(must=("c",)),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(5, 4), (5, 5), (6, 4)]),
    st.sampled_from(["terms", "whole"]),
    st.booleans(),
)
def test_rational(x: TensorType, groups: int, order: tuple[int, int], denominator: str, shared: bool) -> None:
    check_law(Rational(groups=groups, order=order, denominator=denominator, shared=shared), x.resized(c=4), sizes=FREE)


# ---- weights that are made
@pytest.mark.parametrize("padding", ["same", "valid", 2])
@pytest.mark.parametrize("paired", [(), ("b",), ("b", "heads")], ids=str)
def test_a_kernel_for_each_channel_that_is_given(paired: tuple[str, ...], padding: object) -> None:
    x = tensor(b="b", h="h", w=4, c=3, heads=2)
    sizes = {"b": "b", "heads": 2}
    weight = tensor(h=3, c=3, **{name: sizes[name] for name in paired}, w=3)
    check_law(Depthwise(kernel=3, padding=padding), x, weight, sizes={"b": 2, "h": 5})


# ---- splines
def test_splines_are_those_of_scipy() -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    module = check_law(BSpline(grid=6, order=3), tensor(b=3, c=2)).get_submodule("op")
    x = torch.linspace(-6, 6, 301)[:, None].expand(-1, 2)
    made = module(x)
    for channel in range(2):
        for k in range(9):
            knots = module.grid[channel, k : k + 5].numpy()
            spline = interpolate.BSpline.basis_element(knots, extrapolate=False)
            wanted = torch.from_numpy(spline(x[:, channel].numpy())).nan_to_num(0.0)
            torch.testing.assert_close(made[:, channel, k], wanted)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
def test_splines_sum_to_1(order: int) -> None:
    from archlang.helpers.b_spline import BSpline as Module

    module = Module(1, grid=7, order=order, low=-2.0, high=3.0).double()
    x = torch.linspace(-1.999, 2.999, 501)[:, None]
    y = module(x)
    assert y.min() >= -1e-12
    torch.testing.assert_close(y.sum(-1), torch.ones_like(x))
    torch.testing.assert_close(module(x + 1000), torch.zeros_like(y))  # nothing far outside, and no nan


def test_a_moved_grid_covers_the_data_and_keeps_the_curves() -> None:
    from archlang.helpers.b_spline import BSpline as Module

    torch.manual_seed(0)
    module, x = Module(3, grid=8), 0.2 * torch.randn(400, 3) + torch.tensor([-0.3, 0.0, 0.4])
    x = x.clamp(-0.99, 0.99)
    cubic = torch.tensor([0.3, -1.0, 0.5, 2.0])  # lies in the splines of every grid
    curves = sum(coefficient * x**i for i, coefficient in enumerate(cubic))
    splines = module(x).transpose(0, 1)
    one = (torch.linalg.pinv(splines) @ curves.T[..., None]).flatten()
    weight = torch.stack([one, -2 * one])
    before = torch.einsum("bcg,ucg->bu", module(x), weight.unflatten(1, (3, -1)))
    moved = module.move_grid(x[None], weight)
    after = torch.einsum("bcg,ucg->bu", module(x), moved.unflatten(1, (3, -1)))
    torch.testing.assert_close(before, torch.stack([curves.sum(1), -2 * curves.sum(1)], 1))
    torch.testing.assert_close(after, before)
    inner = module.grid[:, 3:-3]
    assert bool((module.grid.diff() > 0).all())
    assert bool((inner[:, 0] <= x.amin(0)).all() and (inner[:, -1] >= x.amax(0)).all())
    shares = [torch.bucketize(x[:, i].contiguous(), inner[i]).bincount(minlength=9)[1:] for i in range(3)]
    assert all(share.min() > 30 for share in shares)  # of 50 in each of 8 intervals: the data are shared out
    torch.testing.assert_close(module(x).sum(-1), torch.ones_like(x))


@pytest.mark.parametrize("scaled", ["true", "false"])
def test_an_emitted_network_moves_its_grids(scaled: str) -> None:
    """Layer after layer, as the data reach it; grids as fine as these keep smooth curves."""
    import archlang

    layers = [f"kan({units}, bspline(20, low = -4, high = 4), scaled = {scaled}) as k{units}" for units in (5, 3)]
    text = f"use std.kan: kan\nmodel net {{\n  input x: [b, c = 2]\n  output y = x -> {' -> '.join(layers)}\n}}"
    module, x = archlang.loads(text).architecture().module(seed=0).double(), torch.randn(2000, 2)
    with torch.no_grad():
        for layer in (module.k5, module.k3):
            weight = layer.weight if scaled == "true" else layer.spline.weight
            curve = layer.basis.grid[:, :-4].sin() if weight.shape[0] == 5 else layer.basis.grid[:, :-4].cos()
            weight.copy_(curve.expand(len(weight), *curve.shape).reshape(weight.shape))
        before, value = module(x), x
        for layer in (module.k5, module.k3):
            weight = layer.weight if scaled == "true" else layer.spline.weight
            grid = layer.basis.grid.clone()
            weight.copy_(layer.basis.move_grid(value, weight))
            assert not torch.equal(grid, layer.basis.grid)
            value = layer(value)
        torch.testing.assert_close(value, module(x))
        assert (value - before).abs().max() < 0.01 * before.abs().max()


def test_a_grid_around_equal_data_is_a_grid() -> None:
    from archlang.helpers.b_spline import BSpline as Module

    module = Module(2)
    moved = module.move_grid(torch.full((10, 2), 0.25), torch.ones(4, 16))
    assert bool((module.grid.diff() > 0).all())
    torch.testing.assert_close(module(torch.full((1, 2), 0.25)).flatten(1) @ moved.T, torch.full((1, 4), 2.0))


# ---- rational functions
@pytest.mark.parametrize("denominator", ["terms", "whole"])
@pytest.mark.parametrize("like", list(STARTS))
def test_a_rational_starts_as_the_function(like: str, denominator: str) -> None:
    from archlang.emit import load
    from archlang.emit.torch import emit
    from archlang.testing.laws import single

    graph, _ = single(Rational(groups=2, like=like, denominator=denominator), (tensor(b="b", c=2),))
    module = load(emit(graph), "Net")().double()
    x = torch.linspace(-3, 3, 200)[:, None].expand(-1, 2)
    wanted = x if like == "identity" else getattr(torch.nn.functional, like)(x)
    bound = {"identity": 0.0, "gelu": 2.2e-3, "silu": 2e-6, "tanh": 4e-6}[like]
    assert (module(x) - wanted).abs().max() <= bound
    module(x).square().sum().backward()
    for name, weight in module.named_parameters():  # all can be learned, those that are 0 too
        assert bool((weight.grad.abs() > 0).all()), name


@pytest.mark.parametrize("denominator", ["terms", "whole"])
def test_a_rational_has_no_poles(denominator: str) -> None:
    """Coefficients with which the bare quotient has poles, and inputs far outside."""
    from archlang.helpers.rational_function import RationalFunction

    x = torch.cat([torch.linspace(-4, 4, 401), torch.tensor([-1e6, 1e6])]).float()[:, None, None].requires_grad_()
    a = torch.tensor([[1.0, 1.0, 0.5, -0.3, 0.2, 0.1]]).float().requires_grad_()
    b = torch.tensor([[-1.0, -2.0, 0.5, -0.25]]).float().requires_grad_()  # 1 + sum b_j x^j is 0 between 0 and 1
    y = RationalFunction.apply(x, a, b, denominator == "whole")
    p = sum(a[:, i] * x.detach() ** i for i in range(6))
    assert bool((y.abs() <= p.abs() * (1 + 1e-5)).all())
    y.sum().backward()
    assert all(bool(leaf.grad.isfinite().all()) for leaf in (x, a, b))


def test_the_slopes_of_slopes_are_right() -> None:
    from archlang.helpers.rational_function import RationalFunction

    torch.manual_seed(0)
    x, a, b = torch.randn(3, 2, 4), torch.randn(2, 4), torch.randn(2, 3)
    for whole in (False, True):
        leaves = [leaf.clone().requires_grad_() for leaf in (x, a, b)]
        assert torch.autograd.gradcheck(lambda *given, whole=whole: RationalFunction.apply(*given, whole), leaves)
        assert torch.autograd.gradgradcheck(lambda *given, whole=whole: RationalFunction.apply(*given, whole), leaves)


def test_a_rational_keeps_only_its_input() -> None:
    from archlang.helpers.group_rational import GroupRational

    x, kept = torch.randn(64, 32).requires_grad_(), {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        kept[saved.data_ptr()] = saved.numel()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        GroupRational(4, [0.0, 1.0], [0.0, 0.5])(x)
    assert sum(kept.values()) <= x.numel() + 100


def test_halves_are_computed_in_float32() -> None:
    from archlang.helpers.group_rational import GroupRational

    torch.manual_seed(0)
    module, x = GroupRational(2, *STARTS["silu"]).float(), 3 * torch.randn(100, 4)
    x = x.bfloat16()
    y = module(x)
    assert y.dtype == torch.bfloat16
    assert bool((y == module(x.float()).bfloat16()).all())
    module.bfloat16()(x).sum().backward()  # as when all weights are halves
    assert all(weight.grad.dtype == torch.bfloat16 and weight.grad.isfinite().all() for weight in module.parameters())


def test_nan_stays_in_its_place() -> None:
    for op in (Rational(groups=2), BSpline(), Rbf(), Rswaf(), Chebyshev(), Fourier(waves=2)):
        module = check_law(op, tensor(b=3, c=4))
        x = torch.randn(3, 4)
        before = module(x)
        x[1, 2] = torch.nan
        after = module(x)
        same = torch.ones(3, 4, dtype=torch.bool)
        same[1, 2] = False
        assert torch.equal(before[same], after[same]), op


@pytest.mark.parametrize(
    ("op", "x", "code"),
    [
        (Rational(groups=3), tensor(b="b", c=4), "A204"),
        (Rational(groups=0), tensor(b="b", c=4), "A319"),
        (Rational(order=(3, 4), like="gelu"), tensor(b="b", c=8), "A319"),
        (Rational(order=(0, 4)), tensor(b="b", c=8), "A319"),
        (Rational(), tensor(b="b", n=4), "A205"),
        (Rational(), tensor("int", b="b", c=8), "A214"),
        (BSpline(grid=0), tensor(b="b", c=8), "A319"),
        (BSpline(order=-1), tensor(b="b", c=8), "A319"),
        (BSpline(low=1.0), tensor(b="b", c=8), "A319"),
        (BSpline(), tensor(b="b", n=8), "A205"),
        (Rbf(centers=1), tensor(b="b", c=8), "A319"),
        (Rbf(width=0.0), tensor(b="b", c=8), "A319"),
        (Rswaf(low=2.0), tensor(b="b", c=8), "A319"),
        (Chebyshev(degree=0), tensor(b="b", c=8), "A319"),
        (Fourier(waves=2), tensor(b="b", term=8), "A206"),
        (Fourier(waves=2), tensor("int", b="b", c=8), "A214"),
    ],
    ids=str,
)
def test_refused(op: Primitive, x: TensorType, code: str) -> None:
    with pytest.raises(OpError) as caught:
        infer(op, Facts(), (x,))
    assert caught.value.code == code
