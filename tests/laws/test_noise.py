"""Noise: nothing in evaluation, the right share and scale in training; layer scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang.emit.torch import emit
from archlang.facts import Facts
from archlang.primitive import OpError, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.shapes import TensorType
from archlang.testing.laws import check_law, single
from archlang.testing.strategies import tensor, tensor_types

NOISES = ["dropout", "drop_path", "stochastic_depth"]


def op(name: str, **fields: object) -> Primitive:
    made = CONSTRUCTS[name](**fields)
    assert isinstance(made, Primitive)
    return made


@settings(max_examples=15)
@given(st.sampled_from(NOISES), tensor_types(must=("b",)), st.sampled_from([0, 0.3]))
def test_evaluation_is_the_identity(name: str, x: TensorType, rate: float) -> None:
    check_law(op(name, rate=rate), x)


@pytest.mark.parametrize("name", NOISES)
def test_no_rate_no_text(name: str) -> None:
    graph, _ = single(op(name, rate=0), [tensor(b="b", c=3)])
    assert "return x\n" in emit(graph)


def test_dropout_in_training() -> None:
    torch.manual_seed(0)
    y = check_law(op("dropout", rate=0.25), tensor(b="b", c=4)).train()(torch.ones(1000, 4))
    assert set(y.unique().tolist()) == {0, 1 / 0.75}
    assert y.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("order", ["b c n", "n b c", "c n b"])
def test_drop_path_drops_whole_samples(order: str) -> None:
    torch.manual_seed(0)
    sizes: dict[str, int | str] = {"b": "b", "c": 3, "n": 5}
    x = torch.ones([{"b": 400, "c": 3, "n": 5}[name] for name in order.split()])
    y = check_law(op("drop_path", rate=0.25), tensor(**{name: sizes[name] for name in order.split()})).train()(x)
    samples = y.movedim(order.split().index("b"), 0).flatten(1)
    assert torch.equal(samples, samples[:, :1].expand_as(samples))
    assert set(y.unique().tolist()) == {0, 1 / 0.75}
    assert y.mean().item() == pytest.approx(1, abs=0.15)


@settings(max_examples=20)
@given(tensor_types(must=("c", "h")), st.sampled_from([("c",), ("h",), ("c", "h")]))
def test_layer_scale(x: TensorType, on: tuple[str, ...]) -> None:
    module = check_law(op("layer_scale", init=1e-6, on=on), x.resized(c=3, h=4))
    fresh = type(module)().state_dict()["op.gamma"]
    assert torch.equal(fresh, torch.full_like(fresh, 1e-6))


def test_refusals() -> None:
    for name, fields, x, words in (
        ("dropout", {"rate": 1}, tensor(b=2), "below 1"),
        ("drop_path", {"rate": -0.1}, tensor(b=2), "from 0"),
        ("drop_path", {"rate": 0.1}, tensor(c=2), "no axis of role batch"),
        ("dropout", {"rate": 0.1}, tensor("int", b=2), "takes a `float`"),
    ):
        with pytest.raises(OpError, match=words):
            op(name, **fields).infer(Facts(), x)


def test_label_dropout() -> None:
    """Nothing in evaluation; in training the share `rate` of the labels is `null`."""
    torch.manual_seed(0)
    labels = torch.arange(1000) % 7
    module = check_law(op("label_dropout", rate=0.25, null=9), tensor("int", b="b"))
    assert torch.equal(module(labels), labels)
    dropped = module.train()(labels)
    assert torch.equal(dropped[dropped != 9], labels[dropped != 9])
    assert (dropped == 9).double().mean().item() == pytest.approx(0.25, abs=0.05)


def test_label_dropout_takes_labels() -> None:
    with pytest.raises(OpError, match="whole numbers"):
        op("label_dropout", rate=0.1, null=9).infer(Facts(), tensor(b="b"))
    with pytest.raises(OpError, match="from 0 to 1"):
        op("label_dropout", rate=1.5, null=9).infer(Facts(), tensor("int", b="b"))
