"""What is known of the range of values without running anything."""

import math

import pytest
import torch

import archlang
from archlang.analysis.ranges import bounds
from archlang.testing.interpret import run
from archlang.testing.networks import random_inputs

INF = math.inf


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("x", -INF, INF),
        ("sigmoid(x)", 0, 1),
        ("0.3 + 0.7 * sigmoid(x)", 0.3, 1),
        ("1 - 0.5 * sigmoid(x)", 0.5, 1),
        ("exp(-0.6 * sigmoid(x))", math.exp(-0.6), 1),
        ("sigmoid(x) ** 2", 0, 1),
        ("(0.5 + 0.5 * sigmoid(x)) ** (1 / 16)", 0.5 ** (1 / 16), 1),
        ("exp(-softplus(x))", 0, 1),
        ("clamp(x, low = -1)", -1, INF),
        ("clamp(tanh(x), low = 0, high = 2)", 0, 1),
        ("tanh(x) * tanh(x)", -1, 1),
        ("tanh(x) - sigmoid(x)", -2, 1),
        ("x / sigmoid(x)", -INF, INF),
        ("sigmoid(x) / 2", 0, 0.5),
        ("rename(sigmoid(x), n = m)", 0, 1),
        ("concat([sigmoid(x), tanh(x)], on = n)", -1, 1),
        ("log(0.5 + 0.5 * sigmoid(x))", math.log(0.5), 0),
        ("sqrt(relu(x))", 0, INF),
        ("square(tanh(x))", 0, 1),
        ("abs(clamp(x, low = -3, high = 2))", 0, 3),
        ("sigmoid(x) + x", -INF, INF),
        ("0 * x", 0, 0),
        ("cast(cast(0.3 + 0.6 * sigmoid(x), int), float)", -INF, INF),  # 0.3 as a whole number is 0
    ],
)
def test_ranges(text: str, low: float, high: float):
    graph = archlang.loads(f"model net {{\n  input x: [b, n]\n  output y = {text}\n}}").net().graph
    found = bounds(graph, graph.outputs[0][1])
    assert found == pytest.approx((low, high))


def test_values_lie_in_their_ranges():
    texts = ["0.3 + 0.7 * sigmoid(x)", "exp(-0.6 * sigmoid(x))", "square(tanh(x)) - relu6(x)", "abs(sin(x)) / 3"]
    for text in texts:
        network = archlang.loads(f"model net {{\n  input x: [b, n]\n  output y = {text}\n}}").net()
        low, high = bounds(network.graph, network.graph.outputs[0][1])
        made = run(network.graph, {"x": 50 * random_inputs(network, {"b": 9, "n": 99})["x"]}, {})["y"]
        assert isinstance(made, torch.Tensor)
        assert low <= float(made.min()), text
        assert float(made.max()) <= high, text
