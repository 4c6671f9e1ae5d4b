"""Choice by measurement: the record, who follows it, and who writes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import archlang
from archlang import cli, tuner
from archlang.cli_tune import _networks
from archlang.diagnostics import ArchError
from archlang.passes import Options
from archlang.testing.networks import check_network
from archlang.tuning import Case, Record, choose, device, expected, loads, model
from archlang.tuning.cases import parse

AMD = "AuthenticAMD 25-1 avx512f x2"
OTHER = Case("linear", (("rows", 1), ("on", 1), ("units", 2)))
TUNED = Record({AMD: {OTHER: {"plain": 1.0}}}).text()  # of a processor that the model knows
NET = """
use std.wiring: residual

model net {
  input x: [b, c = 8, h = 6, w = 6]
  y = x -> conv(8, kernel = 3) as first -> relu6 -> batch_norm as norm
  y = y + (y -> conv(8, kernel = 1, bias = false) as second)
  y = y -> depthwise(3, stride = 2) as third -> batch_norm as norm3 -> gelu_tanh
  z = y -> linear(16) as fc1 -> gelu -> linear(8) as fc2
  z = y + z
  parts = z -> linear([part = 2, c = 4]) as parts
  output out = parts -> linear([c = 8], on = [part, c]) as last -> silu
}
"""


@pytest.fixture(autouse=True)
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model takes oneDNN's products for networks as small as these."""
    monkeypatch.setattr(model, "LITTLE", 0)


def network(text: str = NET) -> Any:
    return archlang.loads(text).architecture()


# ---- what follows a record
def test_readable() -> None:
    text = network().source(purpose="inference", tuned=TUNED)
    body = text[text.index("    def forward(self, x: torch.Tensor)") :]
    assert f"tuned for {AMD}" in text.splitlines()[0] + text.splitlines()[1]
    assert 'y = packed_conv(x, self.first.weight, self.first.bias, padding=1, activation="relu6")' in body
    assert "other=y" in body
    assert 'activation="gelu_tanh"' in body
    assert "packed_linear(" in body
    assert "F.gelu(" not in body


def test_same_network() -> None:
    """In float64 the plain formulas, in float32 the packed ones: both what the source means."""
    net = network()
    check_network(net, {"b": 2}, purpose="inference", tuned=TUNED)
    x, plain = torch.randn(3, 8, 6, 6), net.module(seed=1).eval()
    packed = net.module(seed=1, purpose="inference", tuned=TUNED)
    packed.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(packed(x), plain(x), rtol=1e-5, atol=1e-5)


ONE = {
    "linear(16)": "packed_linear", "linear([heads = 2, c = 4]) -> relu": "packed_linear",
    "conv(6, kernel = 3, stride = 2, padding = \"tf_same\") -> sigmoid": "packed_conv",
    "conv(6, kernel = 3, mode = \"reflect\")": None, "conv(8, kernel = 3, on = h)": None,
    "depthwise(5, dilation = 2) -> hard_swish": "packed_conv", "conv(6, groups = 2) -> tanh": "packed_conv",
    "linear(5, on = w) -> hard_sigmoid": "packed_linear", "linear([], on = c)": "packed_linear",
}  # fmt: skip


@pytest.mark.parametrize("layers", ONE)
@pytest.mark.parametrize("shape", ["b, c = 8, h = 6, w = 6", "b, g = 2, c = 8, h = 6, w = 6"])
def test_each(layers: str, shape: str) -> None:
    net = network(f"model net {{\n  input x: [{shape}]\n  output y = x -> {layers}\n}}\n")
    text = net.source(purpose="inference", tuned=TUNED)
    if ONE[layers]:
        assert f"{ONE[layers]}(" in text
    check_network(net, {"b": 2}, purpose="inference", tuned=TUNED)


ALONE = {  # sums and activations that stay outside
    "x -> mean(on = [h, w])": "y + (x -> linear(8))",
    "x -> conv(8, kernel = 1) -> gelu": "relu(y + (x -> conv(8, kernel = 3)))",
    "x -> conv(8, kernel = 3) -> relu": "y + (y -> tanh)",
    "x -> linear(8) -> silu": "x + y",
}


@pytest.mark.parametrize("first", ALONE)
def test_what_stays_outside(first: str) -> None:
    """A sum that broadcasts, an activation of a sum, a value that others read."""
    net = network(
        f"model net {{\n  input x: [b, c = 8, h = 6, w = 6]\n  y = {first}\n  output z = {ALONE[first]}\n}}\n"
    )
    text = net.source(purpose="inference", tuned=TUNED)
    outside = {"mean": " + packed_linear(", "-> gelu": "F.relu(", "-> relu": "torch.tanh(", "-> silu": "x + "}
    assert next(code for key, code in outside.items() if key in first) in text
    check_network(net, {"b": 2}, purpose="inference", tuned=TUNED)


def test_large_products_are_packed() -> None:
    """Where a record says nothing of a case, and torch's own products are as fast: AMD without AVX-512."""
    tuned = Record({"AuthenticAMD 25-1 avx2 x2": {OTHER: {"plain": 1.0}}}).text()
    made = {
        "linear(2048) as fc": ("n = 512", True), "linear(128) as fc": ("n = 512", False),
        "linear(128) as fc -> gelu": ("n = 512", False), "conv(512, kernel = 1) as fc": ("h = 64, w = 64", True),
        "depthwise(3) as fc": ("h = 64, w = 64", False), "conv(8, kernel = 1) as fc": ("h = 64, w = 64", False),
    }  # fmt: skip
    for layers, (space, packed) in made.items():
        net = network(f"model net {{\n  input x: [b, c = 256, {space}]\n  output y = x -> {layers}\n}}\n")
        assert ("packed_" in net.source(purpose="inference", tuned=tuned)) is packed, layers


def test_attention_is_measured_and_chosen() -> None:
    """The fused kernel against products of matrices, on channels side by side, as in a network."""
    ports = "".join(f"  input {name}: [b, n = 16, heads = 2, c = 8]\n" for name in "qkv")
    bias = "  input bias: [heads = 2, query = 16, key = 16]\n"
    net = network(f"model net {{\n{ports}{bias}  output y = attend(q, k, v, bias = bias)\n}}\n")
    (task,) = tuner.tasks([net.optimised(Options("inference")).graph], 1, inference=True)
    assert list(task.ways) == ["fused", "written"]
    assert set(tuner._measured(task)) == {"fused", "written"}
    q = tuner._laid(task.ways["fused"], "q", dict(task.inputs)["q"], torch.Generator())
    assert q.stride(dict(task.inputs)["q"].names.index("c")) == 1
    for faster, text in (("written", "short_attention("), ("fused", "F.scaled_dot_product_attention(")):
        tuned = Record({AMD: {task.case: {"written": 2.0, "fused": 2.0} | {faster: 1.0}}}).text()
        assert text in net.source(purpose="inference", tuned=tuned)
        check_network(net, {"b": 2}, purpose="inference", tuned=tuned)


def test_for_training_nothing_is_packed() -> None:
    assert "packed" not in network().source(tuned=TUNED)


def test_an_unknown_processor_gets_the_plain_form() -> None:
    tuned = Record({"Riscv 1-1 x2": {OTHER: {"plain": 1.0}}}).text()
    assert "packed_" not in network().source(purpose="inference", tuned=tuned)


def test_chunks() -> None:
    """In training too: a recurrence in the chunk that was the fastest, for lengths nearby."""
    text = "model net {\n  input q: [b, t = 100, c = 16]\n  input k: [b, t = 100, c = 16]\n  input v: [b, t = 100, c = 16]\n  output y = linear_recurrence(q, k, v)\n}\n"
    net = network(text)
    (task,) = tuner.tasks([net.graph], 1, inference=False)
    times = dict.fromkeys(task.ways, 9.0) | {"chunk=64": 1.0}
    tuned = Record({AMD: {task.case: times}}).text()
    assert "chunk=64" in net.source(tuned=tuned)
    assert "chunk=64" not in net.source()
    check_network(net, {"b": 2}, tuned=tuned)


def test_a_delta_rule_is_measured() -> None:
    """On keys with which it stays finite."""
    ports = "".join(f"  input {name}: [b, t = 400, heads = 2, c = 64]\n" for name in "qkv")
    beta = "  input beta: [b, t = 400, heads = 2]\n"
    net = network(f"model net {{\n{ports}{beta}  output y = linear_recurrence(q, k, v, beta = beta)\n}}\n")
    (task,) = tuner.tasks([net.graph], 1, inference=True)
    assert set(tuner._measured(task)) == set(task.ways)


def test_explained() -> None:
    said = network().explain(Options("inference", (), TUNED))
    assert "implementation" in said
    assert "activation" in said
    assert "packed" not in network().explain(Options("inference", ("choose",), TUNED))


# ---- records
CASES = st.builds(
    lambda op, sizes: Case(op, tuple(zip(("rows", "on", "units"), sizes, strict=True))),
    st.sampled_from(["linear", "conv2d"]), st.tuples(*[st.sampled_from([1, 2, 64])] * 3),
)  # fmt: skip
TIMES = st.dictionaries(st.sampled_from(["plain", "packed"]), st.sampled_from([0.5, 1.0, 20.25]), min_size=1)
RECORDS = st.builds(Record, st.dictionaries(st.sampled_from([AMD, "x y"]), st.dictionaries(CASES, TIMES, min_size=1)))


@given(RECORDS, RECORDS, RECORDS)
def test_merging(a: Record, b: Record, c: Record) -> None:
    assert a.merged(b) == b.merged(a)
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(a) == a
    assert loads(a.merged(b).text()) == a.merged(b)


@given(RECORDS)
def test_lines_are_sorted(a: Record) -> None:
    """So that version control merges them, and equal records are equal files."""
    lines = a.text().splitlines()[2:-1]
    assert len(lines) == sum(len(cases) for cases in a.devices.values())
    assert [line.partition(" | ")[0] for line in lines] == sorted(line.partition(" | ")[0] for line in lines)
    assert json.loads(a.text())["archlang tune"] == 1


@given(CASES)
def test_the_text_of_a_case(case: Case) -> None:
    assert parse(str(case)) == case


def test_the_nearest_case_counts() -> None:
    near = Case("linear", (("rows", 2), ("on", 64), ("units", 64)))
    record = Record({AMD: {near: {"plain": 2.0, "packed": 1.0}, OTHER: {"plain": 1.0, "packed": 2.0}}})
    assert choose(Case("linear", (("rows", 4), ("on", 64), ("units", 64))), ["plain", "packed"], record) == "packed"
    assert choose(OTHER, ["plain", "packed"], record) == "plain"
    far = Case("linear", (("rows", 512), ("on", 4096), ("units", 64)))
    assert choose(far, ["plain", "packed"], record) == expected(far, AMD, ["plain", "packed"])
    assert choose(near, ["plain"], record) == "plain"


def test_a_call_costs_more_than_a_small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    small, large = (Case("linear", (("rows", 64), ("on", n), ("units", n))) for n in (32, 512))
    assert [expected(case, AMD, ["plain", "packed"]) for case in (small, large)] == ["plain", "packed"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"archlang tune": 2}', '{"archlang tune": 1, "x": {"plain": 1}}',
     '{"archlang tune": 1, "x | linear rows=1 float32": {}}', '{"archlang tune": 1, "x | linear rows=1 float32": {"plain": "1"}}',
     '{"archlang tune": 1, "x | linear rows=1 int8": {"plain": 1}}', '{"archlang tune": 1, "x | linear rows float32": {"plain": 1}}',
     "<<<<<<< HEAD"],
)  # fmt: skip
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(ArchError, match="A906"):
        loads(text)


# ---- measuring
@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuner, "VISIT", 0.0)
    Path("net.arch").write_text(NET)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments))


def test_tune_and_build(run: Callable[..., Any]) -> None:
    made = run("tune", "net.arch", "--format", "json")
    assert made.exit_code == 0, made.output
    about = json.loads(made.stdout)
    assert about["cases"] == about["measured"] > 4
    record = loads(Path("tuning.json").read_text())
    assert list(record.devices) == [device()]
    assert all({"plain"} < set(times) for times in record.devices[device()].values())
    assert run("build", "net.arch", "--for", "inference", "--tuned", "tuning.json").exit_code == 0
    assert f"tuned for {device()}" in Path("net.py").read_text()
    assert run("tune", "net.arch", "--batch", "8").exit_code == 0
    both = loads(Path("tuning.json").read_text())
    assert set(record.devices[device()]) < set(both.devices[device()])


MODELS = """model a(dim: int = 4) {
  input x: [b, c = 3]
  output y = x -> linear(dim)
  variant small { dim = 2 }
  variant large { dim = 8 }
}
model d { input x: [b, c = 3]
  output y = x }
"""


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("two.arch", ["a", "a/small", "a/large", "d"]),
        ("two.arch:a", ["a", "a/small", "a/large"]),
        ("two.arch:a/large", ["a/large"]),
        ("two.arch:d", ["d"]),
    ],
)
def test_what_a_target_names(run: Callable[..., Any], target: str, names: list[str]) -> None:
    Path("two.arch").write_text(MODELS)
    assert ["/".join(filter(None, (net.name, net.variant))) for net in _networks(target)] == names


def test_no_network_of_that_name(run: Callable[..., Any]) -> None:
    assert run("tune", "net.arch:none").exit_code != 0
    with pytest.raises(ArchError, match="A503"):
        raise run("tune", "net.arch:none").exception


def test_no_time(run: Callable[..., Any]) -> None:
    assert run("tune", "net.arch", "--seconds", "0").exit_code == 0
    assert loads(Path("tuning.json").read_text()).devices.get(device(), {}) == {}


def test_interrupted(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured so far is kept."""
    measured, calls = tuner._measured, []

    def stop(task: Any) -> dict[str, float]:
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measured(task)

    monkeypatch.setattr(tuner, "_measured", stop)
    assert run("tune", "net.arch").exit_code == 130
    assert len(loads(Path("tuning.json").read_text()).devices[device()]) == 2


def test_what_computes_something_else_is_left_out() -> None:
    (task, *_) = tuner.tasks([network().graph], 1, inference=True)
    wrong = tuner.Task(
        task.case, task.inputs, task.ways | {"wrong": task.ways["packed"].model_copy(update={"activation": "tanh"})}
    )
    assert set(tuner._measured(wrong)) == {"plain", "packed"}


def test_a_file_in_the_way(run: Callable[..., Any]) -> None:
    Path("tuning.json").write_text("mine")
    with pytest.raises(ArchError, match="A906"):
        raise run("tune", "net.arch").exception
    assert Path("tuning.json").read_text() == "mine"
