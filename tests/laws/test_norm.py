"""Laws of normalisations: statistics over the axes that they name and no other."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError, Primitive
from archlang.primitives.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from archlang.primitives.norm_length import GRN, L2Norm
from archlang.shapes import TensorType
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types

FREE = {"h": 4, "w": 3, "t": 4, "b": 2, "heads": 2, "c": 4}


def fixed(x: TensorType, *names: str) -> TensorType:
    """Axes that weights have cannot be free."""
    return x.resized(**{name: FREE[name] for name in names if name in x})


@settings(max_examples=40)
@given(
    tensor_types(must=("c",)), st.sampled_from([LayerNorm, RMSNorm]), st.booleans(), st.sampled_from([1e-6, 1e-5, 0.1])
)
def test_over_channels(x: TensorType, norm: type[Primitive], affine: bool, eps: float) -> None:
    check_law(norm(affine=affine, eps=eps), fixed(x, "c"), sizes=FREE)


@settings(max_examples=20)
@given(
    tensor_types(must=("c", "h"), names=("b", "c", "h", "w", "t")),
    st.sampled_from([("space",), ("c", "h"), ("h",), ("c", "space")]),
)
def test_over_named_axes(x: TensorType, on: tuple[str, ...]) -> None:
    x = fixed(x, "c", "h", "w")
    for op in (
        LayerNorm(on=on),
        LayerNorm(on=on, bias=False),
        LayerNorm(on=on, affine=False),
        RMSNorm(on=on),
        L2Norm(on=on),
    ):
        module = check_law(op, x, sizes=FREE)
        if op == LayerNorm(on=on):
            shape = [x.size(name) for name in op.params(x)["weight"].names]
            assert list(module.get_parameter("op.weight").shape) == shape


@settings(max_examples=25)
@given(tensor_types(must=("c",), names=("b", "c", "h", "w", "t", "heads"), most=6, largest=3), st.booleans())
def test_batch_norm(x: TensorType, affine: bool) -> None:
    assume(len(x.axes) > 1)
    check_law(BatchNorm(affine=affine, eps=1e-3), fixed(x, "c"), sizes=FREE)


@pytest.mark.parametrize(
    "x",
    [tensor(b=5, c=3), tensor(b=4, c=3, h=2, w=5), tensor(b=2, n=7, c=3), tensor(heads=2, h=2, t=3, w=2, b=2, c=3)],
    ids=str,
)
def test_batch_norm_in_training(x: TensorType) -> None:
    module = check_law(BatchNorm(), x)
    module.load_state_dict({**module.state_dict(), "op.running_mean": torch.zeros(3), "op.running_var": torch.ones(3)})
    module.train()
    value = torch.randn([int(str(a.size)) for a in x])
    y = module(value)
    rows = value.movedim(x.names.index("c"), -1).reshape(-1, 3)
    norm = module.get_submodule("op")
    means, variances = rows.mean(0), rows.var(0, correction=0)
    wanted = (rows - means) / (variances + 1e-5).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(y.movedim(x.names.index("c"), -1).reshape(-1, 3), wanted)
    torch.testing.assert_close(norm.running_mean, 0.1 * means)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * rows.var(0, correction=1))
    assert norm.num_batches_tracked == 1


def test_batch_norm_of_another_axis() -> None:
    module = check_law(BatchNorm(on="walk", momentum=0.01), tensor(b="b", n="n", walk=5))
    assert module.get_parameter("op.weight").shape == (5,)
    assert module.get_submodule("op").momentum == 0.01


@settings(max_examples=30)
@given(
    tensor_types(must=("c",), names=("b", "c", "h", "w", "heads")),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.booleans(),
)
def test_group_norm(x: TensorType, groups: int, affine: bool, alone: bool) -> None:
    # one value alone is its own mean: nothing is left to compare
    assume(groups < 4 or (not alone and any(a.role == "space" and a.size != 1 for a in x)))
    on = {"on": ()} if alone else {}
    check_law(GroupNorm(groups=groups, affine=affine, **on), fixed(x, "c"), sizes=FREE)


@settings(max_examples=20)
@given(tensor_types(must=("c", "h"), names=("b", "c", "h", "w", "heads")), st.booleans())
def test_instance_norm(x: TensorType, affine: bool) -> None:
    check_law(InstanceNorm(affine=affine), fixed(x, "c", "h"), sizes=FREE)


@settings(max_examples=20)
@given(tensor_types(must=("c", "h"), names=("b", "c", "h", "w", "d", "heads")))
def test_grn(x: TensorType) -> None:
    check_law(GRN(), fixed(x, "c"), sizes=FREE)


def test_grn_starts_as_the_identity() -> None:
    from archlang.helpers.global_response_norm import GlobalResponseNorm

    x = torch.randn(2, 3, 3, 4)
    torch.testing.assert_close(GlobalResponseNorm(4)(x), x)


@pytest.mark.parametrize("op", [LayerNorm(), RMSNorm(), L2Norm(), BatchNorm(), GroupNorm(groups=2, on=())], ids=str)
def test_causal_on_time(op: Primitive) -> None:
    infer(op, Facts(), (tensor(b="b", t="t", c=4),))
    assert "t" not in op.looks_ahead(tensor(b="b", t=5, c=4))


@pytest.mark.parametrize(
    ("op", "x", "code"),
    [
        (LayerNorm(), tensor(b="b", h=3), "A205"),
        (LayerNorm(on=("space",)), tensor(b="b", c=3), "A205"),
        (LayerNorm(), tensor("int", c=3), "A214"),
        (BatchNorm(), tensor(c=3), "A205"),
        (BatchNorm(on="k"), tensor(b="b", c=3), "A205"),
        (GroupNorm(groups=3), tensor(b="b", h=2, c=4), "A204"),
        (GroupNorm(groups=0), tensor(b="b", h=2, c=4), "A319"),
        (GroupNorm(groups=2), tensor(b="b", t=2, c=4), "A208"),
        (GroupNorm(groups=2, on=("k",)), tensor(b="b", c=4), "A205"),
        (InstanceNorm(), tensor(b="b", c=4), "A205"),
        (InstanceNorm(), tensor(b="b", t=5, c=4), "A208"),
        (GRN(), tensor(b="b", t=5, c=4), "A208"),
        (L2Norm(on=("time",)), tensor(b="b", t=5, c=4), "A208"),
    ],
    ids=str,
)
def test_refused(op: Primitive, x: TensorType, code: str) -> None:
    with pytest.raises(OpError) as caught:
        infer(op, Facts(), (x,))
    assert caught.value.code == code
