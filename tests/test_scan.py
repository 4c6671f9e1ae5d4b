"""Scans: a body run at one position of an axis after another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import archlang
from archlang.sizes import substitute
from archlang.testing.networks import check_network, random_inputs

SIZES = {"b": 2, "t": 5}


def network(text: str, **settings: Any) -> Any:
    program = archlang.loads(text)
    return program.architecture(next(iter(program.models)), None, settings)


GATED = """
model net(dim: int = 4) {
  input x: [b, t, c = dim]
  input h0: [b, c = dim]
  param decay: [c = dim] = 0.5
  y, z = scan t carry h: [b, c = dim] = h0, s: [b, c = dim] = 0 {
    g = sigmoid(x -> linear(dim) as gate)
    h = g * h + (1 - g) * tanh(h -> linear(dim) as cell)
    s = decay * s + h
    yield h, s * x
  }
  output out: [b, t, c = dim] = y + z
}
"""
EXCLUSIVE = """
model net(dim: int = 3) {
  input x: [b, t, c = dim]
  y = scan t carry a: [b, c = dim] = 1, b_: [b, c = dim] = 0 {
    yield a - b_
    a, b_ = tanh(b_ + x), sin(a)
  }
  output out: [b, t, c = dim] = y
}
"""
BLOCKS = """
block cell(dim: int)(x: [b, c], hidden: [b, c = dim], memory: [b, c = dim]) {
  gates = concat([x, hidden], on = c) -> linear([gate = 4, c = dim]) as gates
  memory = sigmoid(gates[gate = 0]) * memory + sigmoid(gates[gate = 1]) * tanh(gates[gate = 2])
  return sigmoid(gates[gate = 3]) * tanh(memory), memory
}
block attention()(query: [b, c], memory: [b, m: free, c]) -> [b, c] {
  weight = softmax(dot(query -> linear(c) as q, memory, on = c), on = m)
  return dot(weight, memory, on = m)
}
model net(dim: int = 4) {
  input x: [b, t, c = dim]
  input source: [b, m: free, c = dim]
  step, attend_to = cell(dim), attention
  z, context = scan t carry hidden: [b, c = dim] = 0, memory: [b, c = dim] = 0, seen: [b, c = dim] = 0 {
    hidden, memory = step(concat([x, seen], on = c), hidden, memory)
    seen = attend_to(hidden, source)
    yield hidden, seen
  }
  output out: [b, t, c = 2 * dim] = concat([z, context], on = c) -> dropout(0.1)
}
"""
INSIDE = """
block mix(gain: float)(x: [.., c]) -> [.., c] = tanh(x -> linear(c) as proj) * gain
model net(dim: int = 4, flag: bool = true) {
  input x: [b, t, c = dim]
  input k: [b, t, heads = 2, c = dim]
  repeat 2 as layers[i] {
    x = scan t carry h: [b, c = dim] = 0 {
      repeat 2 as inner[j] { h = h + (h -> mix(0.5) as mix) }
      if flag { h = h + x } else { h = h - x }
      for j in range(k.heads) { h = sin(h) + k[heads = j] }
      yield h -> layer_norm as norm
    }
  }
  output out: [b, t, c = dim] = x
}
"""
NESTED = """
model net(dim: int = 3, steps: int = 2) {
  input x: [b, t, n, c = dim]
  y = scan t carry s: [b, c = dim] = 0 {
    rows = scan n carry r: [b, c = dim] = s {
      r = tanh(r + x)
      yield r * s
    }
    s = mean(rows, on = n)
    yield rows + s
  }
  output out: [b, t, n, c = dim] = y
}
"""
OVER_SPACE = """
model net(dim: int = 3) {
  input x: [b, h, w, c = dim]
  y = scan w carry s: [b, h, c = dim] = 0 {
    s = tanh(x + s)
    yield s
  }
  output out: [b, h, w, c = dim] = y
}
"""
OVER_A_PATH = """
model net(dim: int = 3) {
  input x: [b, h, w, c = dim]
  input gain: [b, c = dim]
  y = scan snake(h, w, reverse = true) carry s: [b, c = dim] = 0 {
    s = tanh(gain * x + s)
    yield s
  }
  z = scan along(w, reverse = true) carry s: [b, h, c = dim] = 0 {
    s = tanh(x + s)
    yield s
  }
  output out: [b, h, w, c = dim] = y + z
}
"""
WHOLE = """
model net(dim: int = 4) {
  input x: [b, t, c = dim]
  total = scan t carry count: int[b] = 0, s: float32[b, c = dim] = 0.5 {
    count = count + 1
    s = tanh(s + x) / count
    yield cast(s, float)
  }
  output out: [b, t, c = dim] = total
}
"""
STATE_SPACE = """
model net(state: int = 4, dim: int = 3) {
  input u: [b, t, c = dim]
  param a_bar: [c = dim, row = state, col = state] = normal(0.3)
  param b_bar: [c = dim, row = state] = normal(1)
  param read: [c = dim, m = 2, row = state] = normal(1)
  y = scan t carry x: [b, c = dim, row = state] = 0 {
    x = dot(a_bar, rename(x, row = col), on = col) + b_bar * u
    yield dot(read, x, on = row)
  }
  output out: [b, t, c = dim, m = 2] = y
}
"""
TEXTS = {
    "state_space": (STATE_SPACE, SIZES),
    "gated": (GATED, SIZES),
    "exclusive": (EXCLUSIVE, SIZES),
    "blocks": (BLOCKS, {**SIZES, "m": 3}),
    "inside": (INSIDE, SIZES),
    "nested": (NESTED, {**SIZES, "n": 3}),
    "over_a_path": (OVER_A_PATH, {"b": 2, "h": 3, "w": 4}),
    "over_space": (OVER_SPACE, {"b": 2, "h": 3, "w": 4}),
}
GOLDEN = Path(__file__).parent / "golden/scans"


@pytest.mark.parametrize("name", TEXTS)
def test_equals_its_meaning(name: str) -> None:
    text, sizes = TEXTS[name]
    check_network(network(text), sizes)


@pytest.mark.parametrize("name", TEXTS)
def test_text(name: str, request: pytest.FixtureRequest) -> None:
    made, file = network(TEXTS[name][0]).source(), GOLDEN / f"{name}.py"
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(made)
    assert made == file.read_text()


@pytest.mark.parametrize("name", TEXTS)
def test_counts_what_torch_counts(name: str) -> None:
    text, sizes = TEXTS[name]
    made = network(text)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made.module(seed=0).eval()(*(x.float() for x in random_inputs(made, sizes).values()))
    assert counter.get_total_flops() == substitute(made.cost.flops, sizes)


@pytest.mark.parametrize("name", ["gated", "over_a_path"])
def test_compiles_and_exports_at_a_length(name: str) -> None:
    """The loop is unrolled: the batch stays free, the length is that of the inputs."""
    text, sizes = TEXTS[name]
    made = network(text)
    module, given = made.module(seed=0).eval(), tuple(x.float() for x in random_inputs(made, sizes).values())
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(module, backend="aot_eager", fullgraph=True)(*given), module(*given))
    exported = torch.export.export(module, given, dynamic_shapes=made.dynamic_shapes()).module()
    more = tuple(x.float() for x in random_inputs(made, {**sizes, "b": 3}).values())
    torch.testing.assert_close(exported(*more), module(*more))
    longer = tuple(x.float() for x in random_inputs(made, {**sizes, "t": 9, "h": 5}).values())
    with pytest.raises(AssertionError, match="Guard failed"):
        exported(*longer)


def test_weights_are_called_as_outside() -> None:
    paths = [path for path, _, _ in network(GATED).graph.weights()]
    assert paths == ["decay", "gate.weight", "gate.bias", "cell.weight", "cell.bias"]


def test_is_causal() -> None:
    made = network(GATED).module(seed=0)
    x, h0 = torch.randn(2, 6, 4), torch.randn(2, 4)
    later = torch.cat([x[:, :3], torch.randn(2, 3, 4)], 1)
    torch.testing.assert_close(made(x, h0)[:, :3], made(later, h0)[:, :3])


def test_state_is_what_is_carried() -> None:
    assert network(GATED).cost.state_bytes.__class__.__name__ == "Poly"
    assert substitute(network(GATED).cost.state_bytes, {"b": 3}) == 3 * 4 * 2 * 4
