"""Broken programs: each is refused with a diagnostic, or its module gives what its types promise."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archlang
from archlang import resources
from archlang.analysis.expectations import expectations
from archlang.compile import Architecture
from archlang.diagnostics import ArchError, render
from archlang.facts import decide
from archlang.primitive import Primitive
from archlang.primitives import CONSTRUCTS
from archlang.sizes import Size, substitute, symbols
from archlang.testing.syntax import files

ROOT = Path(__file__).parents[1]
TOKEN = re.compile(r'"""(?s:.*?)"""|"[^"\n]*"|[^\W\d]\w*|\d[\w.]*|->|=>|[=!<>]=|\*\*|//|\.\.|\n|[ \t]+|(?s:.)')
SMALL: dict[str, dict[str, Any]] = {
    "maxvit": {"dims": [8, 16], "depths": [1, 1], "stem": 8, "head_dim": 8, "resolution": 32},
    "convnext": {"dims": [8, 16], "depths": [1, 1], "resolution": 32},
    "swin": {"dim": 12, "depths": [2], "heads": [2], "resolution": 56},
    "mobilenet_v2": {"width": 0.25, "resolution": 32},
    "vit": {"dim": 12, "depth": 1, "heads": 2, "patch": 8, "resolution": 16},
    "unet_2d": {"dim": 4, "depth": 1},
    "unet_3d": {"dim": 4, "depth": 1},
    "deepseek_v3": {
        "vocab": 16,
        "dim": 16,
        "depth": 2,
        "dense": 1,
        "heads": 2,
        "q_rank": 8,
        "kv_rank": 8,
        "plain": 4,
        "turned": 4,
        "value": 4,
        "hidden": 8,
        "expert": 8,
        "experts": 8,
        "top": 2,
        "groups": 4,
        "kept": 2,
    },
    "llama": {"vocab": 16, "dim": 16, "depth": 1, "heads": 4, "kv_heads": 2, "hidden": 8},
}
SEEDS = [path.read_text("utf-8") for path in sorted((ROOT / "examples").glob("*.arch"))]
BLOCKS, *MODELS = re.split(r"^(?=model )", (ROOT / "tests/fuzz/zoo.arch").read_text("utf-8"), flags=re.MULTILINE)
SEEDS += [BLOCKS + model for model in MODELS] * 3
NUMBERS = ["0", "1", "2", "3", "4", "5", "7", "8", "0.5", "1e-3", "-1", "1 / 3"]
RESERVED = {
    *"as if else for in repeat return block model input output use std match param require variant expect".split()
}
WORDS = [*CONSTRUCTS, *"b c t h w n heads space time free none true false x y".split(), *"range len sum zip".split()]
SIGNS = [*"+-*/%=,:()[]{}.<>&|~?", "->", "**", "//", "..", "==", "\n"]


# ---- breaking programs
def broken(text: str, kind: int, a: int, b: int) -> str:
    """The text with one change: a token dropped, doubled, moved or replaced, a line dropped, doubled or moved, a byte
    changed."""
    if kind in (6, 7, 8):
        parts = text.splitlines(keepends=True) or [""]
    elif kind == 9:
        parts = list(text) or [""]
    else:
        parts = [part for part in TOKEN.findall(text) if part] or [""]
    i, j = a % len(parts), b % len(parts)
    if kind in (0, 6):
        parts[i] = ""
    elif kind in (1, 7):
        parts[i] *= 2
    elif kind in (2, 8):
        parts[i], parts[j] = parts[j], parts[i]
    elif kind == 9:
        parts[i] = chr(b % 300)
    else:
        replace(parts, kind, i, b)
    return "".join(parts)


def replace(parts: list[str], sort: int, at: int, choice: int) -> None:
    """Put another word, number or sign in the place of one."""
    fits, others = {
        3: (is_name, [*(part for part in parts if is_name(part)), *WORDS]),
        4: (lambda part: part[0].isdigit(), NUMBERS),
        5: (lambda part: part in SIGNS, SIGNS),
    }[sort]
    places = [i for i, part in enumerate(parts) if fits(part)]
    if places:
        parts[places[at % len(places)]] = others[choice % len(others)]


def is_name(part: str) -> bool:
    return part.isidentifier() and part not in RESERVED


kinds = st.sampled_from([*range(10), *[3, 4] * 20])  # most programs should still parse
changes = st.tuples(kinds, st.integers(0, 10_000), st.integers(0, 10_000))


@st.composite
def programs(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SEEDS))
    for change in draw(st.lists(changes, min_size=1, max_size=3)):
        text = broken(text, *change)
    return text


# ---- operations with arguments of about the right kind
AXES = ["c", "c", "n", "h", "w", "t", "heads", "space", "time", "free", "[h, w]", "[n, c]", "[heads, c]", "b", "new"]
SMALL_NUMBERS = ["1", "2", "2", "3", "4", "8", "0", "-1", "0.5", "[h = 1, w = 2]", "[n = 2]", "x.c", "x.c / 2"]
TEXTS = {  # by the names of fields, for others SMALL_NUMBERS
    "units": "4 | 8 | x.c | x.c / 2 | [heads = 2, c = 2] | [part = 3, c = x.c] | [c] | []",
    "bias affine descending align_corners antialias interleaved per_channel count_include_pad": "true | false",
    "init init_bias": "ones | zeros | normal(0.1) | ones * 2 | eye | uniform(0, 1) | xavier_uniform | kaiming",
    "eps rate drop momentum slope alpha beta low": "0 | 0.1 | 1e-3 | 0.5 | 1 | -1",
    "padding": '"same" | "valid" | "causal" | 0 | 1 | 2 | [h = 1, w = 0]',
    "mode": '"zeros" | "reflect" | "circular" | "replicate" | "bicubic" | "area" | "linear" | "nearest"',
    "over": "full | causal | windows(2) | grid(2) | sliding(2) | windows(2, shift = 1) | causal & sliding(3)",
    "position": "relative | alibi | rope | none | x | sinusoid",
    "score": "softmax | sigmoid",
    "dtype": "float32 | float64 | int | bool | bfloat16 | complex64",
    "pattern": '"h w -> n" | "c -> heads c" | "n -> h w" | "h -> h p, w -> w q, p q -> n" | "n c -> c" | "c -> "',
    "sizes": "[heads = 2] | [new = 3, h = 2] | [n = 2]",
    "names": "[c = new] | [n = m, c = k] | [h = w]",
    "amounts": "[n = 1] | [h = [0, 1], w = [1, 2]] | [c = 2] | [t = [2, 0]]",
    "shift": "[n = 1] | [h = 1, w = -1] | [c = 3]",
    "parts": "2 | [1, 3] | 4 | [2, 2]",
    "index": "0 | -1 | 1 | x.c - 1",
}
VALUES = {field: values.split(" | ") for fields, values in TEXTS.items() for field in fields.split()}
TENSORS = ["x", "x", "x", "index", "mask", "x[c = 0]", "(x -> linear(4))", "(x -> rename(c = k))", "2", "0.5", "[x, x]"]
INPUTS = [
    "b, n, c = 4",
    "b, h = 4, w = 6, c = 4",
    "b, t = 5, c = 4",
    "b, c = 8",
    "b, h, w, c = 4",
    "b, n = 6, heads = 2, c = 4",
]
LAYERS = sorted(
    name for name, cls in CONSTRUCTS.items() if issubclass(cls, Primitive) and cls.inputs and not cls.lowered
)


@st.composite
def applied(draw: st.DrawFn) -> str:
    """`x` through a layer, or a layer of several tensors."""
    cls: Any = CONSTRUCTS[draw(st.sampled_from(LAYERS))]
    given = []
    for name, info in cls.model_fields.items():
        if name not in ("left", "right") and (info.is_required() or draw(st.integers(0, 3)) == 0):
            known = AXES if cls.kinds()[name] == "axes" else VALUES.get(name, SMALL_NUMBERS)
            given.append(f"{name} = {draw(st.sampled_from(known))}")
    first, *others = cls.inputs
    ports = [port.strip("?*") for port in others if "?" not in port or cls.inputs[0] != "x" or draw(st.booleans())]
    given += [f"{port} = {draw(st.sampled_from(TENSORS))}" for port in ports]
    before = draw(st.sampled_from([*["x"] * 6, "index", "mask", "x[c = 0:2]", "(x -> relu)"]))
    if first == "*xs":
        return f"{cls.name}([{before}, {draw(st.sampled_from(TENSORS))}], {', '.join(given)})"
    return f"{before} -> {cls.name}({', '.join(given)})" if given else f"{before} -> {cls.name}"


@st.composite
def chains(draw: st.DrawFn) -> str:
    """A model that applies some layers one after the other."""
    lines = [f"  x{i} = {text}" for i, text in enumerate(draw(st.lists(applied(), min_size=1, max_size=3)), 1)]
    lines = [re.sub(r"\bx\b", f"x{i}", line) for i, line in enumerate(lines)]
    axes = draw(st.sampled_from(INPUTS))
    positions = "b, m = 3" if draw(st.booleans()) else axes.replace("c = ", "m = ")
    ports = f"  input x0: [{axes}]\n  input index: int[{positions}]\n  input mask: bool[b, n = 6]"
    return f"model net {{\n{ports}\n" + "\n".join(lines) + f"\n  output y = x{len(lines)}\n}}\n"


# ---- what must hold of them
def check(text: str) -> None:
    """No exception but `ArchError`; a network that is built gives tensors of the types that it states."""
    try:
        program = archlang.loads(text)
    except ArchError as failure:
        shown(failure)
        return
    for model in program.models:
        try:
            known = {hyper.name for hyper in program.models[model].hypers}
            small = {name: value for name, value in SMALL.get(model, {}).items() if name in known}
            network = program.architecture(model, settings=small)
        except ArchError as failure:
            shown(failure)
            continue
        facts(program, network)
        run(network)


def shown(failure: ArchError) -> None:
    """Every diagnostic can be shown, and says where."""
    assert failure.diagnostics
    for diagnostic in failure.diagnostics:
        assert render(diagnostic)
        assert diagnostic.code != "A999"
        assert diagnostic.labels or diagnostic.code in ("A507", "A801")


def facts(program: archlang.Program, network: Architecture) -> None:
    """What is expected of it, its maps and its tree are there, or refused."""
    for finding in expectations(network, program.architecture):
        assert render(finding)
    for name in network.maps:
        try:
            network.map(name)
        except ArchError as failure:
            shown(failure)
    assert network.show()


def run(network: Architecture) -> None:
    sizes = free_sizes(network)
    if sizes is None or not small(network, sizes):
        return
    module = network.module(seed=0).eval()
    inputs = [example(type_, sizes) for type_ in network.inputs.values()]
    with torch.no_grad():
        try:
            found = module(*inputs)
        except IndexError as outside:  # of a table: a number that a broken program made at run time
            if str(outside).startswith("index"):
                return
            raise
    results = [found] if isinstance(found, torch.Tensor) else list(found)
    for (name, type_), result in zip(network.outputs.items(), results, strict=True):
        assert list(result.shape) == [substitute(axis.size, sizes) for axis in type_], name
        assert type_.dtype != "bool" or result.dtype == torch.bool, name


def free_sizes(network: Architecture) -> dict[str, Size] | None:
    """Small free sizes that meet the conditions of a network."""
    free = sorted({name for type_ in network.inputs.values() for axis in type_ for name in symbols(axis.size)})
    for values in itertools.islice(itertools.product((4, 8, 6, 2, 16, 3, 1, 12, 28, 32), repeat=len(free)), 2_000):
        sizes: dict[str, Size] = dict(zip(free, values, strict=True))
        if all(decide(condition.substitute(sizes)) for condition in network.conditions):
            return sizes
    return None


def small(network: Architecture, sizes: Mapping[str, Size]) -> bool:
    cost = network.cost
    figures = (cost.params * 30, cost.macs, cost.activation_bytes)
    return all(int(str(substitute(figure, sizes))) <= 5_000_000 for figure in figures)


def example(type_: Any, sizes: Mapping[str, Size]) -> torch.Tensor:
    shape = [int(str(substitute(axis.size, sizes))) for axis in type_]
    kinds = {"bool": torch.bool, "float": torch.float32, "int": torch.int64, "segments": torch.int64}
    return torch.zeros(shape, dtype=kinds.get(type_.dtype) or getattr(torch, type_.dtype))


@pytest.mark.parametrize("text", SEEDS, ids=range(len(SEEDS)))
def test_unbroken_programs_run(text: str) -> None:
    program = archlang.loads(text)
    for model in program.models:
        run(program.architecture(model, settings=SMALL.get(model)))


FOUND = {  # what the fuzzers found, as small as it gets
    "a product is not tight": "b, n = 6, heads = 2, c = 4 | y = x -> softmax(on = [n, c]) -> quick_gelu -> quick_gelu",
    "an index among the channels": "b, n = 4, c = 8 | y = x -> group_norm(2, on = c)",
    "channels among the axes": "b, n = 4, c = 8 | y = x -> depthwise(3, on = c)",
    "channels and axes": "b, n = 4, c = 8 | y = x -> depth_to_space(2, on = c)",
    "a role for a name": "b, n = 4, c = 8 | y = x -> slice(axis = space)",
    "a whole scale": "b, n = 4, c = 8 | y = x -> layer_scale(init = 3)",
    "part of a position": "b, n = 4, c = 8 | y = x -> roll([n = 0.5])",
    "a map of nothing": "b, n = 4, c = 8 | y = x -> expand(sizes = 1)",
    "a table without rows": "b, n = 4, c = 8 | y = argmax(x, on = c) -> embedding(-1, 4)",
    "a width of nothing": "b, n = 4, c = 8 | y = x -> linear(2, init = trunc_normal(0))",
    "one position": "b, n = 1, c = 8 | y = x -> instance_norm",
    "taps among the axes": "b, n = 4, c = 8 | y = x -> fold(8, 1, axis = n, on = n)",
    "a second axis": "b, heads = 2, c = 8 | y = x -> linear([c = 4], on = heads)",
    "a loop for nothing": "b, c = 8 | y = x\n  repeat 2 as layers { z = x -> linear(8) }",
    "dtypes that do not meet": "b, n = 4, c = 8 | y = x -> cast(float64) -> layer_norm",
    "a dtype that is none": "b, n = 4, c = 8 | y = x -> cast(floaty)",
    "a deviation of nothing": "b, c = 8 | y = x -> celu(0)",
}


@pytest.mark.parametrize("name", FOUND)
def test_found_before(name: str) -> None:
    axes, line = FOUND[name].split(" | ")
    check(f"model net {{\n  input x: [{axes}]\n  {line}\n  output out = y\n}}\n")


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@settings(max_examples=300, suppress_health_check=QUIET)
@given(programs())
def test_broken_programs(text: str) -> None:
    check(text)


@settings(max_examples=100, suppress_health_check=QUIET)
@given(files)
def test_programs_of_the_grammar(text: str) -> None:
    """They parse, and mean next to nothing."""
    check(text)


@settings(max_examples=300, suppress_health_check=QUIET)
@given(chains())
def test_operations(text: str) -> None:
    check(text)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=QUIET)
@given(chains())
def test_many_operations(text: str) -> None:
    check(text)


@pytest.mark.slow
@settings(max_examples=2_500, suppress_health_check=QUIET)
@given(programs())
def test_many_broken_programs(text: str) -> None:
    check(text)


@pytest.mark.slow
@settings(max_examples=2_000, suppress_health_check=QUIET)
@given(files)
def test_many_programs_of_the_grammar(text: str) -> None:
    check(text)


LIBRARY = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "stdlib").glob("*.arch"))}


@pytest.mark.slow
@settings(max_examples=250, suppress_health_check=QUIET)
@given(st.sampled_from(sorted(LIBRARY)), st.lists(changes, min_size=1, max_size=2), st.sampled_from(SEEDS[:8]))
def test_many_broken_libraries(family: str, made: list[tuple[int, int, int]], text: str) -> None:
    library = dict(LIBRARY)
    for change in made:
        library[family] = broken(library[family], *change)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "read_text", lambda folder, file: read(library, folder, file))
        check(text)


read_text = resources.read_text


def read(library: Mapping[str, str], folder: str, file: str) -> str:
    return library[file] if folder == "stdlib" else read_text(folder, file)
