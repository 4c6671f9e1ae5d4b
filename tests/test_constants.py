"""Constants are made once in a forward pass, and hold under all that is done to a module."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import archlang
from archlang.compile import Architecture
from archlang.emit import load
from archlang.ir import Call, Graph
from archlang.passes import Options
from archlang.primitives.position_rotary import Turn
from archlang.shapes import Axis, TensorType, axis
from archlang.testing.interpret import run as interpret
from archlang.testing.laws import check_law

BLOCK = """\
block layer(heads: int)(x: [b, t, c]) -> [b, t, c] {
  qkv = x -> linear([part = 3, heads, c = c / heads], bias = false) as qkv
  o = attend(qkv[part = 0], qkv[part = 1], qkv[part = 2], over = causal, position = rope)
  return x + (o -> linear([c], on = [heads, c], bias = false) as proj)
}
"""
DECODER = (
    BLOCK
    + """\
model net(depth: int = 3) {
  input tokens: int[b, t]
  x = tokens -> embedding(11, 8) as embed
  repeat depth as layers[i] { x = x -> layer(heads = 2) }
  output y: [b, t, v = 5] = x -> linear([v = 5]) as head
}
"""
)
LLAMA = {"vocab": 20, "dim": 16, "depth": 3, "heads": 4, "kv_heads": 2, "hidden": 24}
VIT = {"dim": 16, "depth": 2, "heads": 2, "resolution": 48, "classes": 3}
SWIN = {"dim": 8, "depths": [2, 2], "heads": [2, 2], "window": 4, "resolution": 32, "classes": 3}
NETWORKS: dict[str, tuple[str, dict[str, Any], Callable[[], torch.Tensor]]] = {
    "llama": ("llama", LLAMA, lambda: torch.randint(20, (2, 7))),
    "rope_vit": ("rope_vit", VIT, lambda: torch.randn(2, 3, 48, 48)),
    "swin": ("swin", SWIN, lambda: torch.randn(2, 3, 32, 32)),
    "maxvit": (
        "maxvit",
        {"dims": [32, 32], "depths": [1, 1], "stem": 8, "resolution": 64, "head_dim": 16},
        lambda: torch.randn(2, 3, 64, 64),
    ),
}
every = pytest.mark.parametrize("name", NETWORKS)


def network(name: str) -> Architecture:
    file, settings, _ = NETWORKS[name]
    return archlang.load(f"examples/{file}.arch").architecture(None, None, settings)


def made(name: str, **options: Any) -> nn.Module:
    """The module, with the same weights whatever the options."""
    architecture = network(name)
    torch.manual_seed(0)
    module: nn.Module = load(architecture.source(**options), architecture.class_name)().eval()
    return module


def given(name: str) -> torch.Tensor:
    torch.manual_seed(1)
    return NETWORKS[name][2]()


def calls(module: nn.Module, monkeypatch: pytest.MonkeyPatch, function: str = "rotary_turns") -> list[tuple[Any, ...]]:
    """The calls of a helper from now on."""
    import sys

    found: list[tuple[Any, ...]] = []
    home = sys.modules[type(module).__module__]
    helper = getattr(home, function)
    monkeypatch.setattr(home, function, lambda *args, **named: (found.append(args), helper(*args, **named))[1])
    return found


# ---- once
@pytest.mark.parametrize("name", ["llama", "rope_vit"])
def test_turns_are_made_once_in_a_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = made(name), given(name)
    found = calls(module, monkeypatch)
    module(x)
    assert len(found) == 1
    module(x)
    assert len(found) == 2  # nothing is kept


def test_without_the_pass_each_block_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    module = made("llama", disable=["constants"])
    found = calls(module, monkeypatch)
    module(given("llama"))
    assert len(found) == 6


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_values_and_gradients_are_the_same_to_the_bit(name: str, dtype: torch.dtype) -> None:
    x = given(name)
    x = x.to(dtype) if x.is_floating_point() else x
    plain, once = (made(name, disable=disable).to(dtype) for disable in (["constants"], []))
    results = [module(x) for module in (plain, once)]
    assert torch.equal(*results)
    for result in results:
        result.float().square().mean().backward()
    for a, b in zip(plain.parameters(), once.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad) if a.grad is not None else b.grad is None
    assert list(plain.state_dict()) == list(once.state_dict())


@every
def test_the_meaning_is_the_same(name: str) -> None:
    architecture, x = network(name), given(name)
    weights = {path: tensor.double() for path, tensor in made(name).state_dict().items()}
    (port,) = architecture.inputs
    inputs = {port: x.double() if x.is_floating_point() else x}
    graphs = (architecture.graph, architecture.optimised(Options()).graph)
    for found in zip(*(interpret(graph, inputs, weights).values() for graph in graphs), strict=True):
        torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


# ---- whatever is done to a module
def used(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Its result in training, with a backward pass."""
    result: torch.Tensor = module(x)
    result.float().sum().backward()
    module.zero_grad()
    return result.detach()


@every
def test_copies_and_pickles(name: str) -> None:
    module, x = network(name).module(seed=0).eval(), given(name)
    expected = used(module, x)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(used(other, x), expected)
    assert torch.equal(used(module, x), expected)


@every
def test_moves_and_casts_after_use(name: str) -> None:
    """As if the module had always been there: nothing stays behind."""
    x = given(name)
    module = made(name)
    used(module, x)
    moved = module.double()
    fresh = made(name).double()
    wide = x.double() if x.is_floating_point() else x
    assert torch.equal(used(moved, wide), used(fresh, wide))
    there = module.to("meta")
    assert there(wide.to("meta")).device.type == "meta"


@every
def test_nothing_waits_for_the_device_or_copies_to_it(name: str) -> None:
    """As the capture of a CUDA graph wants it: no number is read back, and none is brought from the host."""
    module, x = made(name), given(name)
    seen: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watch(), torch.no_grad():
        module(x)
    assert not seen & {"_local_scalar_dense", "item", "nonzero", "lift_fresh", "lift_fresh_copy", "is_nonzero"}


@every
def test_inference_mode_then_training(name: str) -> None:
    module, x = made(name), given(name)
    with torch.inference_mode():
        first = module(x)
    assert torch.equal(used(module, x), first)


@every
def test_fake_tensors_then_real_ones(name: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    module, x = made(name), given(name)
    expected = used(module, x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert module(mode.from_tensor(x)).shape == expected.shape
    assert torch.equal(used(module, x), expected)


@every
def test_function_transforms(name: str) -> None:
    module, x = made(name), given(name)
    weights = dict(module.named_parameters())
    expected = used(module, x)

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(module, weights, (x,))
        return result.sum()

    gradients = torch.func.grad(loss)({key: weight.detach() for key, weight in weights.items()})
    assert set(gradients) == set(weights)
    assert torch.equal(used(module, x), expected)


@pytest.mark.parametrize("name", ["llama", *(pytest.param(n, marks=pytest.mark.slow) for n in ("rope_vit", "swin"))])
def test_export_and_compile(name: str) -> None:
    module, x = made(name), given(name)
    expected = module(x)
    exported = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(exported(x), expected)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    assert torch.equal(used(module, x), expected.detach())


def test_other_lengths_have_other_turns() -> None:
    once, plain = made("llama"), made("llama", disable=["constants"])
    for length in (1, 5, 9, 5):
        x = torch.randint(20, (1, length))
        assert torch.equal(once(x), plain(x))


@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides")  # of speed, not of results
@every
def test_data_parallel(name: str, tmp_path: Any) -> None:
    import torch.distributed as dist

    module, x = made(name), given(name)
    expected = used(module, x)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert torch.equal(used(nn.parallel.DistributedDataParallel(module), x), expected)
    finally:
        dist.destroy_process_group()


# ---- the pass
def found(graph: Graph, name: str) -> list[str]:
    """The graphs that hold an operation, as often as they hold it."""
    inner = [place for node in graph if isinstance(node.op, Call) for place in found(node.op.graph, name)]
    return [graph.name for node in graph if node.op.name == name] + inner


def optimised(text: str, **settings: Any) -> Graph:
    return archlang.loads(text).architecture(None, None, settings).optimised(Options()).graph


def test_the_model_makes_them_and_blocks_are_told() -> None:
    graph = optimised(DECODER)
    graph.verify()
    assert found(graph, "turns") == ["net"]
    assert found(graph, "turn") == ["layer"] * 6
    text = archlang.loads(DECODER).architecture().source()
    assert "def forward(self, x: torch.Tensor, turns: torch.Tensor)" in text
    assert "x = layer(x, turns)" in text


def test_a_block_that_runs_once_makes_its_own() -> None:
    """For both of its operations."""
    graph = optimised(DECODER, depth=1)
    assert found(graph, "turns") == ["layer"]
    text = archlang.loads(DECODER).architecture(None, None, {"depth": 1}).source()
    assert text.count(" rotary_turns(") == 2  # its definition, and one call


def test_blocks_with_turns_of_their_own_stay_one_class() -> None:
    """Each stage has its length, and all have one input for it."""
    text = """
model net {
  input x: [b, t = 16, c = 8]
  for s in [0, 1] as stages[s] {
    if s > 0 { x = x -> avg_pool(2) }
    repeat 2 as blocks[i] { x = x -> layer(heads = 2) }
  }
  output y = x
}
""".replace("t = 16", "n = 16")
    source = archlang.loads(BLOCK.replace("t,", "n,").replace("over = causal, ", "") + text).architecture().source()
    assert source.count("class Layer") == 1
    assert source.count("= rotary_turns(") == 2


def test_an_input_of_that_name() -> None:
    text = DECODER.replace("input tokens: int[b, t]", "input tokens: int[b, t]\n  input turns: [b, t, c = 8]")
    text = text.replace("as embed\n", "as embed\n  x = x + turns\n")
    graph = optimised(text)
    graph.verify()
    module = archlang.loads(text).architecture().module(seed=0)
    assert module(torch.randint(11, (2, 4)), torch.randn(2, 4, 8)).shape == (2, 4, 5)


def test_explain_says_so() -> None:
    assert "constants_once" in archlang.loads(DECODER).architecture().explain()


@pytest.mark.parametrize("interleaved", [False, True])
def test_turn(interleaved: bool) -> None:
    pairs = (Axis("*part", 2, "free"), Axis("*pair", 2, "free"))
    x = TensorType((axis("b", 2), axis("n", 3), axis("heads", 2), axis("c", 6)))
    check_law(Turn(on=("n",), interleaved=interleaved), x, TensorType((pairs[0], axis("n", 3), pairs[1])))
    x = TensorType((axis("b", 2), axis("h", 3), axis("w", 2), axis("c", 4)))
    check_law(Turn(on=("w", "h")), x, TensorType((pairs[0], axis("w", 2), axis("h", 3), pairs[1])))
