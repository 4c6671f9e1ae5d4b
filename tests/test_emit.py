"""Emitted code reads as written by hand, computes what the graph means, and nothing that a file says can break it."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import archlang
from archlang.emit import load, names
from archlang.emit.lines import fit
from archlang.emit.prose import docstring
from archlang.emit.torch import class_name, emit
from archlang.ir import Call, Graph, Value
from archlang.primitive import Primitive
from archlang.primitives import CONSTRUCTS
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.interpret import concrete
from archlang.testing.laws import check_emitted, random_tensor
from archlang.testing.networks import check_network

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = ["maxvit", "convnext", "swin", "mobilenet_v2", "vit", "llama"]

STAGES = '''
"""A small net of stages."""
block mlp(ratio: float = 4, drop: float = 0)(x: [.., c]) -> [.., c] {
  """Two layers."""
  return x -> linear(c * ratio) as fc1 -> gelu -> dropout(drop) -> linear(c) as fc2
}
block mixer(drop: float = 0)(x: [b, n, c]) -> [b, n, c] {
  y = x -> layer_norm as norm
  z = y -> linear(c) as proj
  return x + ((y * z) -> dropout(drop))
}
model net(dims = [16, 32], depths = [1, 3], classes: int = 10, drop: float = 0.25) {
  input tokens: [b, n, c = 8]
  x = tokens -> linear(16) as stem
  rate = linspace(0, drop, sum(depths) + 1)
  skips = []
  for dim, depth in zip(dims, depths) as stages[s] {
    x = x -> linear(dim) as up
    repeat depth as blocks[i] {
      k = sum(depths[:s]) + i
      x = x + (x -> mlp(4, drop = rate[k]))
      x = x -> mixer(rate[k])
    }
    skips = skips + [x]
  }
  for skip in skips as outs[i] { x = x + (skip -> linear(32) as side) }
  output logits: [b, c = classes] = x -> mean(on = n) -> linear(classes) as head
}
'''
SIZES = '''
"""Free sizes."""
block down(dim: int)(x: [b, h, w, c]) -> [b, h = h / 2, w = w / 2, c = dim] =
  x -> rearrange("h -> h p, w -> w q, p q c -> c", p = 2, q = 2) -> linear(dim) as proj
model net(dims = [8, 16, 24]) {
  input image: [b, c = 3, h, w]
  input memory: [b, h = h / 2, w, c = 4]
  require h >= 16, "the {image} is \\"tall\\""
  x = image
  for dim in dims as stages[s] { x = x -> down(dim) }
  y = memory -> linear(24) as mem -> mean(on = [h, w])
  output logits: [b, h = h / 8, w = w / 8, c = 24] = x * y
}
'''
SHARED = """
block tied(f: layer)(x: [b, n, c]) = x -> f -> linear(c) as own -> f
model net(dim: int = 8) {
  input x: [b, n, c = dim]
  f = linear(dim)
  y = x
  repeat 3 as steps[i] { y = y -> f -> linear(dim) as own }
  output z: [b, n, c = dim] = tied(f)(y)
}
"""
HOSTILE = '''
"""A "net" with \\"\\"\\" quotes, {{ braces }}, {% blocks %} and a \\ backslash"""
block class_(train: int, forward: float = 0.5)(self_: [b, n, c]) -> [b, n, c] {
  """x""\\" + __import__('os').system('true')"""
  param type: [c] = ones
  return (self_ * type * forward) -> linear(c) as half -> linear(train) as forward -> linear(c) as to
}
model torch(nn: int = 8, F: int = 4) {
  input range: [b, n, c = nn]
  input lambda: [b, m: free, c = nn]
  super = range -> class_(nn) as class
  x = super
  repeat 3 as steps[i] { x = x -> linear(nn) as __init__ }
  turn = x -> class_(F) as def
  buffer eval: [c = nn] = ones * 2
  output None: [b, n, m: free] = dot((turn * eval * turn) -> drop_path(0.5), lambda, on = c)
}
'''
GOLDENS = {"stages": STAGES, "sizes": SIZES, "shared": SHARED, "hostile": HOSTILE}


def architecture(text: str) -> Any:
    program = archlang.loads(text)
    return program.architecture(next(iter(program.models)))


def inputs(graph: Graph, **sizes: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {port: random_tensor(concrete(value.type, sizes), random) for port, value in graph.inputs.items()}


def op(name: str, **fields: Any) -> Primitive:
    return CONSTRUCTS[name](**fields)  # type: ignore[return-value]


# ---- the text
@pytest.mark.parametrize("name", GOLDENS)
def test_text(name: str, request: pytest.FixtureRequest) -> None:
    text, file = architecture(GOLDENS[name]).source(), GOLDEN / f"emit_{name}.py"
    if request.config.getoption("--update-golden"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_mean_the_graph(name: str) -> None:
    graph = architecture(GOLDENS[name]).graph
    check_emitted(graph, inputs(graph, b=2, n=3, m=5, h=16, w=8))


def test_formatters_have_nothing_to_change(tmp_path: Path) -> None:
    for name in EXAMPLES:
        text = archlang.load(ROOT / "examples" / f"{name}.arch").architecture(name).source()
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    for name, text in GOLDENS.items():
        (tmp_path / f"golden_{name}.py").write_text(architecture(text).source(), "utf-8")
    for command in (["format", "--diff"], ["check", "--select", "E,F,I"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "120", str(tmp_path)]
        found = subprocess.run(ruff, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


def test_same_input_same_bytes() -> None:
    assert architecture(STAGES).source() == architecture(STAGES).source()


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("x = f(a)", ["x = f(a)"]),
        ("x = a ** 2 + f(a) ** b", ["x = a**2 + f(a) ** b"]),
        (f"x = f({'a' * 60}, {'b' * 45})", ["x = f(", f"    {'a' * 60}, {'b' * 45}", ")"]),
        (f"x = f({'a' * 80}, {'b' * 80})", ["x = f(", f"    {'a' * 80},", f"    {'b' * 80},", ")"]),
    ],
)
def test_long_lines(line: str, lines: list[str]) -> None:
    assert fit(line, 8) == lines


@given(st.text(alphabet="\"\\'\n\r\t{}%ab \x00\u2028\ud800", max_size=40))
def test_docstrings_say_what_they_are_given(text: str) -> None:
    scope: dict[str, Any] = {}
    exec(f'def f():\n    """{docstring(text, "    ")}"""', scope)
    squeeze = lambda words: "".join(words.split())  # noqa: E731
    assert squeeze(scope["f"].__doc__) == squeeze(text)


def test_a_docstring_that_is_too_long_is_filled_anew() -> None:
    text = f"{'word ' * 22}end\nof it.\n\nA table:\n  1 2"
    assert docstring(text, "    ") == f"{'word ' * 21}word\n    end of it.\n\n    A table:\n      1 2\n    "


# ---- names
def test_module_attributes_are_known() -> None:
    code = "from torch import nn; print(*dir(nn.Module()))"  # on its own: libraries add attributes to nn.Module
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if names.is_attribute(name) and not name.startswith("_")]


def test_user_names_hide_nothing() -> None:
    text = architecture(HOSTILE).source()
    assert "def forward(self, range: torch.Tensor, lambda_: torch.Tensor)" in text
    assert "turn2 = " in text  # helpers keep their names
    module = load(text, class_name(architecture(HOSTILE).graph))()
    assert {"class.type", "class.half.weight", "class.to.bias", "steps.2.__init__.weight", "eval"} <= set(
        module.state_dict()
    )
    assert module.eval().training is False


# ---- classes
def test_equal_blocks_are_one_class() -> None:
    text = architecture(STAGES).source()
    assert [line for line in text.splitlines() if line.startswith("class ")] == [
        f"class {name}(nn.Module):" for name in ("Mlp", "Mixer", "Block", "Stage", "Out", "Net")
    ]


def test_rates_of_zero_everywhere_leave_no_trace() -> None:
    assert "dropout" not in archlang.loads(STAGES).net(drop=0).source()


def test_a_hundred_blocks_are_written_once() -> None:
    text = archlang.loads(STAGES).net(depths=[50, 50], drop=0).source()
    assert len(text.splitlines()) < 100


# ---- what the model checks
def test_models_refuse_wrong_shapes() -> None:
    module = architecture(SIZES).module(seed=0)
    image, memory = torch.randn(2, 3, 16, 8), torch.randn(2, 8, 8, 4)
    assert module(image, memory).shape == (2, 2, 1, 24)
    for bad, words in (
        ((image[0], memory), "image must be [b, c = 3, h, w], and is [3, 16, 8]"),
        ((image, memory[..., :3]), "memory must be [b, h = h // 2, w, c = 4]"),
        ((image, memory[:1]), "axis b of memory must be b = 2, and is 1"),
        ((torch.randn(2, 3, 20, 8), torch.randn(2, 10, 8, 4)), "h must be a multiple of 8, and h = 20"),
        ((torch.randn(2, 3, 8, 8), torch.randn(2, 4, 8, 4)), 'the {image} is "tall": h >= 16 must hold, and h = 8'),
    ):
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            module(*bad)
        assert words in str(refused.value)


def test_torch_compiles_and_exports() -> None:
    for text in (STAGES, SIZES, SHARED):
        graph = architecture(text).graph
        module = load(emit(graph), class_name(graph))().double().eval()
        given_ = tuple(inputs(graph, b=2, n=3, h=16, w=8).values())
        expected = module(*given_)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*given_), expected)
        shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in given_)
        torch.testing.assert_close(
            torch.export.export(module, given_, dynamic_shapes=shapes).module()(*given_), expected
        )


# ---- random graphs against their meaning
B, N = axis("b", symbol("b")), axis("n", symbol("n"))
WIDTHS = (4, 6)
UNARY = ["gelu", "layer_norm", "softmax", "neg", "square"]


class Maker:
    """Draws graphs over values [b, n, c]: layers, sums, shared weights, blocks, loops and layer ports."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def graph(self, name: str, width: int, depth: int, port: bool = False) -> Graph:
        graph = Graph(name)
        values = [graph.add_input("x", TensorType((B, N, axis("c", width))))]
        if port:
            graph.layers.append("f")
            values += graph.add(op("linear", units=width), [("x", values[0])], label="@f")
        for i in range(self.random.randint(1, 5)):
            values.append(self.step(graph, values, width, depth, i))
        graph.outputs = [("x", values[-1])]
        if self.random.random() < 0.5 and depth:
            graph.outputs.append(("y", self.random.choice(values)))
        return graph

    def step(self, graph: Graph, values: list[Value], width: int, depth: int, i: int) -> Value:
        pick = self.random.choice
        x, name = pick(values), pick([None, "x", "y", "drop_path"])
        kind = pick(["linear", "unary", "binary", *(["shared", "block", "loop", "lent"] if depth else [])])
        if kind in ("linear", "shared"):
            label = f"fc{i}" if kind == "linear" else "shared"
            return graph.add(op("linear", units=width), [("x", x)], label=label, name=name)[0]
        if kind == "unary":
            word = pick(UNARY)
            layer = op(word, on=("c",)) if word == "softmax" else op(word)
            return graph.add(layer, [("x", x)], label=f"norm{i}" if word == "layer_norm" else None, name=name)[0]
        if kind == "binary":
            return graph.add(op(pick(["add", "sub", "mul"])), [("a", x), ("b", pick(values))], name=name)[0]
        if kind == "loop":
            return self.loop(graph, x, width, depth, i)
        lent = (("f", "shared"),) if kind == "lent" else ()
        inner = Call(graph=self.graph("block", width, depth - 1, port=bool(lent)), layers=lent)
        return pick(graph.add(inner, [("x", x)], label=f"block{i}", name=name))

    def loop(self, graph: Graph, x: Value, width: int, depth: int, i: int) -> Value:
        bodies = [self.graph("bodies", width, depth - 1) for _ in range(self.random.randint(1, 2))]
        made = [x]
        for k in range(self.random.randint(1, 3)):
            made.append(graph.add(Call(graph=bodies[k % len(bodies)]), [("x", made[-1])], label=f"bodies{i}.{k}")[0])
        return self.random.choice(made)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_mean_what_is_emitted(seed: int) -> None:
    maker = Maker(seed)
    graph = maker.graph("net", maker.random.choice(WIDTHS), depth=2)
    check_emitted(graph, inputs(graph, b=2, n=3))


def test_renamed_sums_keep_together():
    text = """model net {
  input x: [b, n = 3]
  input y: [b, n = 3]
  input w: [b, c = 3]
  output z = ((x + y) -> rename(n = c)) * w
}"""
    network = archlang.loads(text).net()
    assert "return (x + y) * w" in network.source()
    check_network(network, {"b": 2})


def emitted(text: str, **sizes: int) -> str:
    """The source of a program's network, which computes what its graph means."""
    network = architecture(text)
    check_network(network, {"b": 2, **sizes})
    return network.source()


@pytest.mark.parametrize("over", ["causal", "sliding(3)"])
def test_heads_in_groups_are_never_taken_apart(over: str):
    """What attention makes of all heads is what the map to the channels reads."""
    source = emitted(
        f"""model net {{
  input x: [b, t, c = 16]
  q = x -> linear([heads = 2, group = 2, c = 4]) as q
  k = x -> linear([heads = 2, c = 4]) as k
  o = attend(q, k, k, over = {over}, score = sigmoid)
  output y = o -> linear([c = 16], on = [heads, group, c]) as out
}}""",
        t=5,
    )
    forward = source.partition("class Net")[2]
    assert "k.repeat_interleave(2, 2)" in forward and "expand" not in forward
    assert forward.count(".unflatten(") == 2 and ".flatten(2))" in forward  # those of q and k


def test_axes_that_are_read_apart_are_split():
    """The heads that attention made, in one order and in another."""
    source = emitted("""model net {
  input x: [b, n = 5, c = 16]
  h = x -> linear([heads = 2, group = 2, c = 4]) as h
  o = attend(h, h, h)
  p = attend(h, h, h, scale = 1)
  output y = (o -> rearrange("heads group c -> c") -> linear(8) as one) + (p -> rearrange("group heads c -> c") -> linear(8) as two)
}""")
    assert source.count("unflatten") == 2


@pytest.mark.parametrize(
    ("layer", "call"),
    [
        ("conv(6, weight = w)", "F.conv2d(image, self.w, self.conv.bias, padding=1)"),
        ("conv_transpose(6, 3, weight = w)", "F.conv_transpose2d(image, self.w, self.conv_transpose.bias, padding=1)"),
    ],
)
def test_a_bias_beside_a_given_weight_is_an_argument(layer: str, call: str):
    kernel = "units = 6, c = 3, h = 3, w = 3" if layer.startswith("conv(") else "c = 3, units = 6, h = 3, w = 3"
    source = emitted(f"""model net {{
  input image: [b, c = 3, h = 4, w = 5]
  param w: [{kernel}] = normal
  output y = image -> {layer}
}}""")
    assert f"return {call}" in source


def test_the_bias_of_a_linear_map_with_a_given_weight_is_an_argument():
    source = emitted("""model net {
  input x: [b, c = 3]
  param w: [units = 6, c = 3] = normal
  output y = x -> linear(6, weight = w)
}""")
    assert "return F.linear(x, self.w, self.linear.bias)" in source


def test_a_block_without_opinion_takes_the_order_of_its_surroundings():
    """A filter of frequencies stands between layers that read channels last."""
    source = emitted("""block filter()(x: [b, h, w, c]) -> [b, h, w, c] {
  param gain: [h, w = w // 2 + 1, c] = normal
  return irfft(rfft(x, on = [h, w]) * gain, on = [h, w], size = w)
}
model net {
  input image: [b, c = 3, h = 4, w = 4]
  x = image -> conv(8, kernel = 1) as stem
  repeat 2 as blocks[i] { x = x + (x -> layer_norm as norm -> filter -> linear(8) as fc) }
  output y = x -> mean(on = space)
}""")
    assert "fft.rfftn(x, dim=(1, 2))" in source and source.count("permute") == 1


def test_what_a_block_hands_on_keeps_its_order():
    """Channels come first at both ends of the network, and nowhere in it."""
    source = emitted("""block part()(x: [b, n, c]) -> (taken: [b, n, c], left: [b, n, c]) {
  y = x -> linear(c) as fc
  return y, x - y
}
model net {
  input sound: [b, c = 8, n = 5]
  left, total = sound, 0
  repeat 3 as parts[i] {
    y, left = left -> part as part
    total = total + y
  }
  output z: [b, c = 8, n = 5] = total -> conv(8) as conv
}""")
    assert source.count("transpose") == 2


def test_names_are_those_of_arguments_and_hide_nothing():
    source = emitted("""model net {
  input x: [b, n = 5, c = 16]
  h = x -> linear([heads = 2, c = 8]) as h
  o = attend(h, h, h, position = relative) -> linear([c = 16], on = [heads, c]) as out
  size = abs(o)
  output y = size * o + exp(size)
  output z = abs(x) * 2 + exp(abs(x))
}""")
    assert "bias = self.relative()" in source
    assert not {"abs", "sum", "max"} & {line.split(" = ")[0].strip() for line in source.splitlines() if " = " in line}


def test_axes_flattened_twice_are_flattened_once():
    source = emitted("""model net {
  input image: [b, h = 4, w = 4, c = 3]
  output y = image -> unfold(2, stride = 2) -> rearrange("c taps -> c") -> linear(8)
}""")
    assert ".flatten(3)" in source and ".flatten(4)" not in source


TABLE = """model net {
  input x: [b, n = 6, heads = 2, c = 4]
  param bias: [heads = 2, place = 11] = normal
  away = index(n = 6) - index(n_key = 6) + 5
  seen = (away >= 5) and (away % 2 == 1) or away == 6
  output y = attend(x, x, x, bias = bias[place = away], mask = seen)
}"""


def test_tables_of_known_sizes_are_made_once():
    """Whole numbers that follow from sizes are buffers, which no checkpoint has."""
    source = emitted(TABLE)
    forward = source.partition("class Net")[2].partition("def forward")[2]
    assert 'register_buffer("away", torch.arange(6) - torch.arange(6)[:, None] + 5' in source
    assert "self.away" in forward and "self.seen" in forward and "arange" not in forward
    assert set(architecture(TABLE).module().state_dict()) == {"bias"}


def test_tables_of_free_or_large_sizes_are_made_where_they_are_used():
    source = emitted(TABLE.replace("[b, n = 6", "[b, n").replace("index(n = 6)", "index(n = x.n)")
                     .replace("index(n_key = 6)", "index(n_key = x.n)"), n=6)  # fmt: skip
    assert "register_buffer" not in source
    large = architecture(TABLE.replace("= 6", "= 512").replace("= 11", "= 1023").replace("+ 5", "+ 511")).source()
    assert 'register_buffer("n", torch.arange(512)' in large and "away = self.n - self.n" in large
