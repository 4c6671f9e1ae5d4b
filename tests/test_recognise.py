"""Scans that are linear recurrences are rewritten, mean the same as their loop, and what is not says why."""

from typing import Any

import pytest
import torch

import archlang
from archlang.elaborate import recognise
from archlang.elaborate.chains import NotLinearError
from archlang.ir import Scan
from archlang.named import Named
from archlang.testing.laws import random_weights
from archlang.testing.networks import check_network, module_of, random_inputs

HEAD = """
block net_of()(q: [b, t, heads, c = dk], k: [b, t, heads, c = dk], v: [b, t, heads, c = dv], a: [b, t, heads],
               g: [b, t, heads, c = dk], beta: [b, t, heads]) {
  write = rename(v, c = value)
"""
TAIL = """}
model net(dk: int = 4, dv: int = 3, heads: int = 2) {
  input q: [b, t, heads = heads, c = dk]
  input k: [b, t, heads = heads, c = dk]
  input v: [b, t, heads = heads, c = dv]
  input a: [b, t, heads = heads]
  input g: [b, t, heads = heads, c = dk]
  input beta: [b, t, heads = heads]
  output o = net_of(q, l2_norm(k), v, sigmoid(a), exp(-softplus(g)), sigmoid(beta))
}
"""
STATE = "carry S: [b, heads, c = dk, value = dv] = 0"
FORMS = {
    "linear_attention": f"o = scan t {STATE} {{\n S = S + k * write\n yield dot(q, S, on = c)\n }}",
    "retention": f"o = scan t {STATE} {{\n S = a * S + k * write\n yield dot(q, S, on = c)\n }}",
    "gla": f"o = scan t {STATE} {{\n S = write * k + S * g\n yield dot(S, q, on = c) * a\n }}",
    "two_decays": f"o = scan t {STATE} {{\n S = g * (a * S)\n S = S - k * write\n yield dot(q, S, on = c)\n }}",
    "delta": f"""o = scan t {STATE} {{
    S = S + beta * k * (write - dot(S, k, on = c))
    yield dot(q, S, on = c)
  }}""",
    "gated_delta": f"""o = scan t {STATE} {{
    S = a * S
    old = dot(k, S, on = c)
    S = S + k * ((write - old) * beta)
    yield dot(q, S, on = c)
  }}""",
    "two_factors": f"""other = l2_norm(q)
  o = scan t {STATE} {{
    S = a * S
    for key in [k, other] {{ S = S + beta * key * (write - dot(S, key, on = c)) }}
    yield dot(q, S, on = c)
  }}""",
    "selected_factors": f"""keys, values = stack([k, l2_norm(q)], factor), stack([write, 2 * write], factor)
  rates = stack([beta, a], factor)
  o = scan t {STATE} {{
    S = a * S
    for j in range(2) {{
      old = dot(S, keys[factor = j], on = c)
      S = S + rates[factor = j] * keys[factor = j] * (values[factor = j] - old)
    }}
    yield dot(q, S, on = c)
  }}""",
    "gates_inside": f"""o = scan t {STATE} {{
    gate = sigmoid(g -> linear(1) as gate)
    S = mean(gate, on = c) * S + silu(k -> layer_norm as norm) * write
    yield dot(q -> linear(dk) as query, S, on = c)
  }}""",
    "two_readers": f"""y, z = scan t {STATE} {{
    S = a * S + k * write
    yield dot(q, S, on = c), dot(k, S, on = c)
  }}
  o = y * z""",
    "gated": "o = scan t carry s: [b, heads, c = dk] = 0 {\n s = g * s + (1 - g) * k\n yield q * s\n }",
    "moving_average": "o = scan t carry s: [b, heads, c = dk] = 0 {\n s = 0.75 * s + 0.25 * k\n yield s + a\n }",
    "forgetful_norm": f"""o = scan t {STATE}, z: [b, heads, c = dk] = 0 {{
    S, z = S * a + exp(k) * write, z * a + exp(k)
    yield dot(exp(q), S, on = c) / dot(exp(q), z, on = c)
  }}""",
    "average": "o = scan t carry s: [b, heads, c = dk] = 0 {\n s = a * s + k - q\n yield s\n }",
    "from_a_start": """param first: [c = dv] = normal(1)
  o = scan t carry s: [b, heads, c = dv] = first, z: [b, heads] = 0 {
    s, z = a * s + v, z + a
    yield s * z
  }""",
    "read_before_it_is_written": f"o = scan t {STATE} {{\n yield dot(q, S, on = c)\n S = a * S + k * write\n }}",
    "bonus": f"""param bonus: [heads, c = dk] = normal(1)
  o = scan t {STATE} {{
    new = k * write
    yield dot(q, S + bonus * new, on = c)
    S = exp(-softplus(g)) * S + new
  }}""",
    "before_and_after": f"""o = scan t {STATE} {{
    old = dot(q, S, on = c)
    S = a * S
    S = S + beta * k * (write - dot(S, k, on = c))
    yield dot(k, g * S, on = c) - 0.5 * a * old
  }}""",
    "written_first": f"o = scan t {STATE} {{\n S = S + k * write\n S = g * S\n yield dot(q, S, on = c)\n }}",
    "by_a_number": f"o = scan t {STATE} {{\n S = 0.5 * S + k * write\n yield dot(q, S, on = c)\n }}",
    "shared_by_heads": """read, other = mean(q, on = heads), mean(k, on = heads)
  o = scan t carry S: [b, heads, state = dk, c = dv] = 0 {
    S = a * S + rename(other, c = state) * v
    yield dot(rename(read, c = state), S, on = state)
  }""",
    "systems_of_channels": """param step: [c = dv, state = 3] = normal(1)
  fade = sigmoid(step)
  o = scan t carry s: [b, heads, c = dv, state = 3] = 0 {
    s = fade * s + step * v
    yield dot(fade, s, on = state)
  }""",
    "channels_aside": """param step: [c = dk, state = 3] = normal(1)
  o = scan t carry S: [b, heads, c = dk, state = 3, value = dv] = 0 {
    S = sigmoid(step) * S + step * k * write
    yield dot(step, S, on = state)
  }
  o = dot(q, o, on = c)""",
    "yields_what_was": """o = scan t carry s: [b, heads, c = dk] = 0, n: [b] = 1 {
    yield s * n + q
    s, n = g * s + k, n + mean(a, on = heads)
  }""",
    "what_was_from_a_start": """param first: [c = dv] = normal(1)
  o = scan t carry s: [b, heads, c = dv] = first {
    yield s * v
    s = a * s + v
  }""",
    "starts": f"""o = scan t {STATE.replace("= 0", "= 0.5")} {{
    o = dot(q, S, on = c)
    S = a * S + k * write
    yield o + dot(k, S, on = c)
  }}""",
    "starts_learned": f"""param first: [heads, c = dk, value = dv] = normal(1)
  o = scan t {STATE.replace("= 0", "= first")} {{
    S = a * S
    S = S + k * ((write - dot(k, S, on = c)) * beta)
    yield dot(q, S, on = c)
  }}""",
    "unread_carry": f"""o = scan t {STATE}, count: [b] = 0 {{
    S, count = a * S + k * write, tanh(count + 1)
    yield dot(q, S, on = c)
  }}""",
    "normalised": f"""o = scan t {STATE}, z: [b, heads, c = dk] = 0.5, n: [b] = 1 {{
    S, z, n = S + exp(k) * write, z + exp(k), n + mean(a, on = heads)
    yield dot(exp(q), S, on = c) / (dot(exp(q), z, on = c) * n)
  }}""",
}
LOOPS = {
    "saturates": (
        f"o = scan t {STATE} {{\n S = tanh(a * S + k * write)\n yield dot(q, S, on = c)\n }}",
        "`tanh` stands between `S` and what it becomes",
    ),
    "by_pairs": (
        f"o = scan t {STATE} {{\n S = sigmoid(write * g) * S + k * write\n yield dot(q, S, on = c)\n }}",
        "`S` decays by pairs of channels, which no products of matrices do",
    ),
    "corrected_first": (
        f"o = scan t {STATE} {{\n S = a * (S + beta * k * (write - dot(S, k, on = c)))\n yield dot(q, S, on = c)\n }}",
        "`S` is scaled after it is corrected",
    ),
    "scaled_by_a_carry": (
        f"""o = scan t {STATE}, m: [b, heads] = 0 {{
    m = tanh(m + a)
    S = m * S + k * write
    yield dot(q, S, on = c)
  }}""",
        "`S` is scaled by what depends on a carry",
    ),
    "read_by_pairs": (
        f"o = scan t {STATE} {{\n S = a * S + k * write\n yield dot(q, S * tanh(k * write), on = c)\n }}",
        "`S` is read with a query that has its axis `value`",
    ),
    "other_key": (
        f"o = scan t {STATE} {{\n S = S + beta * k * (write - dot(S, q, on = c))\n yield dot(q, S, on = c)\n }}",
        "what is taken from `S` is not what is written",
    ),
}


def network(body: str) -> Any:
    return archlang.loads(f"{HEAD}{body}\n  return o\n{TAIL}").architecture()


def ops(made: Any) -> list[str]:
    return [node.op.name for graph in (made.graph, *made.graph.calls) for _, node in graph.deep()]


def as_loop(body: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    def refuse(*_: Any) -> Any:
        raise NotLinearError("a loop")

    with monkeypatch.context() as patch:
        patch.setattr(recognise, "recognise", refuse)
        return network(body)


@pytest.mark.parametrize("name", FORMS)
def test_recognised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loop is left, and the recurrence computes what the loop does, with its gradients."""
    made, loop = network(FORMS[name]), as_loop(FORMS[name], monkeypatch)
    assert "scan" not in ops(made)
    assert {"linear_recurrence", "cumsum", "gated_sum"} & set(ops(made))
    assert [path for path, _, _ in made.graph.weights()] == [path for path, _, _ in loop.graph.weights()]
    check_network(made, {"b": 2, "t": 5})
    weights, inputs = random_weights(made.graph, 0), random_inputs(made, {"b": 2, "t": 70}, 1)
    results = []
    for network_ in (made, loop):
        leaves = [x.clone().requires_grad_() for x in inputs.values()]
        out = module_of(network_, weights)(*leaves)
        names = network_.graph.outputs[0][1].type.names
        results.append(
            [
                Named(out, names).to(sorted(names)),
                *torch.autograd.grad(
                    (out * out.detach().cos()).sum(), leaves, allow_unused=True, materialize_grads=True
                ),
            ]
        )
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", LOOPS)
def test_loops_say_why(name: str) -> None:
    body, reason = LOOPS[name]
    made = network(body)
    assert "scan" in ops(made)
    remarks = [text for graph in (made.graph, *made.graph.calls) for text in graph.remarks.values()]
    assert remarks == [f"one position after another: {reason}"]
    assert isinstance(next(node.op for _, node in made.graph.deep() if node.op.name == "scan"), Scan)


def test_over_space_in_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
model net(dk: int = 4) {{
  input q: [b, h, w, c = dk]
  input v: [b, h, w, value = 3]
  o = scan {order} carry S: [b, c = dk, value = 3] = 0 {{
    S = S + q * v
    yield dot(q, S, on = c)
  }}
  output y: [b, h, w, value = 3] = o
}}
"""
    for order in ("along(h, w, reverse = true)", "snake(w, h)"):
        made = archlang.loads(text.format(order=order)).architecture()
        assert "linear_recurrence" in ops(made)
        check_network(made, {"b": 2, "h": 3, "w": 2})


def test_explain_says_what_was_taken() -> None:
    assert (
        network(FORMS["gated_delta"])
        .explain()
        .endswith(
            "o: linear_recurrence  (<string>:5)\n"
            "    a scan whose carry `S` is only scaled and written to is this recurrence; chunks of 32: a decay per head,"
            " delta rule"
        )
    )
    assert (
        network(LOOPS["saturates"][0])
        .explain()
        .endswith(
            "o: scan  (<string>:5)\n    one position after another: `tanh` stands between `S` and what it becomes"
        )
    )
    assert network("o = q").explain().endswith("every operation has one algorithm")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated", "forgetful_norm", "gated_delta"])
def test_exports_at_any_length(name: str) -> None:
    made = network(FORMS[name])
    module = made.module(seed=0).eval()
    short, long = (
        tuple(x.float() for x in random_inputs(made, {"b": b, "t": t}, 1).values()) for b, t in ((2, 5), (3, 11))
    )
    exported = torch.export.export(module, short, dynamic_shapes=made.dynamic_shapes()).module()
    torch.testing.assert_close(exported(*long), module(*long))
