"""Cross-entropy: emitted equals meant, with targets in any order of the axes."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import archlang
from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError
from archlang.primitives.cross_entropy import CrossEntropy
from archlang.shapes import TensorType
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor

AXES = {"b": "b", "t": 3, "k": 2, "c": 5}


def target(*names: str, classes: int = 5) -> tuple[TensorType, torch.Tensor]:
    """Random classes for these axes, among them -100 and 1."""
    type_ = tensor(**{name: AXES[name] for name in names}).cast("int")
    shape = [axis.size if isinstance(axis.size, int) else 2 for axis in type_]
    chosen = torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(3))
    if not names:  # a mean over nothing has no slope
        return type_, chosen.fill_(2)
    chosen.view(-1)[:2] = torch.tensor([-100, 1])
    return type_, chosen


OPTIONS = st.fixed_dictionaries(
    {
        "reduction": st.sampled_from(["mean", "sum", None]),
        "ignore_index": st.sampled_from([-100, 1]),
        "label_smoothing": st.sampled_from([0, 0.1, 1]),
        "z_loss": st.sampled_from([0, 0.01]),
    }
)


@settings(max_examples=40)
@given(st.permutations(["b", "t", "k", "c"]), st.permutations(["b", "t", "k"]), st.integers(0, 3), OPTIONS)
def test_cross_entropy(order: list[str], places: list[str], count: int, options: dict[str, Any]) -> None:
    names = [name for name in places if name in places[:count]]
    x = tensor(**{name: AXES[name] for name in order if name in (*names, "c")})
    type_, chosen = target(*names)
    kept = chosen.clamp(min=0) if options["ignore_index"] != -100 else chosen
    check_law(CrossEntropy(**options), x, (type_, kept), sizes={"b": 2})


def test_the_usual_is_pytorchs_own() -> None:
    text = "model net {{ input x: [b, t, vocab = 9]\ninput next: int[b, t]\noutput y = cross_entropy(x, next, {}) }}"
    said = archlang.loads(text.format("on = vocab, label_smoothing = 0.1")).net().source()
    assert "return F.cross_entropy(x.flatten(0, 1), next.flatten(), label_smoothing=0.1)" in said
    said = archlang.loads(text.format("on = vocab, reduction = none")).net().source()
    assert 'F.cross_entropy(x.flatten(0, 1), next.flatten(), reduction="none").unflatten(-1, (b, t))' in said


def test_a_mean_over_nothing_is_no_number() -> None:
    net = archlang.loads("model net { input x: [b, c = 4]\ninput k: int[b]\noutput y = cross_entropy(x, k) }").net()
    assert net.module()(torch.zeros(2, 4), torch.tensor([-100, -100])).isnan()


@pytest.mark.parametrize(
    ("x", "chosen", "options", "about", "title"),
    [
        (tensor(b="b", c=4).cast("int"), tensor(b="b").cast("int"), {}, "x", "takes logits"),
        (tensor(b="b", c=4), tensor(b="b"), {}, "target", "the number of a class"),
        (tensor(b="b", c=4), tensor(b="b", t=2).cast("int"), {}, "target", "has a target"),
        (tensor(b="b", t=3, c=4), tensor(b="b", t=2).cast("int"), {}, "target", "3 in `x` and 2 in `target`"),
        (tensor(b="b", c=4), tensor(b="b").cast("int"), {"label_smoothing": 2}, "label_smoothing", "from 0 to 1"),
        (tensor(b="b", c=4), tensor(b="b").cast("int"), {"on": ("vocab",)}, "x", "no axis `vocab`"),
    ],
)
def test_what_is_refused(x: Any, chosen: Any, options: dict[str, Any], about: str, title: str) -> None:
    with pytest.raises(OpError, match=title) as refused:
        infer(CrossEntropy(**options), Facts(), [x, chosen])
    assert refused.value.about == about
