"""Tables: emitted equals meant, tied weights, refusals."""

import pytest
import torch
from hypothesis import given, settings

from archlang.emit import load
from archlang.emit.torch import class_name, emit
from archlang.facts import Facts
from archlang.ir import Graph, WeightOf
from archlang.primitive import OpError
from archlang.primitives.embedding import Embedding
from archlang.primitives.init import Constant
from archlang.primitives.linear import Dot
from archlang.shapes import TensorType
from archlang.testing.interpret import run
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types


@settings(max_examples=15)
@given(tensor_types(names=("b", "t", "n"), dtype="int", most=3))
def test_embedding(x: TensorType) -> None:
    check_law(Embedding(count=4, dim=3), x)


def test_the_table_starts_as_told() -> None:
    module = check_law(Embedding(count=4, dim=3, init=Constant(value=0.5)), tensor("int", b="b"))
    fresh = type(module)()
    assert torch.equal(fresh.state_dict()["op.weight"], torch.full((4, 3), 0.5))


def test_a_tied_table_makes_the_scores() -> None:
    graph = Graph("net")
    ids = graph.add_input("ids", tensor("int", b="b", t="t"))
    (x,) = graph.add(Embedding(count=5, dim=3), [("x", ids)], label="embed")
    (weight,) = graph.add(WeightOf(leaf="weight", type=tensor(vocab=5, c=3)), label="embed")
    graph.outputs = [("", graph.add(Dot(on=("c",)), [("a", x), ("b", weight)])[0])]
    module = load(emit(graph), class_name(graph))()
    inputs = torch.randint(0, 5, (2, 4))
    table = module.state_dict()["embed.weight"]
    assert set(module.state_dict()) == {"embed.weight"}
    assert torch.allclose(module(inputs), table[inputs] @ table.T)
    assert torch.allclose(module(inputs), run(graph, {"ids": inputs}, module.state_dict())["0"])


def test_refusals() -> None:
    with pytest.raises(OpError, match="whole numbers"):
        Embedding(count=4, dim=3).infer(Facts(), tensor(b=2))
    with pytest.raises(OpError, match="already is an axis `c`"):
        Embedding(count=4, dim=3).infer(Facts(), tensor("int", c=2))
