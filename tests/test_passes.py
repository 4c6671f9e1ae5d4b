"""Passes: what each rule does is written in tests/passes/, a file a rule, and checked to change no meaning.

A file holds a program, a line `for PURPOSE, b = 2, ..` (`for PURPOSE with kernels, ..`) with the sizes at which it is run, and what the rules that are named
like the file did: what they removed and added, or why they did not hold. `pytest --update-golden` writes these lines.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import archlang
from archlang.ir import Graph, Rebuild
from archlang.passes import PIPELINE, Options, pipeline
from archlang.primitives import CONSTRUCTS
from archlang.rewrite import Match, Record, Rule, rewrite, rule
from archlang.rewrite.pattern import parse
from archlang.testing.networks import check_network
from archlang.testing.rewriting import check_passes
from tests.test_graphs import SIZES, programs

FILES = sorted((Path(__file__).parent / "passes").glob("*.txt"))
NAMES = {rule.name for pass_ in PIPELINE for rule in pass_.rules} | {
    change.__name__
    for pass_ in PIPELINE
    if pass_.purposes != ("decoding",)  # that one refuses, and changes nothing
    for change in pass_.changes
}


def split(text: str) -> tuple[str, Options, dict[str, int], list[str]]:
    """The program, how it is optimised, the sizes at which it is run, and what is expected."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("for "))
    how, *sizes = lines[at].removeprefix("for ").split(", ")
    purpose, kernels, _ = how.partition(" with kernels")
    options = Options(purpose, kernels=bool(kernels))  # type: ignore[arg-type]
    pairs = (size.split(" = ") for size in sizes)
    return "\n".join(lines[:at]), options, {name: int(size) for name, size in pairs}, lines[at + 1 :]


def done(network: archlang.Architecture, options: Options, name: str) -> list[str]:
    """What the rule did, as the file states it."""
    lines = []
    for event in network.optimised(options).events:
        if event.rule == name:
            lines.append(f"{event.place}: {event.reason or event.rule}")
            lines += [f"  - {line}" for line in event.removed] + [f"  + {line}" for line in event.added]
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_rule(path: Path, request: pytest.FixtureRequest):
    program, options, sizes, expected = split(path.read_text("utf-8"))
    network = archlang.loads(program, "net.arch").net()
    held = check_passes(network, sizes, options)
    assert path.stem in {name for names in held.values() for name in names}, "the rule holds nowhere"
    target = "triton" if options.kernels else "torch"
    check_network(network, sizes, purpose=options.purpose, target=target)
    found = done(network, options, path.stem)
    if request.config.getoption("--update-golden"):
        head = path.read_text("utf-8").split("\nfor ")[0]
        how = f"{options.purpose}{' with kernels' if options.kernels else ''}"
        words = ", ".join([how, *(f"{name} = {size}" for name, size in sizes.items())])
        path.write_text("\n".join([head, f"for {words}", *found, ""]), "utf-8")
        return
    assert found == expected


def test_every_rule_has_a_file():
    assert {path.stem for path in FILES} == NAMES


@pytest.mark.parametrize("rule", [rule for pass_ in PIPELINE for rule in pass_.rules], ids=lambda rule: rule.name)
def test_rules_state_their_laws(rule: Rule):
    assert rule.law
    assert rule.pattern.ops <= set(CONSTRUCTS)


@pytest.mark.parametrize("purpose", ["training", "inference"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(programs())
def test_passes_keep_the_meaning(purpose: Any, text: str):
    network = archlang.loads(text).net()
    free = {name for type_ in network.inputs.values() for axis in type_ for name in getattr(axis.size, "symbols", ())}
    sizes = {name: SIZES[name] for name in sorted(free)}
    check_passes(network, sizes, Options(purpose))
    check_network(network, sizes, purpose=purpose)


def graph(body: str) -> Graph:
    return archlang.loads(f"model net {{\n  input x: [b, c = 4]\n  input y: [b, c = 4]\n{body}\n}}").net().graph


@pytest.mark.parametrize(
    ("pattern", "body", "count"),
    [
        ("relu(a + b)", "output z = relu(x + y)", 1),
        ("relu(a + a)", "output z = relu(x + y)", 0),
        ("relu(a + a)", "output z = relu(x + x)", 1),
        ("a + relu(b)", "output z = relu(x) + y", 1),
        ("a - relu(b)", "output z = relu(x) - y", 0),
        ("2 * a", "output z = x * 2", 1),
        ("2 * a", "output z = x * 3", 0),
        ("linear_2(relu(linear_1(a)))", "output z = x -> linear(3) as p -> relu -> linear(2) as q", 1),
        ("bend(a)", "output z = relu(x) + tanh(x)", 2),
        ("linear(a)", "w = dot(x, y, on = b) * x\noutput z = w", 0),
    ],
)
def test_patterns(pattern: str, body: str, count: int):
    known, made = graph(body), parse(pattern, {"bend": "relu tanh"})
    found = [node for node in known if next(made.match(known, node, {}), None) is not None]
    assert len(found) == count


@rule("relu(tanh(x))", "exact")
def planted(m: Match) -> Any:
    """A false law: relu(tanh(x)) = relu(x)."""
    return m.call("relu", m.x)


def test_a_node_that_others_read_is_not_removed():
    record = Record()
    shared = graph("u = tanh(x)\noutput z = relu(u) + u")
    assert rewrite(shared, [planted], record) is shared
    assert [event.reason for event in record.events] == ["the result of `tanh` is read elsewhere too"]


def test_a_false_rule_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "PIPELINE", (pipeline.Pass("planted", (planted,)),))
    network = archlang.loads("model net {\n  input x: [b, c = 4]\n  output z = relu(tanh(x))\n}").net()
    with pytest.raises(AssertionError, match="results after planted"):
        check_passes(network, {"b": 3}, Options())


def test_a_lost_weight_is_caught(monkeypatch: pytest.MonkeyPatch):
    def forget(found: Graph, record: Record) -> Graph:
        rebuild = Rebuild(found)
        for node in found:
            if node.label:
                rebuild.put(node, [rebuild.operands(node)[0][1]])
            else:
                rebuild.copy(node)
        return rebuild.finish()

    monkeypatch.setattr(pipeline, "PIPELINE", (pipeline.Pass("forget", (), (forget,)),))
    network = archlang.loads("model net {\n  input x: [b, c = 4]\n  output z = x -> linear(4) as fc\n}").net()
    with pytest.raises(AssertionError, match="forget changes the weights"):
        check_passes(network, {"b": 3}, Options())


def test_rules_can_be_left_out():
    network = archlang.loads("model net {\n  input x: [b, c = 4]\n  output z = x -> dropout(0.1)\n}").net()
    assert len(network.optimised(Options("inference")).events) == 1
    assert not network.optimised(Options("inference", ("no_noise",))).events
    with pytest.raises(archlang.ArchError, match="no_noise"):
        network.optimised(Options("inference", ("no_nois",)))
