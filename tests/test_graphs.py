"""Random programs of the language: what is emitted for each computes what its graph means, in float64."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import archlang
from archlang.testing.networks import check_network

BLOCKS = """
use std.attention: self_attention
use std.wiring: residual
block mlp(ratio: int = 2, act: layer = gelu)(x: [.., c]) -> [.., c] =
  x -> linear(c * ratio) as fc1 -> act -> linear(c) as fc2
block twice(f: layer)(x: [.., c]) = x -> f as first -> f as second
block tied(act: layer = tanh)(x: [.., c]) -> [.., c] {
  f = linear(c) -> act
  return (x -> f) + (x -> f -> f)
}
block pair(dim: int = c)(x: [.., c]) { return x -> linear(dim) as left, x -> linear(c) as right }
block maybe()(x: [.., c], y: [.., c = k]?) {
  if y == none { return x -> linear(c) as alone }
  else { return x + (y -> linear(c) as both) }
}
block tower(f: layer, depth: int)(x: [.., c]) {
  outs = [x]
  repeat depth as layers[i] {
    x = x -> f as inner
    outs = outs + [x]
  }
  return sum(outs)
}
block lends(f: layer)(x: [.., c]) {
  g = f
  repeat 2 as rounds[i] { x = (x -> g) + (x -> residual(linear(c) as own)) }
  return x -> g
}
block gated()(x: [.., c]) {
  u, v = pair(x)
  return u * sigmoid(v)
}
block swaps()(x: [.., c], y: [.., c]) {
  repeat 2 as steps[i] {
    z = x
    x = y + (x -> linear(c))
    y = z
  }
  return x, y
}
"""
LAYERS = [
    "relu",
    "tanh",
    "layer_norm",
    "linear({c})",
    "mlp",
    "mlp(1, relu)",
    "tied",
    "gated",
    "residual(mlp(1))",
    "residual(layer_norm -> linear({c}))",
    "(layer_norm -> tanh)",
    "rms_norm(1e-5)",
    "twice(linear({c}))",
    "tower(linear({c}), 2)",
    "lends(linear({c}))",
    "residual(tied)",
    "tower(residual(mlp(1)) -> relu, 2)",
    "lends(gated)",
    "tower(tied(relu), 3)",
]
WEIGHTLESS = ["relu", "tanh", "(tanh -> relu)", "dropout(0.1)", "identity", "l2_norm"]
Axes = dict[str, int | str]


@dataclass
class Writer:
    """A program as it is written: the tensors in scope with their axes, and fresh names."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    lines: list[str] = field(default_factory=list)
    tensors: dict[str, Axes] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)  # layers bound with `=`, by the channels they work on
    lists: dict[str, list[Axes]] = field(default_factory=dict)
    count: int = 0
    indent: int = 1
    weights: bool = True  # whether a statement here may make weights

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def pick(self, items: Any) -> Any:
        return self.draw(st.sampled_from(list(items)))

    def line(self, text: str) -> None:
        self.lines.append("  " * self.indent + text)

    def bind(self, text: str, axes: Axes, stem: str = "x") -> str:
        name = self.fresh(stem)
        self.line(f"{name} = {text}")
        self.tensors[name] = axes
        return name

    def tensor(self) -> str:
        """Any tensor, the later ones more often."""
        names = list(self.tensors)
        return names[-1] if self.draw(st.booleans()) else self.pick(names)

    def layer(self, c: int | str) -> str:
        return str(self.pick(LAYERS if self.weights else WEIGHTLESS)).replace("{c}", str(c))

    def piped(self, name: str) -> str:
        """`x -> layer`, of the type of x; weights always have a label of their own."""
        layer = self.layer(self.tensors[name]["c"])
        label = f" as {self.fresh('w')}" if self.weights and not layer.startswith("(") else ""
        return f"{name} -> {layer}{label}"

    # ---- statements
    def apply(self) -> None:
        name = self.tensor()
        self.bind(self.piped(name), self.tensors[name])

    def linear(self) -> None:
        name, c = self.tensor(), self.pick([2, 4, 6])
        if self.weights:
            self.bind(f"{name} -> linear({c}) as {self.fresh('w')}", {**self.tensors[name], "c": c})

    def arithmetic(self) -> None:
        a, b = self.tensor(), self.tensor()
        if self.fits(a, b):
            op, axes = self.pick("+-*"), {**self.tensors[a], **self.tensors[b]}
            self.bind(f"{a} {op} {b}", axes)
        else:
            self.bind(f"{self.pick(['2', '0.5', a + '.c'])} {self.pick('+-*')} {a} / 3", self.tensors[a])

    def fits(self, a: str, b: str) -> bool:
        one, other = self.tensors[a], self.tensors[b]
        return all(one[axis] == other[axis] for axis in one if axis in other)

    def share(self) -> None:
        """A layer with a name, used here and perhaps in loops and blocks later."""
        if self.weights:
            c, name = self.pick([4, 6]), self.fresh("f")
            text = self.pick(["linear({c})", "mlp(1)", "linear({c}) -> relu", "residual(linear({c}))"])
            self.line(f"{name} = {text.replace('{c}', str(c))}")
            self.shared[name] = c

    def use(self) -> None:
        """Apply a shared layer, itself or through a block that it is given to."""
        fits = [(x, f) for x in self.tensors for f in self.shared if self.tensors[x]["c"] == self.shared[f]]
        if fits:
            x, f = self.pick(fits)
            forms = [f"{x} -> {f}", f"{f}({x})", f"{x} -> residual({f})"]
            forms += [f"{x} -> tower({f}, 2)", f"{x} -> lends({f})"] if self.weights else []
            self.bind(self.pick(forms), self.tensors[x])

    def outputs(self) -> None:
        """Blocks with several results or an optional input."""
        a, b = self.tensor(), self.tensor()
        if not self.weights:
            return
        axes = self.tensors[a]
        if self.draw(st.booleans()):
            u, v = self.fresh("u"), self.fresh("v")
            self.line(f"{u}, {v} = pair({a})")
            self.tensors |= {u: axes, v: axes}
            if self.tensors[b] == axes:
                p, q = self.fresh("p"), self.fresh("q")
                self.line(f"{p}, {q} = swaps({u}, {b})")
                self.tensors |= {p: axes, q: axes}
        elif {k: v for k, v in self.tensors[b].items() if k != "c"} == {k: v for k, v in axes.items() if k != "c"}:
            self.bind(self.pick([f"maybe({a}, {b})", f"maybe({a})", f"maybe({a}, none)"]), axes)

    def cut(self) -> None:
        """Split, slice and join channels."""
        name = self.tensor()
        axes = self.tensors[name]
        c = axes["c"]
        if not isinstance(c, int) or c < 2:
            return
        u, v = self.fresh("u"), self.fresh("v")
        self.line(f"{u}, {v} = split({name}, [{c // 2}, {c - c // 2}], on = c)")
        self.tensors |= {u: {**axes, "c": c // 2}, v: {**axes, "c": c - c // 2}}
        part = self.bind(f"{name}[c = 1:]", {**axes, "c": c - 1})
        self.bind(f"concat([{v}, {part}, {u}], on = c)", {**axes, "c": 2 * c - 1})

    def collapse(self) -> None:
        """What rules of simplification make less of."""
        name, other = self.tensor(), self.tensor()
        axes = self.tensors[name]
        c = axes["c"]
        if not isinstance(c, int):
            return
        forms = [
            *(f"-(-{name})", f"{name} * 1", f"{name} - 0", f"{name} / 1", f"relu(relu({name}))", f"abs(-{name})"),
            *(f"relu(sigmoid({name}))", f"clamp(clamp({name}, low = -1), high = 1)", f"maximum({name}, {name})"),
            *(f"flip(flip({name}, on = c), on = c)", f"roll(roll({name}, [c = 1]), [c = {self.pick([-1, 1])}])"),
            *(f"{name}[c = 0:{c}]", f"concat([{name}, {name}], on = c)[c = :{c}]", f"concat([{name}], on = c)"),
            *(f"stack([{name}, tanh({name})], k)[k = 0]", f"{name} -> rename(c = q) -> rename(q = c)"),
            *(f"pad(pad({name}, [c = 1]), [c = 1])[c = 1:][c = 1:{c + 1}]", f"expand({name}, k = 2)[k = 1]"),
            *(f"concat(split({name}, [1, {c - 1}], on = c), on = c)", f"{name} -> expand(k = 2) -> mean(on = k)"),
        ]
        if c % 2 == 0:
            forms.append(f'{name} -> rearrange("c -> k c", k = 2) -> rearrange("k c -> c")')
        if self.fits(name, other):
            self.bind(f"{name} {self.pick('+-')} (-{other})", {**axes, **self.tensors[other]})
        self.bind(self.pick(forms), axes)

    def heads(self) -> None:
        """Take an axis out of the channels, work on it, and put it back."""
        name = self.tensor()
        axes = self.tensors[name]
        c = axes["c"]
        if not isinstance(c, int) or c % 2:
            return
        y = self.bind(f'rearrange({name}, "c -> heads c", heads = 2)', {**axes, "heads": 2, "c": c // 2})
        work = self.pick(
            [f"{y} -> softmax(on = heads)", f"{y}[heads = 0]", f"{y} -> mean(on = heads)", f"dot({y}, {y}, on = heads)"]
        )
        done = self.bind(work, {**axes, "c": c // 2} | ({"heads": 2} if "softmax" in work else {}))
        if "softmax" in work:
            self.bind(f'rearrange({done}, "heads c -> c")', axes)
        del self.tensors[y]
        if "softmax" in work:
            del self.tensors[done]

    def reduce(self) -> None:
        name = self.tensor()
        axes = self.tensors[name]
        others = [axis for axis in axes if axis not in ("b", "c", "t")]
        if others:
            axis = self.pick(others)
            rest = {k: v for k, v in axes.items() if k != axis}
            self.bind(self.pick([f"{name} -> mean(on = {axis})", f"{name}[{axis} = 0]", f"{name}[{axis} = -1]"]), rest)

    def attend(self) -> None:
        name = self.tensor()
        axes = self.tensors[name]
        if self.weights and axes["c"] in (4, 6) and set(axes) & {"n", "h", "t"}:
            self.bind(f"{name} -> self_attention(2) as {self.fresh('w')}", axes)

    def slide(self) -> None:
        """Convolutions over whatever space and time axes there are."""
        name = self.tensor()
        axes = self.tensors[name]
        if self.weights and set(axes) & {"n", "h", "w", "t"}:
            form = self.pick(["conv(4, kernel = 3)", "conv(6, kernel = 1) -> batch_norm", "depthwise(3)"])
            c = axes["c"] if "depthwise" in form else int(form[5])
            layer = form.replace(" ->", f" as {self.fresh('w')} ->") if "->" in form else form
            self.bind(f"{name} -> {layer} as {self.fresh('w')}", {**axes, "c": c})

    def parameter(self) -> None:
        name, p = self.tensor(), self.fresh("p")
        if self.weights:
            self.line(f"param {p}: [c = {self.tensors[name]['c']}] = normal(0.5)")
            self.bind(f"{name} {self.pick('+*')} {p}", self.tensors[name])

    def gather(self) -> None:
        """The largest channels, by value and by index."""
        name = self.tensor()
        axes = self.tensors[name]
        index, value = self.fresh("i"), self.fresh("v")
        self.line(f"{index}, {value} = top_k({name}, 2, on = c)")
        self.tensors[value] = {**axes, "c": 2}
        self.bind(f"{name}[c = {index}] * {value}", {**axes, "c": 2})

    def numbers(self) -> None:
        """A loop over numbers that differ from one iteration to the next."""
        name = self.tensor()
        if self.weights and self.indent <= 2:
            x, axes = self.bind(name, self.tensors[name]), self.tensors[name]
            label, d, rate, wide = (self.fresh(stem) for stem in ("loop", "d", "rate", "wide"))
            dims = self.pick([[3, 5], [4, 4], [2, 3, 4]])
            self.line(f"for {d}, {rate} in zip({dims}, linspace(0, 1, {len(dims)})) as {label}[i] {{")
            self.line(f"  {wide} = ({x} * {rate}) -> linear({d}) as up")
            self.line(f"  {x} = {x} + ({wide} -> relu -> linear({axes['c']}) as down) / {d}")
            self.line("}")

    def branch(self) -> None:
        """`if`, `match` and conditional expressions: only what is chosen makes weights."""
        name = self.tensor()
        axes, c = self.tensors[name], self.tensors[name]["c"]
        if not isinstance(c, int):
            return
        self.bind(
            f"{name} if {name}.c > 3 else ({name} -> linear(77))"
            if c > 3
            else f"(({name} -> tanh) if {name}.c < 3 else {name})",
            axes,
        )
        y = self.bind(name, axes)
        self.line(f"if {name}.c % 2 == {self.pick('01')} {{ {y} = {y} -> tanh }} else {{ {y} = {y} * 2 }}")
        layer = f"linear({c}) as {self.fresh('w')}" if self.weights else "relu"
        self.bind(f"{y} -> match {name}.c {{ {c} => ({layer}), _ => linear(99) }}", axes)

    def listing(self) -> None:
        """Lists that hold tensors."""
        items = [self.tensor() for _ in range(self.draw(st.integers(1, 3)))]
        name = self.fresh("xs")
        self.line(f"{name} = [{', '.join(items)}]")
        self.lists[name] = [self.tensors[item] for item in items]
        if self.draw(st.booleans()):
            self.line(f"{name} = reverse({name})")
            self.lists[name].reverse()
        self.bind(f"{name}[{self.pick([0, -1])}]", self.lists[name][0 if self.lines[-1].endswith("[0]") else -1])
        if self.lines[-1].endswith("[0]"):
            self.tensors[list(self.tensors)[-1]] = self.lists[name][0]
        if all(axes == self.lists[name][0] for axes in self.lists[name]):
            self.bind(f"sum({name})", self.lists[name][0])

    def loop(self) -> None:
        """Rebinds outer tensors, appends to a list, and may make weights, hold loops and use shared layers."""
        if self.indent > 2:
            return
        outer, before, shared = dict(self.tensors), dict(self.lists), dict(self.shared)
        carried = self.tensor()
        x = self.bind(carried, self.tensors[carried])
        axes = self.tensors[x]
        gathered = self.fresh("ys")
        start = self.pick(["[]", f"[{x}]"])
        self.line(f"{gathered} = {start}")
        labelled, was = self.weights and self.draw(st.integers(0, 4)) > 0, self.weights
        label = f" as {self.fresh('loop')}[i]" if labelled else ""
        times = self.pick([1, 2, 3])
        outside = set(self.tensors)
        lists = [name for name, items in self.lists.items() if all(item == axes for item in items)]
        if lists and self.draw(st.booleans()):
            each, item = self.pick(lists), self.fresh("item")
            times = len(self.lists[each])
            self.line(f"for {item} in {each}{label} {{")
            self.tensors[item] = axes
        else:
            self.line(f"repeat {times}{label} {{")
        self.indent, self.weights = self.indent + 1, labelled
        for _ in range(self.draw(st.integers(0, 3))):
            self.statement()
        same = [name for name, other in self.tensors.items() if other == axes]
        self.line(f"{x} = {self.piped(x)}")
        self.line(f"{x} = {x} {self.pick('+-')} {self.pick(same)}")
        self.line(f"{gathered} = {gathered} + [{x}]")
        if self.draw(st.booleans()) and (other := [n for n in same if n in outside and n not in outer]):
            self.line(f"{self.pick(other)} = {x} -> tanh")
        self.indent, self.weights = self.indent - 1, was
        self.line("}")
        self.tensors = {**outer, x: axes}
        self.lists = {**before, gathered: [axes] * (times + (start != "[]"))}
        self.shared = shared
        self.bind(f"sum({gathered})", axes)

    def statement(self) -> None:
        forms = [
            self.apply,
            self.apply,
            self.linear,
            self.arithmetic,
            self.arithmetic,
            self.share,
            self.use,
            self.use,
            self.outputs,
            self.cut,
            self.collapse,
            self.heads,
            self.reduce,
            self.attend,
            self.slide,
            self.parameter,
            self.gather,
            self.numbers,
            self.branch,
            self.listing,
            self.loop,
            self.loop,
        ]
        self.pick(forms)()


INPUTS: list[Axes] = [
    {"b": "b", "n": "n", "c": 4},
    {"b": "b", "t": "t", "c": 4},
    {"b": "b", "c": 4, "h": "h", "w": 4},
    {"b": "b", "c": 6, "h": 4, "w": "w"},
    {"b": "b", "c": 4, "n": 5},
    {"b": "b", "c": 6},
]


@st.composite
def programs(draw: Any, most: int = 8) -> str:
    """The text of a model with one or two inputs and up to three outputs."""
    writer = Writer(draw)
    first = draw(st.sampled_from(INPUTS))
    writer.tensors = {"x": first} | ({"y": first} if draw(st.booleans()) else {})
    for port, axes in writer.tensors.items():
        order = draw(st.permutations(list(axes)))
        written = ", ".join(a if isinstance(axes[a], str) else f"{a} = {axes[a]}" for a in order)
        writer.line(f"input {port}: [{written}]")
    for _ in range(draw(st.integers(1, most))):
        writer.statement()
    last = list(writer.tensors)[-1]
    results = [last, *(writer.tensor() for _ in range(draw(st.integers(0, 2))))]
    for i, name in enumerate(results):
        axes = writer.tensors[name]
        written = ", ".join(f"{a} = {axes[a]}" for a in draw(st.permutations(list(axes))))
        writer.line(f"output out{i}: [{written}] = {name}")
    return BLOCKS + "model net {\n" + "\n".join(writer.lines) + "\n}\n"


SIZES = {"b": 2, "n": 6, "t": 5, "h": 4, "w": 6}


def check(text: str) -> None:
    note(text)
    network = archlang.loads(text).net()
    free = {name for type_ in network.inputs.values() for axis in type_ for name in getattr(axis.size, "symbols", ())}
    check_network(network, {name: SIZES[name] for name in sorted(free)})


BIG = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=60, suppress_health_check=BIG)
@given(programs())
def test_emitted_is_meant(text: str):
    check(text)


@pytest.mark.slow
@settings(settings.get_profile("search"), max_examples=1500, suppress_health_check=BIG)
@given(programs(14))
def test_emitted_is_meant_for_many(text: str):
    check(text)
