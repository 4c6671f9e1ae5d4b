"""Gather, scatter, order and positions: emitted equals meant, with paired axes in any order."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.shapes import TensorType
from archlang.sizes import symbol
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types


def op(name: str, **fields: object) -> Primitive:
    made = CONSTRUCTS[name](**fields)
    assert isinstance(made, Primitive)
    return made


def positions(type_: TensorType, below: int, seed: int = 0) -> tuple[TensorType, torch.Tensor]:
    """An input of random positions; a free size is 2."""
    shape = [a.size if isinstance(a.size, int) else 2 for a in type_]
    return type_, torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed))


def types(*texts: str) -> list[TensorType]:
    """`types("b n=5 c", "b k=2")`: an axis without a size has size 2, `b` a free one."""
    parts = [[part.partition("=") for part in text.split()] for text in texts]
    return [tensor(**{n: "b" if n == "b" else int(size or 2) for n, _, size in axes}) for axes in parts]


GATHERS = [
    ("b n=5 c", "k=3"),
    ("b n=5 c", "b k=3"),
    ("n=5 c b", "b k=3"),
    ("b n=5 c", "b n=3"),
    ("b n=5 c", "b"),
    ("n=5", "k=3 m=2"),
    ("b c n=5", "k=3 b m=2"),
    ("b heads n=5 c", "heads b k=3"),
    ("b n=5 c", ""),
    ("b n=5 c", "c b k=3"),
    ("n=5 b c", "n=4 m=3 c"),
    ("n=5 c", "b n=2"),
]


@pytest.mark.parametrize(("x", "index"), GATHERS)
def test_gather(x: str, index: str) -> None:
    x_type, index_type = types(x, index)
    check_law(op("gather", axis="n"), x_type, positions(index_type.cast("int"), 5))


@settings(max_examples=25)
@given(tensor_types(must=("n",), most=4), st.data())
def test_gather_with_any_pairing(x: TensorType, data: st.DataObject) -> None:
    paired = data.draw(st.lists(st.sampled_from(x.axes), unique=True))
    own = data.draw(tensor_types(names=("k", "m"), most=2))
    index = TensorType(tuple(data.draw(st.permutations([*(a for a in paired if a.name != "n"), *own]))), "int")
    check_law(op("gather", axis="n"), x.resized(n=4), positions(index, 4))


def test_gather_on_time() -> None:
    (made,) = infer(op("gather", axis="t"), Facts(), [tensor(b="b", t="t", c=2), tensor("int", b="b")])
    assert (made.names, made.lost) == (("b", "c"), {"t"})
    with pytest.raises(OpError, match="looks ahead"):
        infer(op("gather", axis="t"), Facts(), [tensor(t="t", c=2), tensor("int", t="t")])


SCATTERS = [
    ("e=6 c", "e=6"),
    ("b k=6 c", "b k=6"),
    ("n=6 c", "n=6"),
    ("c b k=6", "k=6"),
    ("b k=3 m=2 c", "m=2 k=3"),
    ("k=3 c m=2 b", "b k=3 m=2"),
    ("e=6", "e=6"),
]


@pytest.mark.parametrize(("x", "index"), SCATTERS)
def test_scatter(x: str, index: str) -> None:
    x_type, index_type = types(x, index)
    check_law(op("scatter", axis="n", size=4), x_type, positions(index_type.cast("int"), 4))


def test_scatter_of_chosen_axes_only() -> None:
    x, index = types("b heads k=5 c", "heads k=5")
    check_law(op("scatter", axis="n", size=4, on=("k",)), x, positions(index.cast("int"), 4))
    x, index = types("b heads k=5", "b heads k=5")
    check_law(op("scatter", axis="n", size=symbol("b"), on=("k",)), x, positions(index.cast("int"), 2), sizes={"b": 2})


def test_scatter_is_the_reverse_of_gather() -> None:
    x, index = torch.randn(2, 5, 3), torch.tensor([[4, 0, 2, 1, 3], [1, 3, 0, 2, 4]])
    gathered = check_law(op("gather", axis="n"), (tensor(b=2, n=5, c=3), x), (tensor("int", b=2, k=5), index))(x, index)
    back = check_law(
        op("scatter", axis="n", size=5), (tensor(b=2, k=5, c=3), gathered), (tensor("int", b=2, k=5), index)
    )
    assert torch.equal(back(gathered, index), x)


def test_pooling_of_graphs() -> None:
    x, graph = torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 1])
    module = check_law(op("scatter", axis="n", size=3), (tensor(n="n", c=3), x), (tensor("segments", n="n"), graph))
    assert torch.allclose(module(x, graph), torch.stack([x[:2].sum(0), x[2:].sum(0), torch.zeros(3)]))


@pytest.mark.parametrize("reduce", ["mean", "max", "min"])
@pytest.mark.parametrize(("x", "index"), SCATTERS)
def test_scatter_that_reduces(x: str, index: str, reduce: str) -> None:
    """Positions that nothing has are 0."""
    x_type, index_type = types(x, index)
    check_law(op("scatter", axis="n", size=5, reduce=reduce), x_type, positions(index_type.cast("int"), 4))


def test_scatter_of_whole_numbers_only_sums() -> None:
    whole = tensor("int", e=3)
    check_law(op("scatter", axis="n", size=4), whole, positions(whole, 4))
    with pytest.raises(OpError, match="float"):
        infer(op("scatter", axis="n", size=4, reduce="max"), Facts(), [whole, whole])


def test_poison_stays_at_its_node() -> None:
    """NaN and inf reach no other position."""
    x, index = torch.randn(6, 2), torch.tensor([0, 0, 1, 1, 2, 2])
    x[0], x[2] = float("nan"), float("inf")
    for reduce in ("sum", "mean", "max"):
        module = check_law(
            op("scatter", axis="n", size=3, reduce=reduce), tensor(e=6, c=2), positions(tensor("int", e=6), 3)
        )
        assert module(x, index)[2].isfinite().all()


COUNTS = ["e=6", "b k=6", "b k=3 m=2", "k=3 b m=2", "n=4"]


@pytest.mark.parametrize("index", COUNTS)
def test_count(index: str) -> None:
    """It is `scatter` of ones."""
    (type_,) = types(index)
    given = positions(type_.cast("int"), 4)
    module = check_law(op("count", axis="n", size=5), given)
    ones = check_law(op("scatter", axis="n", size=5), (type_, torch.ones(given[1].shape)), given)
    assert torch.equal(module(given[1]), ones(torch.ones(given[1].shape), given[1]))


def test_count_needs_an_axis_that_makes_way() -> None:
    with pytest.raises(OpError, match="makes way"):
        infer(op("count", axis="n", size=4), Facts(), [tensor("int", b="b")])
    with pytest.raises(OpError, match="whole numbers"):
        infer(op("count", axis="n", size=4), Facts(), [tensor(e=4)])


# ---- order
@settings(max_examples=15)
@given(tensor_types(must=("n",), most=4), st.integers(1, 4))
def test_top_k(x: TensorType, k: int) -> None:
    check_law(op("top_k", k=k, on=("n",)), x.resized(n=4))


@settings(max_examples=20)
@given(tensor_types(must=("n",), most=3), st.booleans(), st.sampled_from(["sort", "argsort"]))
def test_sort(x: TensorType, descending: bool, name: str) -> None:
    check_law(op(name, on=("n",), descending=descending), x.resized(n=5))


def test_equal_values_keep_their_order() -> None:
    x = torch.tensor([2, 1, 2, 1, 1])
    for descending, order in ((False, [1, 3, 4, 0, 2]), (True, [0, 2, 1, 3, 4])):
        module = check_law(op("argsort", on=("n",), descending=descending), (tensor("int", n=5), x))
        assert module(x).tolist() == order


# ---- positions as data
@settings(max_examples=10)
@given(tensor_types(dtype="int", most=3), st.integers(4, 6))
def test_one_hot(x: TensorType, size: int) -> None:
    check_law(op("one_hot", axis=("slot",), size=size), x)


@pytest.mark.parametrize("size", [1, 7])
def test_index(size: int) -> None:
    module = check_law(op("index", axis=("n",), size=size))
    assert module().tolist() == list(range(size))


def test_index_of_a_free_size() -> None:
    from archlang.emit import load
    from archlang.emit.torch import class_name, emit
    from archlang.ir import Graph

    graph = Graph("net")
    x = graph.add_input("x", tensor(n="n"))
    (places,) = graph.add(op("index", axis="n", size=symbol("n")))
    graph.outputs = [("", graph.add(op("mul"), [("a", x), ("b", places)])[0])]
    assert load(emit(graph), class_name(graph))()(torch.ones(4)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "fields", "inputs", "code"),
    [
        ("gather", {"axis": "n"}, [tensor(n=3), tensor(k=2)], "A214"),
        ("gather", {"axis": "z"}, [tensor(n=3), tensor("int", k=2)], "A205"),
        ("gather", {"axis": "n"}, [tensor(n=3, b=2), tensor("int", b=3)], "A204"),
        ("scatter", {"axis": "n", "size": 3}, [tensor(e=3), tensor("int", k=3)], "A205"),
        ("scatter", {"axis": "c", "size": 3}, [tensor(e=3, c=2), tensor("int", e=3)], "A206"),
        ("scatter", {"axis": "n", "size": 3}, [tensor(b=3), tensor("int", b=3)], "A205"),
        ("top_k", {"k": 4, "on": ("n",)}, [tensor(n=3)], "A204"),
        ("one_hot", {"axis": "n", "size": 3}, [tensor("int", n=3)], "A206"),
    ],
)
def test_refusals(name: str, fields: dict[str, Any], inputs: list[TensorType], code: str) -> None:
    with pytest.raises(OpError) as failure:
        op(name, **fields).infer(Facts(), *inputs)
    assert failure.value.code == code
