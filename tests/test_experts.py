"""Experts: tokens go to the layers chosen for them, and only there; they come back weighted."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import archlang
from archlang.helpers.combine import combine
from archlang.helpers.dispatch import dispatch
from archlang.primitives.routing import LimitLoad, LoadBalance
from archlang.shapes import TensorType, axis
from archlang.sizes import substitute, symbol
from archlang.testing.laws import check_law
from archlang.testing.networks import check_network

MOE = """
use std.ffn: mlp, swiglu
use std.moe: moe, top_sigmoid, top_softmax, expert_choice, soft_moe
model net(experts: int = 4, top: int = 2) {
  input x: [b, TOKENS, c = 8]
  output y = MADE
}
"""


def network(made: str, tokens: str = "t", **settings: Any) -> Any:
    return archlang.loads(MOE.replace("MADE", made).replace("TOKENS", tokens)).architecture(settings=settings)


# ---- meaning
@pytest.mark.parametrize(
    ("made", "tokens"),
    [
        ("x -> moe(swiglu(6), experts, top)", "t"),
        ("x -> moe(mlp(2), experts, top, capacity = 1) ", "t"),
        ("x -> moe(mlp(2), experts, 1, router = top_softmax(renormalise = false), shared = mlp(1))", "h = 3, w = 2"),
        ("x -> moe(layer_norm -> linear(c) -> relu, experts, 3, router = top_sigmoid(scale = 2.5))", "n"),
        ("x -> moe(moe(linear(8), 3, 2), experts, top)", "n"),  # experts of experts
        ("x -> expert_choice(mlp(2), experts, 1)", "n = 8"),
        ("x -> soft_moe(mlp(2), experts, 2)", "n = 5"),
        ("x -> rearrange('c -> heads c', heads = 2) -> each(heads, linear(3)) as maps", "t"),
        ("x -> rearrange('c -> heads c', heads = 2) -> each(heads, mlp(2)) as maps", "t"),
    ],
)
def test_equals_its_meaning(made: str, tokens: str):
    """Results, losses and all gradients, in float64, as do the costs."""
    made = made.replace("'", '"').replace("linear(c)", "linear(8)")
    net = network(made, tokens)
    free = {name: size for name, size in {"b": 2, "t": 5, "n": 7}.items() if name in "b " + tokens}
    module = check_network(net, free)
    if "capacity" not in made:
        x = torch.randn([substitute(a.size, free) for a in net.inputs["x"]], dtype=torch.float64)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(x)
        assert counter.get_total_flops() == 2 * substitute(net.cost.macs, free)


ROUTED = """
model net {
  input x: [b, TOKENS, c = 4]
  input index: int[b, INDEX k = 2]
  input weight: [b, INDEX k = 2]
  output y = mixture(x, index, weight, layers = [linear(3), linear(4) -> linear(3) as two, linear(3)], on = k) as bank
}
"""


@pytest.mark.parametrize(("tokens", "index"), [("n", "n,"), ("n", ""), ("h, w = 2", "w = 2, h,")])
def test_layers_that_differ_and_tokens_that_are_whole_maps(tokens: str, index: str):
    """A layer sees what of x the index does not choose for."""
    net = archlang.loads(ROUTED.replace("TOKENS", tokens).replace("INDEX", index)).architecture()
    module = check_network(net, {"b": 3, "n": 5, "h": 2})
    assert {name.split(".")[1] for name in module.state_dict()} == {"0", "1", "2"}
    assert "bank.1.linear.weight" in module.state_dict()


def dense(x: torch.Tensor, index: torch.Tensor, weight: torch.Tensor, experts: list[nn.Module]) -> torch.Tensor:
    """Every expert on every token, and the sum over those that are chosen."""
    every = torch.stack([*(expert(x) for expert in experts), torch.zeros_like(x)], -2)
    return (every.gather(-2, index[..., None].expand(*index.shape, x.shape[-1])) * weight[..., None]).sum(-2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_tokens_come_back_to_their_places(tokens: int, count: int, k: int, seed: int):
    """Whatever is chosen: by nobody, by all, several times, or dropped; no token, one token."""
    torch.manual_seed(seed)
    x, weight = torch.randn(2, tokens, 3, dtype=torch.float64), torch.randn(2, tokens, k, dtype=torch.float64)
    index = torch.randint(0, count + 1, (2, tokens, k))
    experts = [nn.Linear(3, 3).double() for _ in range(count)]
    parts, order = dispatch(x, index, count)
    made = combine([expert(part) for expert, part in zip(experts, parts, strict=True)], order, weight)
    torch.testing.assert_close(made, dense(x, index, weight, experts))


def test_work_grows_with_the_choices_and_not_with_the_experts():
    x = torch.randn(2, 16, 8)

    def flops(experts: int, top: int) -> int:
        module = network("x -> moe(swiglu(16), experts, top)", experts=experts, top=top).module(seed=0)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(x)
        return counter.get_total_flops() - 2 * 2 * 16 * 8 * experts - 2 * experts  # the router and its loss

    assert abs(flops(4, 1) - flops(16, 1)) < 100
    assert abs(flops(8, 3) - 3 * flops(8, 1)) < 100


def test_active_parameters():
    """Of the experts those that a token meets; of all else every one."""
    net = network("x -> moe(swiglu(16), experts, top, shared = mlp(1))", experts=8, top=2)
    expert, gate, shared = 3 * 8 * 16, 8 * 8, 2 * (8 * 8 + 8)
    assert net.params == 8 * expert + gate + shared
    assert net.cost.active_params == 2 * expert + gate + shared


# ---- primitives of routing
TYPE = TensorType((axis("b", symbol("b")), axis("n", symbol("n")), axis("route", 4)))
CHOICES = TensorType((axis("b", symbol("b")), axis("n", symbol("n")), axis("route", 2)), "int")


def choices(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(1))


def test_load_balance():
    index = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1)).topk(2).indices
    check_law(LoadBalance(on="route"), TYPE, (CHOICES, index))
    even = torch.full((1, 4, 4), 0.25, dtype=torch.float64)
    module = check_law(LoadBalance(on="route"), (TYPE, even), (CHOICES, torch.tensor([[[0, 1], [2, 3]] * 2])))
    assert module(even, torch.tensor([[[0, 1], [2, 3]] * 2])).item() == pytest.approx(2)


@pytest.mark.parametrize("capacity", [0.5, 1, 1.25])
def test_limit_load(capacity: float):
    index = choices(4, 3, 7, 2)
    module = check_law(LimitLoad(experts=4, capacity=capacity, on="route"), (CHOICES, index))
    for made, given_ in zip(module(index), index, strict=True):
        kept = [int((made == e).sum()) for e in range(4)]
        limit = -(-int(capacity * 100) * 14 // 400)
        assert kept == [min(limit, int((given_ == e).sum())) for e in range(4)]
        assert bool(((made == given_) | (made == 4)).all())


# ---- what must hold in use
def test_samples_and_heads_do_not_reach_each_other():
    """What is not a number in one token stays in it, with a capacity too."""
    module = network("x -> moe(swiglu(16), experts, top, capacity = 1)").module(seed=0).eval()
    x = torch.randn(3, 6, 8)
    wanted = module(x)
    x[1, 2] = torch.nan
    made = module(x)
    torch.testing.assert_close(made[[0, 2]], wanted[[0, 2]])
    torch.testing.assert_close(made[1, :2], wanted[1, :2])


def test_later_tokens_do_not_change_earlier_ones():
    module = network("x -> moe(swiglu(16), experts, top, capacity = 1)").module(seed=0).eval()
    x = torch.randn(2, 8, 8)
    wanted = module(x)
    x[:, 5:] = torch.randn(2, 3, 8)
    torch.testing.assert_close(module(x)[:, :5], wanted[:, :5])


def test_experts_without_tokens_train():
    """They get gradients of 0, and the same each time."""
    module, x = (
        network("x -> moe(swiglu(16), experts, top)", experts=16, top=1).module(seed=0).train(),
        torch.randn(1, 3, 8),
    )
    gradients = []
    for _ in range(2):
        module.zero_grad()
        module(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert sum(bool((p.grad == 0).all()) for p in module.moe.experts.parameters()) >= 3 * 13


@pytest.mark.parametrize("capacity", ["", ", capacity = 1.25"])
def test_compiles_as_one_graph_and_exports(capacity: str):
    """The number of tokens of an expert is a size that data makes: no graph break, no other compilation."""
    net = network(f"x -> moe(swiglu(16), experts, top{capacity})")
    module, given_ = net.module(seed=0).eval(), [torch.randn(2, n, 8) for n in (5, 5, 9)]
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        exported = torch.export.export(module, (given_[0],), dynamic_shapes=net.dynamic_shapes()).module()
        for x in given_:
            torch.testing.assert_close(compiled(x), module(x))
            torch.testing.assert_close(exported(x), module(x))


def test_training_compiles():
    module, x = network("x -> moe(swiglu(16), experts, top)").module(seed=0).train(), torch.randn(2, 6, 8)
    module(x).square().mean().backward()
    wanted = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    torch._dynamo.reset()
    torch.compile(module, backend="aot_eager", fullgraph=True)(x).square().mean().backward()
    for a, b in zip(wanted, module.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a)
