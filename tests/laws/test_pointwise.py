"""Operators and elementwise functions: emitted equals meant, broadcasting by name, dtypes, parentheses."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import archlang
from archlang.emit.torch import emit
from archlang.facts import Facts
from archlang.ir import Graph
from archlang.primitive import OpError, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law
from archlang.testing.networks import check_network
from archlang.testing.strategies import tensor, tensor_types

ARITHMETIC = ["add", "sub", "mul", "div", "mod", "floordiv", "maximum", "minimum"]
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"]
LOGIC = ["logical_and", "logical_or"]


def op(name: str, **fields: object) -> Primitive:
    made = CONSTRUCTS[name](**fields)
    assert isinstance(made, Primitive)
    return made


@settings(max_examples=40)
@given(st.sampled_from(ARITHMETIC + COMPARE), tensor_types(most=3), st.data())
def test_two_tensors_broadcast_by_name(name: str, a: TensorType, data: st.DataObject) -> None:
    shared = data.draw(st.lists(st.sampled_from(a.names), unique=True) if a.axes else st.just([]))
    own = data.draw(tensor_types(names=[n for n in ("n", "state", "h", "w") if n not in a], most=2))
    b = TensorType(tuple(data.draw(st.permutations([*(a[n] for n in shared), *own]))))
    check_law(op(name), a, b)


@pytest.mark.parametrize("name", ARITHMETIC + COMPARE)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("dtype", "number"), [("float", 2), ("float", -1.5), ("int", 3), ("int", 0.5), ("bool", 2)])
def test_a_tensor_and_a_number(name: str, side: str, dtype: str, number: float) -> None:
    x = tensor(dtype, b="b", c=3)
    a, b = (None, x) if side == "left" else (x, None)
    if dtype == "bool" and name in ("lt", "le", "gt", "ge"):
        refused("A214", name, a, b, **{side: number})
        return
    if side == "left" and name in ("div", "mod", "floordiv") and dtype != "float":
        values = torch.tensor([[1, 2, 3], [3, 1, 1]]).to(torch.bool if dtype == "bool" else torch.int64)
        a, b = None, (x, values)
    check_law(op(name, **{side: number}), a, b)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extremes_of_infinity(name: str) -> None:
    far = torch.tensor([float("inf"), float("-inf"), 0.0], dtype=torch.float64)
    check_law(op(name), (tensor(c=3), far), tensor(b=2, c=3))
    check_law(op(name, right=float("-inf")), tensor(b=2, c=3))


@pytest.mark.parametrize("name", LOGIC)
def test_truth_values(name: str) -> None:
    check_law(op(name), tensor("bool", b=3, c=4), tensor("bool", c=4))
    check_law(op("logical_not"), tensor("bool", b="b", c=4))


def test_powers() -> None:
    x, positive = tensor(b="b", c=3), torch.rand(4, 3, dtype=torch.float64) + 0.1
    check_law(op("pow"), (x, positive), tensor(c=3))
    check_law(op("pow", right=-0.5), (x, positive))
    check_law(op("pow", right=3), x)
    check_law(op("pow", left=2), None, x)
    check_law(op("pow", right=2), tensor("int", c=3))
    with pytest.raises(OpError, match="negative power"):
        op("pow", right=-1).infer(Facts(), tensor("int", c=3))


@pytest.mark.parametrize(
    ("a", "b", "dtype"),
    [
        ("float", "int", "float"),
        ("int", "int", "int"),
        ("bfloat16", "float16", "float32"),
        ("float32", "float", "float32"),
        ("bool", "int", "int"),
        ("float", "complex", "complex"),
        ("bfloat16", "int", "bfloat16"),
    ],
)
def test_dtypes_promote(a: str, b: str, dtype: str) -> None:
    assert op("mul").infer(Facts(), tensor(a, c=2), tensor(b, c=2)).dtype == dtype


def test_a_free_size_as_a_number() -> None:
    check_law(op("div", right=symbol("h") * symbol("w")), tensor(h="h", w="w"), sizes={"h": 3, "w": 4})
    check_law(op("sub", left=symbol("h")), None, tensor(h="h"), sizes={"h": 3})


def refused(code: str, name: str, *types: TensorType | None, **fields: object) -> OpError:
    with pytest.raises(OpError) as failure:
        op(name, **fields).infer(Facts(), *types)
    assert failure.value.code == code
    return failure.value


def test_what_is_refused() -> None:
    assert refused("A204", "add", tensor(c=64), tensor(c=96)).about == "c"
    assert refused("A210", "add", TensorType((axis("s", 4, "time"),)), tensor(s=4)).about == "s"
    refused("A214", "add", tensor("bool", c=2), tensor("bool", c=2))
    refused("A214", "logical_and", tensor(c=2), tensor("bool", c=2))
    refused("A214", "lt", tensor("complex", c=2), tensor(c=2))
    refused("A214", "sin", tensor("bool", c=2))
    refused("A214", "where", tensor(c=2), tensor(c=2), tensor(c=2))
    refused("A214", "clamp", tensor("int", c=2), low=0.5)
    refused("A301", "clamp", tensor("int", c=2))
    refused("A301", "add", tensor(c=2), None)


def test_a_condition_is_collected_where_sizes_are_free() -> None:
    facts = Facts()
    made = op("add").infer(facts, tensor(n="n"), tensor(n=5))
    assert made.size("n") == 5
    assert [str(condition) for condition in facts.conditions] == ["n == 5"]


# ---- elementwise functions
@pytest.mark.parametrize(
    "name",
    [
        "exp",
        "log2",
        "log1p",
        "expm1",
        "sqrt",
        "rsqrt",
        "abs",
        "sign",
        "sin",
        "cos",
        "tan",
        "floor",
        "ceil",
        "round",
        "reciprocal",
        "square",
        "erf",
        "neg",
        "log",
    ],
)
@pytest.mark.parametrize("dtype", ["float", "int"])
def test_functions(name: str, dtype: str) -> None:
    x = tensor(dtype, b="b", c=3)
    values = torch.rand(4, 3, dtype=torch.float64) * 3 + 0.1 if dtype == "float" else torch.arange(1, 13).reshape(4, 3)
    check_law(op(name), (x, values))
    if name in ("abs", "sign", "sin", "cos", "floor", "ceil", "round", "square", "neg", "expm1"):
        check_law(op(name), (x, -values))


@settings(max_examples=10)
@given(tensor_types(), st.sampled_from([(0, None), (None, 0.5), (-0.5, 0.5), (1, 2)]))
def test_clamp(x: TensorType, bounds: tuple[float | None, float | None]) -> None:
    check_law(op("clamp", low=bounds[0], high=bounds[1]), x)


@settings(max_examples=10)
@given(tensor_types(most=3), st.sampled_from([(0, None), (None, -1.5), (None, None), (1, 2.5), (1, 0)]))
def test_where(x: TensorType, numbers: tuple[float | None, float | None]) -> None:
    sides = [x if number is None else None for number in numbers]
    check_law(op("where", left=numbers[0], right=numbers[1]), tensor("bool", n=3, state=3), *sides)


def test_infinity_where_it_is_not_taken() -> None:
    text = "model net { input x: [b, c = 6]\n output y = maximum(where(x > 0, x, -inf), 0) }"
    check_network(archlang.loads(text).net(), {"b": 3})


@pytest.mark.parametrize("dtype", ["float", "float32", "float64", "int", "bool", "complex"])
@pytest.mark.parametrize("source", ["float", "int", "bool"])
def test_cast(source: str, dtype: str) -> None:
    if dtype != "complex":
        check_law(op("cast", dtype=dtype), tensor(source, b="b", c=3), gradients=False)
    assert op("cast", dtype=dtype).infer(Facts(), tensor(source, c=3)).dtype == dtype


# ---- text
def text(build: list[tuple[str, dict[str, Any], tuple[int, ...]]]) -> str:
    """The line that `forward` returns for operations on inputs a, b, c; numbers in the tuples count values."""
    graph = Graph("net")
    values = [
        graph.add_input(port, tensor(**sizes))
        for port, sizes in (("a", {"n": 2, "c": 3}), ("b", {"n": 2, "c": 3}), ("w", {"c": 3}))
    ]  # type: ignore[arg-type]
    for name, fields, places in build:
        operation = op(name, **fields)
        values += graph.add(
            operation, [(port.strip("?"), values[i]) for port, i in zip(operation.inputs, places, strict=False)]
        )
    graph.outputs = [("", values[-1])]
    return next(line.strip() for line in emit(graph).splitlines() if "return" in line)


@pytest.mark.parametrize(
    ("build", "line"),
    [
        ([("mul", {}, (0, 1)), ("add", {}, (3, 2))], "return a * b + w"),
        ([("add", {}, (0, 1)), ("mul", {}, (3, 2))], "return (a + b) * w"),
        ([("sub", {}, (0, 1)), ("sub", {}, (1, 3))], "return b - (a - b)"),
        ([("div", {}, (0, 1)), ("mul", {}, (3, 2))], "return a / b * w"),
        ([("neg", {}, (0,)), ("pow", {"right": 2}, (3,))], "return (-a) ** 2"),
        ([("pow", {"right": 2}, (0,)), ("neg", {}, (3,))], "return -a**2"),
        ([("add", {"right": 1}, (0,)), ("exp", {}, (3,))], "return torch.exp(a + 1)"),
        (
            [("lt", {"right": 0}, (0,)), ("gt", {"right": 1}, (1,)), ("logical_or", {}, (3, 4))],
            "return (a < 0) | (b > 1)",
        ),
        ([("maximum", {"right": 0}, (0,))], "return a.clamp(min=0)"),
    ],
)
def test_text_reads_as_written_by_hand(build: list[tuple[str, dict[str, Any], tuple[int, ...]]], line: str) -> None:
    assert text(build) == line
