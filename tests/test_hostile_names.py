"""Names and texts that mean something to Python, to torch or to templates come out as what they are: names and texts."""

import builtins
import keyword
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import archlang
from archlang.diagnostics import ArchError
from archlang.lexer import read
from archlang.parser import parse

RESERVED = {"if", "else", "for", "in", "as", "and", "or", "not", "return", "from", "match"}
MODULE = [name for name in dir(nn.Module) if name.isidentifier()]
NAMES = sorted(
    {*keyword.kwlist, *keyword.softkwlist, *MODULE, *nn.Module().__dict__, *dir(builtins), "self", "cls", "torch", "nn"}
    | {
        "F",
        "math",
        "Tensor",
        "x",
        "y",
        "b",
        "n",
        "c",
        "shape",
        "size",
        "dtype",
        "device",
        "ndim",
        "Self",
        "T",
        "_",
        "__",
    }
    | {
        "__class__",
        "__dict__",
        "__slots__",
        "weight",
        "bias",
        "é",
        "名前",
        "ﬁ",
        "ᵇ",
        "ſelf",
        "unflatten",
        "softmax",
        "linear_2",
    }
)


def reserved(name: str) -> bool:
    """Whether the language keeps the name for itself, or for the flag of `nn.Module`."""
    try:
        parse(read(f"model net {{ input {name}: [b, c = 2]\n output y = {name} }}".encode()))
    except ArchError:
        return True
    return name == "training"


FREE = [name for name in NAMES if not reserved(name)]


def test_most_names_are_free() -> None:
    assert {"self", "torch", "nn", "F", "class", "def", "lambda", "forward", "train", "__init__", "__debug__"} <= set(
        FREE
    )
    assert len(FREE) > 200


def run(text: str, *inputs: torch.Tensor) -> tuple[Any, dict[str, Any]]:
    network = archlang.loads(text).architecture()
    module = network.module(seed=0).eval()
    assert set(module.state_dict()) == {path for path, _, _ in network.graph.weights()}
    module.train().eval().double().float()
    return module(*inputs), module.state_dict()


X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FREE)
def test_label(name: str) -> None:
    """Labels of layers, loops and weights: the state_dict has exactly these."""
    text = f"""
    block inner(k: int)(x: [.., c]) -> [.., c] {{
      param {name}: [c] = ones
      return (x * {name}) -> linear(c)
    }}
    model net {{
      input x: [b, n, c = 4]
      x = x -> inner(2) as {name} -> linear(4) as tail
      repeat 2 as layers[i] {{ x = x -> linear(4) as {name} }}
      output y = x
    }}
    """
    if name in ("c", "x", "inner"):  # one name, one thing
        text = text.replace(f"param {name}:", "param gamma:").replace(f"* {name})", "* gamma)")
    found, state = run(text, X)
    assert found.shape == X.shape
    leaves = {f"{name}.linear.weight", "tail.weight", f"layers.0.{name}.weight", f"layers.1.{name}.bias"}
    assert leaves <= set(state)
    assert f"{name}.{name}" in state or f"{name}.gamma" in state


@pytest.mark.parametrize(
    "line",
    [
        "x -> linear(4) as training",
        "x -> training",
        "x -> linear(4) -> (training as training)",
    ],
)
def test_training_is_a_flag_of_modules(line: str) -> None:
    text = f"block training()(x: [.., c]) = x -> linear(c)\nmodel net {{ input x: [b, n, c = 4]\n output y = {line} }}"
    with pytest.raises(ArchError, match="A714"):
        archlang.loads(text).architecture()


@pytest.mark.parametrize("name", FREE)
def test_loop(name: str) -> None:
    _, state = run(
        f"model net {{ input x: [b, n, c = 4]\n repeat 2 as {name}[k] {{ x = x -> linear(4) as fc }}\n output y = x }}",
        X,
    )
    assert set(state) == {f"{name}.{i}.fc.{leaf}" for i in range(2) for leaf in ("weight", "bias")}


@pytest.mark.parametrize("name", FREE)
def test_value(name: str) -> None:
    """Inputs, hyper-parameters, variables, loop variables and outputs. What is imported under a name gives way to it."""
    if name in ("b", "n", "c", "other", "sum", "range", "linear", "relu"):
        return
    found, _ = run(
        f"""
        block inner({name}: int)(other: [.., c]) -> [.., c] = other -> linear(c * {name}) -> linear(c)
        block twice()({name}: [.., c]) -> [.., c] = {name} -> linear(c) -> relu
        model net {{
          input {name}: [b, n, c = 4]
          {name} = {name} -> twice -> inner(2)
          output out = {name} * {name} + 1
          output size = sum({name}, on = c)
        }}
        """,
        X,
    )
    assert [list(value.shape) for value in found] == [[2, 3, 4], [2, 3]]
    found, _ = run(
        f"""
        model net({name}: int = 4) {{
          input other: [b, n, c = {name}]
          output y: [b, n, c = {name}] = [other * i for i in range({name})][1] -> linear({name})
        }}
        """,
        X,
    )
    assert found.shape == X.shape


@pytest.mark.parametrize("name", FREE)
def test_axis(name: str) -> None:
    if name in ("all", "b", "k", "c", "x", "softmax", "sum", "rename", "linear"):  # `all` stands for axes
        return
    found, _ = run(
        f"""
        block inner()(x: [b, {name}, c]) -> [b, {name}, c = {name}] = x -> linear({name})
        model net {{
          input x: [b, {name}, c = 4]
          output y = x[{name} = 0:2] -> softmax(on = {name})
          output z = x -> rename({name} = k) -> sum(on = k)
        }}
        """,
        X,
    )
    assert [list(value.shape) for value in found] == [[2, 2, 4], [2, 4]]


@pytest.mark.parametrize("name", FREE)
def test_block_and_model(name: str) -> None:
    if name in ("x", "y", "b", "n", "c", "linear"):
        return
    found, state = run(
        f"""
        block {name}()(x: [.., c]) -> [.., c] = x -> linear(c)
        model net {{ input x: [b, n, c = 4]\n output y = x -> {name} -> {name} as second }}
        """,
        X,
    )
    assert found.shape == X.shape
    assert set(state) == {f"{block}.linear.{leaf}" for block in (name, "second") for leaf in ("weight", "bias")}
    assert run(f"model {name} {{ input x: [b, n, c = 4]\n output y = x -> linear(4) }}", X)[0].shape == X.shape


TEXTS = [
    'a " quote', "a ' quote", "\\\\", "\\\\n", 'ends with \\\\', '"""', "'''", "{{ x }}", "{% for x in y %}", "{# no #}", "{", "}",
    "%s %d", "\\n\\nimport os\\nos.abort()", '""\\n    import os\\n    os.abort()', "\\u0000\\r\\n", "🦊 é", "# comment",
    "\\t",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts(text: str) -> None:
    """Docstrings, messages, settings: none becomes code."""
    quoted = text.replace('"', '\\"')
    doc = text.replace('"', "'")
    source = f'''"""{doc} """
    block inner()(x: [.., c]) -> [.., c] {{
      """{doc} """
      return x -> linear(c)
    }}
    model net(note: str = "{quoted}", deep: bool = true) {{
      """{doc} """
      input x: [b, n, c = 4]
      require x.n % 3 == 0, "{quoted}"
      output y = x -> match note {{ "{quoted}" => inner, _ => relu }}
    }}
    '''
    try:
        found, state = run(source, X)
    except ArchError:
        if "\\u" in text or "\\r" in text:  # escapes that strings do not have
            return
        raise
    assert found.shape == X.shape
    assert state
    module = archlang.loads(source).architecture(settings={"note": text}).module()
    assert module(X).shape == X.shape
    with pytest.raises(ValueError, match="n must be a multiple of 3"):
        module(torch.zeros(2, 4, 4))


@pytest.mark.parametrize(
    "name", ["a\nimport os\nos.abort()", 'a"""b', "a b.arch", "{{x}}.arch", "ünï.arch", "a\rb", "a\u2028b"]
)
def test_file_names_and_settings(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text('model net(note: str = "") { input x: [b, n, c = 4]\n output y = x -> linear(4) }')
    module = archlang.load(path).net(note=name).module()
    assert module(X).shape == X.shape
