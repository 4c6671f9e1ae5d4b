"""NaN or inf in one batch entry or head reaches no other."""

from pathlib import Path

import pytest
import torch

import archlang
from archlang.testing.networks import random_inputs

LENGTH = 70  # more than a chunk
HEADS = "b, t, heads = 2"
NETWORKS = {
    "selective_scan(u, softplus(dt), -exp(a), k, q)": {
        "u": "b, t, c = 4",
        "dt": "b, t, c = 4",
        "a": "c = 4, state = 3",
        "k": "b, t, state = 3",
        "q": "b, t, state = 3",
    },
    "gated_sum(x, sigmoid(gate))": {"x": "b, t, c = 4", "gate": "b, t, c = 4"},
    "x -> lstm(4)": {"x": "b, t, c = 4"},
    "x -> gru(4)": {"x": "b, t, c = 4"},
    "linear_recurrence(q, k, v, decay = sigmoid(gate))": {
        **dict.fromkeys(("q", "k", "v"), f"{HEADS}, c = 4"),
        "gate": f"{HEADS}, c = 4, c_value = 4",
    },
    "linear_recurrence(q, k, v, beta = sigmoid(beta), decay = sigmoid(gate), inner = inner)": {
        "q": f"{HEADS}, c = 4",
        **dict.fromkeys(("k", "v"), f"{HEADS}, inner = 2, c = 4"),
        "beta": f"{HEADS}, inner = 2",
        "gate": HEADS,
    },
    "scan t carry s: [b, heads = 2, c = 4] = 0 {\n s = sigmoid(gate) * tanh(s) + x\n yield s\n }": {
        "x": f"{HEADS}, c = 4",
        "gate": HEADS,
    },
    "attend(q, k, v, over = sliding(5))": dict.fromkeys(("q", "k", "v"), f"{HEADS}, c = 4"),
}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("body", NETWORKS)
def test_it_stays_where_it_is(body: str, bad: float, tmp_path: Path):
    inputs = NETWORKS[body]
    declared = "".join(f"  input {name}: [{axes}]\n" for name, axes in inputs.items())
    (tmp_path / "net.arch").write_text(f"model net() {{\n{declared}  y = {body}\n  output z = y\n}}\n")
    network = archlang.load(tmp_path / "net.arch").architecture()
    module = network.module()
    given = {name: x.to(torch.get_default_dtype()) for name, x in random_inputs(network, {"b": 3, "t": LENGTH}).items()}
    clean = module(**given)
    for name, axes in inputs.items():
        for axis in ("b", "heads"):
            if axis not in axes:
                continue
            at = [word.split()[0] for word in axes.split(", ")].index(axis)
            spoilt = {**given, name: given[name].clone()}
            spoilt[name].select(at, 1)[1] = bad
            out = ("b", "t", "heads").index(axis)
            assert torch.equal(module(**spoilt).select(out, 0), clean.select(out, 0)), (name, axis)
