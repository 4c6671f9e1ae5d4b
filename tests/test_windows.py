"""Window order: attention in cells and what stands around it run in the order of the cells, and mean what they meant."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archlang
from archlang.ir import Graph
from archlang.passes import Options, orders
from archlang.primitives import cell_order
from archlang.testing.networks import check_network
from archlang.testing.rewriting import check_passes

SIZES = {"b": 2}
DOMAINS = ["windows(2)", "windows(2, shift = 1)", "grid(2)", "stripes(h = 2)", "axial(w)", "windows([h = 4, w = 3])"]
STEPS = [
    "x -> conv(4, kernel = 3) as {}", "x -> layer_norm as {}", "x -> linear(4) as {} -> gelu", "x + mean(x, on = c)",
    "x * (x -> mean(on = [h, w]))", "x -> drop_path(0.1)", "x + (x -> linear([part = 2, c = 4]) as {})[part = 1]",
    "concat([x, x], on = c) -> linear(4) as {}", "x + row", "x + place", "softmax(x, on = c)", "roll(x, shift = [h = 1])",
]  # fmt: skip


@st.composite
def networks(draw: st.DrawFn) -> str:
    """Layers with attention in cells among others, some in blocks of their own."""
    lines, count = [], 0
    for _ in range(draw(st.integers(1, 4))):
        count += 1
        position = draw(st.sampled_from([", position = relative", ""]))
        call = f"layer({draw(st.sampled_from(DOMAINS))}{position}) as a{count}"
        kind = draw(st.sampled_from(["x -> {}", "x + (x -> layer_norm as n{} -> {})", "(x -> {}) * x"]))
        lines.append(kind.format(count, call) if "n{}" in kind else kind.format(call))
        if draw(st.booleans()):
            count += 1
            lines.append(draw(st.sampled_from(STEPS)).format(f"s{count}"))
    body = "\n".join(f"  x = {line}" for line in lines)
    split = draw(st.booleans())
    inner = f"block inner()(x: [b, .., c], row: [w, c], place: [h, w, c]) -> [b, .., c] {{\n{body}\n  return x\n}}\n"
    return LAYER + (inner if split else "") + NET.format("  x = inner(x, row, place) as inner" if split else body)


LAYER = """
block layer(over: domain, position: position? = none)(x: [b, .., c]) -> [b, .., c] {
  qkv = x -> linear([part = 3, heads = 2, c = 2]) as qkv
  o = attend(qkv[part = 0] -> l2_norm, qkv[part = 1], qkv[part = 2], over = over, position = position)
  return o -> linear([c], on = [heads, c]) as proj
}
"""
NET = """
model net {{
  input x: [b, h = 4, w = 6, c = 4]
  input row: [w = 6, c = 4]
  input place: [h = 4, w = 6, c = 4]
{}
  output y = x
}}
"""


@pytest.mark.parametrize("purpose", ["training", "inference"])
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_any_network(purpose: Any, text: str) -> None:
    network = archlang.loads(text).net()
    check_passes(network, SIZES, Options(purpose))
    check_network(network, SIZES, purpose=purpose)


def network(body: str) -> archlang.Architecture:
    return archlang.loads(LAYER + NET.format(body)).net()


def permutations(graph: Graph) -> int:
    """How often places are moved."""
    own = [node for node in graph if isinstance(node.op, cell_order.CellOrder) and not node.op.is_view]
    return len(own) + sum(permutations(node.op.graph) for node in graph if node.op.name == "call")


RESIDUAL = "  x = x + (x -> layer_norm -> layer({}) as a{}) "
MOVES = {
    "  x = x -> layer(windows(2)) as a": 2,
    "  x = x -> layer(stripes(h = 2)) as a": 0,  # its cells follow one another
    "  x = x -> layer(windows(2)) as a -> layer(grid(2)) as b": 3,
    "  x = x -> layer(windows(2)) as a -> layer(windows(2)) as b": 2,
    "  x = x -> layer(windows(2)) as a -> conv(4, kernel = 3) as c -> layer(windows(2)) as b": 4,
    "\n".join(RESIDUAL.format("windows(2)", i) for i in range(4)): 2,
    "\n".join(RESIDUAL.format(f"windows(2, shift = {i % 2})", i) for i in range(4)): 5,
    "  x = x -> layer(windows(6)) as a": 0,
    """  q = roll(place -> linear([heads = 2, c = 2]) as q, shift = [h = 1])
  kv = x -> linear([part = 2, heads = 2, c = 2]) as kv
  o = attend(q, kv[part = 0], kv[part = 1], over = windows(2), position = relative)
  x = o -> linear([c = 4], on = [heads, c]) as proj""": 3,  # queries come as a map, of which the bias wants the type alone
}


@pytest.mark.parametrize("body", MOVES)
def test_what_is_moved(body: str) -> None:
    net = network(body)
    assert permutations(net.optimised().graph) == MOVES[body]
    assert not permutations(net.optimised(Options(kernels=True)).graph)


def test_one_tensor_of_bias_and_border() -> None:
    """For inference attention reads one tensor that was made once."""
    source = network("  x = x -> layer(windows(2, shift = 1), relative) as a").source(purpose="inference")
    body = source[source.index("class Layer(") :]
    assert "self.bias = (wide(self.relative)() + self.border[:, None]).to(dtype)" in body
    assert "border" not in body[body.index("def forward") : body.index("class Net(")]


def test_noise_is_that_of_a_sample() -> None:
    """`drop_path` drops whole samples, also in the order of cells."""
    body = "\n".join(f"  x = x + (x -> layer(windows(2)) as a{i} -> drop_path(0.5))" for i in range(2))
    torch.manual_seed(0)
    module = network(body).module(seed=0, disable=())
    x, row, place = torch.randn(64, 4, 6, 4), torch.randn(6, 4), torch.randn(4, 6, 4)
    changed = (module(x, row, place) != x).flatten(1)
    assert (changed.all(1) | ~changed.any(1)).all()
    assert 0 < int(changed.any(1).sum()) < 64


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "shift": lambda patch: patch.setattr(cell_order.Order, "shifts", property(lambda order: False)),
    "each": lambda patch: patch.setattr(orders, "commutes", lambda graph, node, order: node.op.name != "attend"),
    "back": lambda patch: patch.setattr(cell_order, "_index", lambda before, after: (after or before).places),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "\n".join(RESIDUAL.format(f"windows([h = 4, w = 3], shift = {i % 2}), relative", i) for i in range(3))
    FAULTS[fault](monkeypatch)
    with pytest.raises(AssertionError):
        check_passes(network(f"{body}\n  x = x -> conv(4, kernel = 3) as c -> layer(grid(2)) as d"), SIZES, Options())


def test_explained() -> None:
    said = network("  x = x -> layer(windows(2)) as a").explain(Options())
    assert "windows: window_order" in said
