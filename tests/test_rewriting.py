"""The driver of rules: what it guards, what it records, and that its work grows with the graph."""

from collections.abc import Sequence
from typing import Any

import pytest

import archlang
from archlang.ir import Arrange, Call, Graph, Rebuild, Scan, Value, listing
from archlang.passes import Options, pipeline
from archlang.rewrite import Match, No, Record, Rule, report, rewrite, rule
from archlang.rewrite.record import Event
from archlang.sizes import symbol
from archlang.source import BUILTIN
from archlang.testing.rewriting import check_passes


def graph(body: str, before: str = "") -> Graph:
    return archlang.loads(f"{before}model net {{\n  input x: [b, c = 4]\n{body}\n}}", "net.arch").net().graph


def after(found: Graph, *rules: Rule) -> tuple[Graph, Record]:
    record = Record(stage="planted")
    return rewrite(found, rules, record), record


def names(found: Graph) -> list[str]:
    return [node.op.name for node in found if node.op.name != "input"]


@rule("relu(relu_1(x))", "exact")
def relu_again(m: Match) -> Any:
    """relu(relu(x)) = relu(x)."""
    return m.call("relu", m.x)


@rule("split(x)", "exact")
def cut(m: Match) -> Any:
    """Parts are slices."""
    made, ends = [], 0
    for type_ in m.root.types:
        start, ends = ends, ends + type_.size("c")
        made.append(m.call("slice", m.x, axis="c", start=start, stop=ends))
    return tuple(made)


@rule("tanh(x)", "exact")
def refused(m: Match) -> Any:
    """Never."""
    return No("it is not wanted")


@rule("tanh(x)", "exact")
def forever(m: Match) -> Any:
    """tanh(x) = tanh(x), again and again."""
    return m.call("tanh", m.x)


@rule("tanh(x)", "exact")
def wider(m: Match) -> Any:
    """A false law that changes a type."""
    return m.call("expand", m.x, sizes={"n": 2})


@rule("sigmoid(x)", "exact")
def turned(m: Match) -> Any:
    """The same values over other axes first."""
    return m.add(Arrange(order=m.x.type.names[::-1]), x=m.call("sigmoid", m.x)) if m.x.type.names[0] == "b" else None


def test_a_chain_collapses_and_refuses_nothing_on_the_way():
    made, record = after(graph("output y = x -> relu -> relu -> relu -> relu"), relu_again)
    assert names(made) == ["relu"]
    assert not [event for event in record.events if event.reason]


def test_what_a_node_reads_twice_is_its_own():
    @rule("relu(x) + relu_1(x)", "exact")
    def doubled(m: Match) -> Any:
        """relu(x) + relu(x) = 2 relu(x)."""
        return m.call("mul", m.call("relu", m.x), 2)

    found = graph("u = relu(x)\noutput y = u + u")
    assert names(after(found, doubled)[0]) == ["relu", "mul"]
    assert after(graph("u = relu(x)\noutput y = u + u\noutput z = u"), doubled)[1].events[0].reason


def test_a_rule_may_replace_several_results():
    made, record = after(graph("u, v = split(x, 2, on = c)\noutput y = u * v"), cut)
    assert names(made) == ["slice", "slice", "mul"]
    assert len(record.events) == 1
    assert len(record.events[0].added) == 2


def test_one_result_for_two_is_a_mistake():
    @rule("split(x)", "exact")
    def half(m: Match) -> Any:
        """A false law."""
        return m.x

    with pytest.raises(AssertionError, match="half: 1 results for 2"):
        after(graph("u, v = split(x, 2, on = c)\noutput y = u * v"), half)


def test_another_type_is_a_mistake():
    with pytest.raises(AssertionError, match="wider: .* does not stand for"):
        after(graph("output y = tanh(x)"), wider)


def test_rules_that_never_settle_are_a_mistake():
    with pytest.raises(AssertionError, match="net: rules still hold after 64 sweeps"):
        after(graph("output y = tanh(x)"), forever)


def test_the_order_of_axes_is_kept(monkeypatch: pytest.MonkeyPatch):
    """It decides what a caller sees, and how an operation over several axes lays out its weights."""
    monkeypatch.setattr(pipeline, "PIPELINE", (pipeline.Pass("turn", (once(turned),)),))
    text = "model net {\n  input x: [b, c = 4]\n  output y = sigmoid(x)\n}"
    network = archlang.loads(text).net()
    assert network.optimised(Options()).graph.outputs[0][1].type.names == ("b", "c")
    check_passes(network, {"b": 2}, Options())


def once(law: Rule) -> Rule:
    """The rule at the first place alone."""
    left = [law]

    def apply(m: Match) -> Any:
        return left.pop().apply(m) if left else None

    return Rule(law.name, law.text, law.exactness, apply)


def test_a_reason_is_said_once_and_none_is_silent():
    found = graph("output y = relu(tanh(x))")
    made, record = after(found, refused, relu_again)
    assert rewrite(made, [refused], record) is found
    assert [event.reason for event in record.events] == ["it is not wanted"]
    assert report(record.events) == ["planted: refused, refused", "    net  (net.arch:3): it is not wanted"]


BLOCKS = "block twice()(x: [.., c]) = x -> relu -> relu -> linear(4)\n"
SCANNED = """
  y = scan t carry s: [b, c = 4] = 0 {
    s = relu(relu(s + x))
    yield s
  }
  output z = y -> twice -> twice
"""


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (0, ""),
        (8, ", 8 bytes of values a sample less"),
        (-8, ", 8 bytes of values a sample more"),
        (-8 * symbol("t") * symbol("b"), ", 8 * t bytes of values a sample more"),
        (8 * symbol("t") - 16, ", 8 * t - 16 bytes of values a sample less"),
    ],
)
def test_what_is_made_more_is_said_so(saved: Any, said: str):
    (line, _) = report([Event("fold", "planted", "net", BUILTIN, saved=saved)])
    assert line == f"fold: planted, 1 place{said}"


def test_blocks_and_scans_are_rewritten_where_they_are():
    text = BLOCKS + "model net {\n  input x: [b, t, c = 4]\n" + SCANNED + "}"
    made, record = after(archlang.loads(text).net().graph, relu_again)
    assert sorted(event.graph for event in record.events) == ["scan", "twice"], "each distinct block once"
    inner = [node.op.graph for node in made if isinstance(node.op, Call | Scan)]
    assert [names(part).count("relu") for part in inner] == [1, 1, 1]
    assert listing(made).count("graph twice(") == 1


def chain(length: int) -> Graph:
    made = Graph("net")
    value = made.add_input("x", graph("output y = x").inputs["x"].type)
    ops = [node.op for node in graph("output y = x -> relu -> relu -> tanh") if node.op.name != "input"]
    for i in range(length):
        (value,) = made.add(ops[i % 3], [("x", value)])
    made.outputs = [("y", value)]
    return made


def test_work_grows_with_the_graph(monkeypatch: pytest.MonkeyPatch):
    counts: list[int] = []
    real = Rebuild.put

    def counted(self: Rebuild, node: Any, values: Sequence[Value]) -> None:
        counts[-1] += 1
        real(self, node, values)

    monkeypatch.setattr(Rebuild, "put", counted)
    for length in (300, 900):
        counts.append(0)
        after(chain(length), relu_again)
    assert counts[1] <= 3.1 * counts[0]
