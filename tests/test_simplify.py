"""Exact rules keep every bit, of every number; a fault planted in any rule is found by its file in tests/passes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import archlang
from archlang.emit import load
from archlang.passes import PIPELINE, Options, parallel, pipeline, twins
from archlang.primitives import CONSTRUCTS
from archlang.rewrite import Match, Record, Rule, rewrite
from archlang.testing.networks import random_inputs
from archlang.testing.rewriting import check_passes
from tests.test_passes import split

RULES = {rule.name: rule for pass_ in PIPELINE for rule in pass_.rules}
FOLDER = Path(__file__).parent / "passes"
SPECIAL = torch.tensor([-0.0, 0.0, float("inf"), -float("inf"), float("nan"), 1e-45, -1e-45, 1.5, 3e38, -2.0])


def loaded(name: str) -> tuple[archlang.Architecture, Options, dict[str, int]]:
    text, options, sizes, _ = split((FOLDER / f"{name}.txt").read_text("utf-8"))
    return archlang.loads(text, "net.arch").net(), options, sizes


def results(network: archlang.Architecture, options: Options, sizes: dict[str, int]) -> list[torch.Tensor]:
    """What the emitted module makes of numbers of every kind, in float32."""
    source = network.source(purpose=options.purpose, disable=options.disable)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = load(source, network.class_name)().eval()
    inputs = random_inputs(network, sizes)
    for shift, x in enumerate(inputs.values()):
        if x.is_floating_point():
            numbers = SPECIAL.roll(shift).repeat(x.numel() // len(SPECIAL) + 1)[: x.numel()]
            x.set_(numbers.reshape(x.shape).to(x.dtype))  # type: ignore[no-untyped-call]
    made = module(*(x.float() if x.is_floating_point() else x for x in inputs.values()))
    return [made] if isinstance(made, torch.Tensor) else list(made)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(7).signbit(), b.nan_to_num(7).signbit())


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.exactness == "exact"])
def test_every_bit_is_kept(name: str):
    network, options, sizes = loaded(name)
    others = tuple(other for other in RULES if other != name)
    before, after = (results(network, replace(options, disable=names), sizes) for names in ((*others, name), others))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=0, equal_nan=True)
        assert same_bits(a, b)


FALSE = [
    "x + 0",
    "0 + x",
    "x * 0",
    "x - x",
    "x / x",
    "exp(log(x))",
    "relu(tanh(x))",
    "x / 3 * 3",
    "0 - x",
    "abs(tanh(x))",
]


@pytest.mark.parametrize("form", FALSE)
def test_what_is_false_for_some_number_is_left(form: str):
    network = archlang.loads(f"model net {{\n  input x: [b, c = 4]\n  output y = {form}\n}}").net()
    assert network.optimised(Options("inference")).graph.text() == network.graph.text()


def test_the_sign_of_a_zero_is_no_matter_of_course():
    """x - -0.0 is x + 0, and makes 0 of -0.0."""
    graph = archlang.loads("model net {\n  input x: [b, c = 4]\n  output y = x - 2\n}").net().graph
    operation: Any = CONSTRUCTS["sub"]
    for zero, held in ((0.0, True), (-0.0, False)):
        made = graph.blank()
        x = made.add_input("x", graph.inputs["x"].type)
        made.outputs = [("y", made.add(operation(right=zero), [("a", x)])[0])]
        assert (len(rewrite(made, [RULES["minus_zero"]], Record())) == 1) is held


def test_zeros_of_two_signs_are_not_one():
    graph = archlang.loads("model net {\n  input x: [b, c = 4]\n  output y = x - 2\n}").net().graph
    operation: Any = CONSTRUCTS["sub"]
    for second, held in ((0.0, True), (-0.0, False)):
        made = graph.blank()
        x = made.add_input("x", graph.inputs["x"].type)
        made.outputs = [
            (name, made.add(operation(right=zero), [("a", x)])[0]) for name, zero in (("y", 0.0), ("z", second))
        ]
        assert (len(twins.common_subexpressions(made, Record())) == 2) is held


def wrong(rule: Rule) -> Rule:
    """The rule with a fault in what it makes."""

    def spoilt(m: Match, made: Any) -> Any:
        if made.type.dtype == "bool":
            return m.call("logical_not", made)
        return m.call("sub", 1, made)

    def apply(m: Match) -> Any:
        made = rule.apply(m)
        if isinstance(made, tuple):
            return (spoilt(m, made[0]), *made[1:])
        return spoilt(m, made) if hasattr(made, "type") else made

    return replace(rule, apply=once(apply))


def once(apply: Any) -> Any:
    """What a rule does at the first place where it holds."""
    held: list[Any] = []

    def first(m: Match) -> Any:
        made = None if held else apply(m)
        if made is not None and hasattr(made, "__iter__") | hasattr(made, "type"):
            held.append(made)
        return made

    return first


@pytest.mark.parametrize("name", list(RULES))
def test_a_fault_in_a_rule_is_caught(name: str, monkeypatch: pytest.MonkeyPatch):
    network, options, sizes = loaded(name)
    fault = wrong(RULES[name])
    passes = (replace(p, rules=[fault if rule.name == name else rule for rule in p.rules]) for p in PIPELINE)
    monkeypatch.setattr(pipeline, "PIPELINE", tuple(passes))
    with pytest.raises(AssertionError, match="results after"):
        check_passes(network, sizes, options)


def test_layers_with_weights_of_their_own_are_not_one(monkeypatch: pytest.MonkeyPatch):
    key = twins._key
    monkeypatch.setattr(twins, "_key", lambda *given: (found := key(*given)) and found[:-1])
    layers = "model net {\n  input x: [b, c = 4]\n  output y = (x -> linear(4) as p) - (x -> linear(4) as q)\n}"
    with pytest.raises(AssertionError, match="simplify changes the weights"):
        check_passes(archlang.loads(layers).net(), {"b": 2}, Options())


def test_parts_of_a_product_belong_to_their_layers(monkeypatch: pytest.MonkeyPatch):
    joined = parallel._joined
    monkeypatch.setattr(parallel, "_joined", lambda m, nodes, x, leaf: joined(m, nodes[::-1], x, leaf))
    network, options, sizes = loaded("parallel_projections")
    with pytest.raises(AssertionError, match="results after fuse"):
        check_passes(network, sizes, options)
