"""Constants are made once in a forward pass, and hold under all that is done to a module."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import archlang
from archlang.compile import Architecture
from archlang.emit import load
from archlang.ir import Call, Graph
from archlang.passes import Options, constants
from archlang.primitives.position_rotary import Turn
from archlang.shapes import Axis, TensorType, axis
from archlang.testing.interpret import run as interpret
from archlang.testing.laws import check_law
from archlang.testing.networks import check_network
from archlang.testing.rewriting import check_passes

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
SHARED = """\
block layer(heads: int, near: position, far: position)(x: [b, t, c]) -> [b, t, c] {
  qkv = x -> linear([part = 3, heads, c = c / heads], bias = false) as qkv
  one = attend(qkv[part = 0], qkv[part = 1], qkv[part = 2], position = near)
  other = attend(qkv[part = 0], qkv[part = 1], qkv[part = 2], position = far)
  return x + ((one + other) -> linear([c], on = [heads, c], bias = false) as proj)
}
model net() {
  input tokens: int[b, t]
  x = tokens -> embedding(20, 8) as embed
  near, far = alibi, t5_buckets(buckets = 8, distance = 6)
  repeat 3 as layers[i] { x = x -> layer(2, near, far) }
  output y: [b, t, v = 5] = x -> linear([v = 5]) as head
}
"""
LLAMA = {"vocab": 20, "dim": 16, "depth": 3, "heads": 4, "kv_heads": 2, "hidden": 24}
VIT = {"dim": 16, "depth": 2, "heads": 2, "resolution": 48, "classes": 3}
SWIN = {"dim": 8, "depths": [2, 2], "heads": [2, 2], "window": 4, "resolution": 32, "classes": 3}
DINAT = {"dim": 8, "depths": [2, 2], "farthest": [2, 1], "head_dim": 4, "kernel": 3, "resolution": 32, "classes": 3}
NETWORKS: dict[str, tuple[str, dict[str, Any], Callable[[], torch.Tensor]]] = {
    "llama": ("llama", LLAMA, lambda: torch.randint(20, (2, 7))),
    "shared": (SHARED, {}, lambda: torch.randint(20, (2, 7))),
    "rope_vit": ("rope_vit", VIT, lambda: torch.randn(2, 3, 48, 48)),
    "swin": ("swin", SWIN, lambda: torch.randn(2, 3, 32, 32)),
    "dinat": ("dinat", DINAT, lambda: torch.randn(2, 3, 32, 32)),
    "maxvit": (
        "maxvit",
        {"dims": [32, 32], "depths": [1, 1], "stem": 8, "resolution": 64, "head_dim": 16},
        lambda: torch.randn(2, 3, 64, 64),
    ),
}
every = pytest.mark.parametrize("name", NETWORKS)


def network(name: str) -> Architecture:
    file, settings, _ = NETWORKS[name]
    program = archlang.loads(file) if "\n" in file else archlang.load(f"examples/{file}.arch")
    return program.architecture(None, None, settings)


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
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None and a.shape == (8, 2):  # of the shared table, a sum over blocks in another order
            assert (a.grad - b.grad).abs().max() <= 4 * torch.finfo(dtype).eps * b.grad.abs().max()
        elif a.grad is not None:
            assert torch.equal(a.grad, b.grad)
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


@pytest.mark.parametrize(("disable", "times"), [([], 1), (["constants"], 3)])
def test_biases_are_made_once_in_a_pass(disable: list[str], times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, rows = made("shared", disable=disable), list[int]()
    found = calls(module, monkeypatch, "alibi")
    module.far.register_forward_hook(lambda *_: rows.append(1))
    module(given("shared"))
    assert (len(found), len(rows)) == (times, times)


def test_tiles_of_a_known_map_are_made_before_any_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    module = made("dinat")
    found = calls(module, monkeypatch, "neighbor_span")
    module(given("dinat"))
    assert not found
    assert not any("attend" in path for path in module.state_dict())


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
        module(x)
    assert torch.equal(used(module, x), used(made(name), x))


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


@pytest.mark.parametrize(
    "name", ["llama", "shared", *(pytest.param(n, marks=pytest.mark.slow) for n in ("rope_vit", "swin", "dinat"))]
)
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


def test_layers_that_are_not_shared_stay_where_they_are() -> None:
    """A table of each block, and one that a single call borrows."""
    own = SHARED.replace("position = far", "position = t5_buckets").replace("far: position", "far: position? = none")
    graph = optimised(
        own.replace(", far)", ")").replace("near, far = alibi, t5_buckets(buckets = 8, distance = 6)", "near = alibi")
    )
    assert found(graph, "t5_buckets") == ["layer"] * 3
    alone = optimised(SHARED.replace("repeat 3", "repeat 1"))
    assert found(alone, "bias") == []
    assert alone.text().count("with {") == 1


def test_a_table_that_blocks_inside_a_block_share_is_made_there() -> None:
    text = SHARED.replace("model net() {", "block stage()(x: [b, t, c]) -> [b, t, c] {")
    text = text.replace("  input tokens: int[b, t]\n  x = tokens -> embedding(20, 8) as embed\n", "")
    text = text.replace("  output y: [b, t, v = 5] = x -> linear([v = 5]) as head\n", "  return x\n")
    text += "model net { input x: [b, t, c = 8]\n repeat 2 as stages[i] { x = x -> stage }\n output y = x }\n"
    graph = optimised(text)
    assert sorted(found(graph, "bias")) == ["net", "stage", "stage"]
    check_network(archlang.loads(text).net(), {"b": 2, "t": 4})


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


# ---- the law
POSITIONS = ["near", "far", "wide", "rope", "alibi", "t5_buckets(buckets = 4, distance = 3)", "none"]


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Blocks in blocks that share some of their tables with others, and have others of their own."""
    first, second = draw(st.sampled_from(POSITIONS)), draw(st.sampled_from(POSITIONS))
    counts = [draw(st.integers(1, 2)) for _ in range(3)]
    beside = draw(st.sampled_from(["near", "far", "alibi"]))
    return f"""
block layer(near: position, far: position, wide: position)(x: [b, n, c]) -> [b, n, c] {{
  q = x -> rms_norm as norm -> linear([heads = 2, c = 4]) as q
  o = attend(q, q, q, position = {first}) + attend(q, q, q, over = causal, position = {second})
  return x + (o -> linear([c], on = [heads, c]) as proj)
}}
block stage(near: position, wide: position)(x: [b, n, c]) -> [b, n, c] {{
  far = t5_buckets(buckets = 4, distance = 3)
  repeat {counts[0]} as layers[i] {{ x = x -> layer(near, far, wide) }}
  repeat {counts[1]} as swapped[i] {{ x = x -> layer(far, near, wide) }}
  return x
}}
model net {{
  input x: [b, n, c = 8]
  near, far, wide = t5_buckets(buckets = 8, distance = 6), t5_buckets(buckets = 8, distance = 6), alibi
  repeat {counts[2]} as stages[i] {{ x = x -> stage(near, wide) }}
  x = x -> layer(near, far, wide) as last
  q = x -> linear([heads = 2, c = 4]) as q
  output y = attend(q, q, q, position = {beside})
}}
"""


def check_meaning(text: str) -> None:
    architecture = archlang.loads(text).net()
    check_passes(architecture, {"b": 2, "n": 5}, Options())
    check_network(architecture, {"b": 2, "n": 5})


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@drawn(programs())
def test_random_blocks_keep_their_meaning(text: str) -> None:
    check_meaning(text)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@drawn(programs())
def test_many_random_blocks_keep_their_meaning(text: str) -> None:
    check_meaning(text)


def test_a_table_of_another_layer_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: blocks that borrow different tables are all given the first."""
    outside = constants.Constant.outside

    def first(constant: constants.Constant, call: Call) -> constants.Constant:
        known = outside(constant, call)
        return replace(known, label="near") if known.label == "far" else known

    text = SHARED.replace("near, far = alibi,", "near, far = t5_buckets(buckets = 8, distance = 6),")
    check_passes(archlang.loads(text).net(), {"b": 2, "t": 5}, Options())
    monkeypatch.setattr(constants.Constant, "outside", first)
    with pytest.raises(AssertionError, match="constants"):
        check_passes(archlang.loads(text).net(), {"b": 2, "t": 5}, Options())


@pytest.mark.parametrize("interleaved", [False, True])
def test_turn(interleaved: bool) -> None:
    pairs = (Axis("*part", 2, "free"), Axis("*pair", 2, "free"))
    x = TensorType((axis("b", 2), axis("n", 3), axis("heads", 2), axis("c", 6)))
    check_law(Turn(on=("n",), interleaved=interleaved), x, TensorType((pairs[0], axis("n", 3), pairs[1])))
    x = TensorType((axis("b", 2), axis("h", 3), axis("w", 2), axis("c", 4)))
    check_law(Turn(on=("w", "h")), x, TensorType((pairs[0], axis("w", 2), axis("h", 3), pairs[1])))
