"""The law harness finds an operation that lies about itself, and the cost of a network is what torch counts."""

from typing import Any, ClassVar

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import archlang
from archlang.analysis.cost import cost, parts
from archlang.ir import Call, Graph
from archlang.named import Named
from archlang.primitive import Emission, Term, Types
from archlang.primitives.linear import Linear
from archlang.shapes import TensorType, axis
from archlang.sizes import Size, symbol
from archlang.testing import check_law, run

X = TensorType((axis("b", symbol("b")), axis("t", 6), axis("c", 4)))


class OtherMeaning(Linear):
    def reference(self, types: Types, x: Named, *rest: Any, **weights: Any) -> Named:
        return super().reference(types, x, *rest, **weights).map(lambda y: y * 1.001)


class NoGradient(Linear):
    def emit(self, code: Emission, x: Term, *given: Term | None) -> Term:
        y = super().emit(code, x, *given)
        return Term(f"{y.safe}.detach()", y.order)


class OtherWeights(Linear):
    def params(self, *inputs: Any) -> Any:
        params = super().params(*inputs)
        return {"kernel": params["weight"], "bias": params["bias"]}


class OtherShape(Linear):
    def emit(self, code: Emission, x: Term, *given: Term | None) -> Term:
        y = super().emit(code, x, *given)
        return Term(f"{y.safe}.repeat(2, 1, 1)", y.order)


class Cheaper(Linear):
    def macs(self, *inputs: Any) -> Size:
        return 1


class Mixing(Linear):
    """Adds the mean over t, and does not say so."""

    mixed: ClassVar[frozenset[str]] = frozenset({"c"})

    def emit(self, code: Emission, x: Term, *given: Term | None) -> Term:
        y = code.bind(super().emit(code, x, *given), "y")
        return Term(f"{y.code} + {y.code}.mean({y.at('t')}, keepdim=True)", y.order, tight=False)

    def reference(self, types: Types, x: Named, *rest: Any, **weights: Any) -> Named:
        y = super().reference(types, x, *rest, **weights)
        return y + y.mean(["t"])

    def mixes(self, *inputs: Any) -> frozenset[str]:
        return self.mixed


class MixingAhead(Mixing):
    mixed = frozenset({"c", "t"})

    def looks_ahead(self, *inputs: Any) -> frozenset[str]:
        return frozenset({"c"})


class MixingHonestly(Mixing):
    mixed = frozenset({"c", "t"})


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (OtherMeaning, "against reference"),
        (NoGradient, "gradient"),
        (OtherWeights, "weights"),
        (OtherShape, "shape|against reference|declared"),
        (Cheaper, "MACs declared"),
        (Mixing, "mixes `t`, and does not say so"),
        (MixingAhead, "looks ahead along `t`, and does not say so"),
    ],
)
def test_lies_are_found(op: type[Linear], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_law(op(units=5), X)


def test_the_truth_passes() -> None:
    check_law(Linear(units=5), X)
    n = TensorType((axis("b", symbol("b")), axis("t", 6, "space"), axis("c", 4)))  # a mean over time is refused anyway
    check_law(MixingHonestly(units=5), n)


def test_run_knows_blocks_and_shared_layers() -> None:
    inner = Graph("block")
    x = inner.add_input("x", X)
    (y,) = inner.add(Linear(units=4), [("x", x)], label="fc")
    inner.outputs = [("", y)]
    graph = Graph("net")
    x = graph.add_input("x", X)
    (y,) = graph.add(Call(graph=inner), [("x", x)], label="a")
    (y,) = graph.add(Call(graph=inner), [("x", y)], label="a")
    graph.outputs = [("y", y)]
    weight, bias, value = torch.randn(4, 4).double(), torch.randn(4).double(), torch.randn(2, 6, 4).double()
    found = run(graph, {"x": value}, {"a.fc.weight": weight, "a.fc.bias": bias})["y"]
    expected = (value @ weight.T + bias) @ weight.T + bias
    torch.testing.assert_close(found, expected)
    assert cost(graph).params == 20
    assert cost(graph).macs == 2 * 6 * 16 * symbol("b")


NET = """
block mlp(ratio: int = 2)(x: [.., c]) -> [.., c] = x -> linear(c * ratio) as fc1 -> gelu -> linear(c) as fc2
model net() {
  input x: [b, c = 3, h = 8, w = 8]
  y = x -> conv(8, kernel = 3) as conv -> batch_norm as norm
  shared = linear(8)
  repeat 2 as blocks[i] { y = y -> mlp -> shared }
  output z: [b, c = 8] = y -> mlp(3) -> mean(on = space)
}
"""


def test_cost_is_what_torch_counts() -> None:
    network = archlang.loads(NET).net()
    module = network.module(seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.randn(1, 3, 8, 8))
    assert network.cost.params == sum(p.numel() for p in module.parameters())
    assert network.flops == counter.get_total_flops()


def test_parts_add_up() -> None:
    network = archlang.loads(NET).net()
    found = list(parts(network.graph))
    paths = [part.path for part in found]
    assert paths[:4] == ["conv", "norm", "blocks.0", "blocks.0.mlp"]
    assert sum(part.cost.params for part in found if part.depth == 0) == network.params
    assert [part.cost.macs for part in found if part.path == "conv"] == [3 * 9 * 8 * 64 * symbol("b")]
