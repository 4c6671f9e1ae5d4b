"""Blocks that repeat are compiled once for all that are alike."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import archlang

# torch's own, where the compiler looks at an input that has a gradient
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

TEXT = """
block layer(rate: float)(x: [b, n, c]) -> [b, n, c] {
  return x + (x -> layer_norm as norm -> linear(2 * c) as up -> gelu -> linear(c) as down -> drop_path(rate))
}
model net(depth: int = 5) {
  input x: [b, n = 4, c = 8]
  for s in [0, 1] as stages[s] {
    if s > 0 { x = x -> linear(16) as grow }
    repeat depth as blocks[i] { x = x -> layer(rate = 0.01 * (i + 1) + s * 0.1) }
  }
  output y = x
}
"""


def net(text: str = TEXT, **settings: object) -> nn.Module:
    return archlang.loads(text).architecture(None, None, settings).module(seed=0)


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """What was compiled before."""
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize(("train", "count"), [(False, 2), (True, 3)])
def test_alike_blocks_share_their_code(train: bool, count: int) -> None:
    """Ten blocks of two sizes, with ten rates; in training torch takes the first of the rates for a constant."""
    module = net().train(train)
    x = torch.randn(2, 4, 8, requires_grad=True)
    module.compile_blocks(backend="eager", fullgraph=True)
    module(x)
    assert counters["stats"]["unique_graphs"] == count
    module(x)
    assert counters["stats"]["unique_graphs"] == count


def test_results_and_gradients_are_the_same() -> None:
    module, x = net().eval(), torch.randn(2, 4, 8)
    expected = module(x)
    expected.sum().backward()
    gradients = [weight.grad.clone() for weight in module.parameters()]
    module.zero_grad()
    module.compile_blocks(backend="aot_eager", fullgraph=True)
    found = module(x)
    found.sum().backward()
    torch.testing.assert_close(found, expected)
    for weight, gradient in zip(module.parameters(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def test_a_compiled_module_is_the_same_module() -> None:
    """Names, copies and pickles are those of the module as it was."""
    module, x = net().eval(), torch.randn(2, 4, 8)
    names, expected = list(module.state_dict()), module(x)
    module.compile_blocks(backend="eager")
    module(x)
    assert list(module.state_dict()) == names
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), expected)


def test_drop_path_keeps_the_mean() -> None:
    """Whole samples, with the given probability."""
    from archlang.helpers.drop_path import drop_path

    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        kept = drop_path(torch.ones(20_000, 3, dtype=dtype), 0.1, training=True)
        assert kept.dtype == dtype
        assert abs(float((kept[:, 0] > 0).float().mean()) - 0.9) < 0.01
        assert torch.equal(kept[:, :1].expand(-1, 3), kept)
        torch.testing.assert_close(kept.max(), torch.tensor(1 / 0.9, dtype=dtype))


# ---- where it is emitted
def blocks(source: str) -> str:
    """The classes that `compile_blocks` names."""
    return source.partition("if isinstance(module, ")[2].partition("):")[0]


@pytest.mark.parametrize(
    ("example", "variant", "classes"),
    [
        ("maxvit", "tiny", "(SqueezeExcite, Axis, Block, Mbconv2, Block2, Block3)"),
        ("swin", "tiny", "(Block, Block2)"),
        ("vit", None, "Block"),
        ("llama", None, "Layer"),
    ],
)
def test_lists_of_blocks_are_taken_whole(example: str, variant: str | None, classes: str) -> None:
    source = archlang.load(f"examples/{example}.arch").architecture(None, variant).source()
    assert blocks(source) == classes
    assert "from typing import Any\n" in source


def test_few_blocks_are_not_worth_it() -> None:
    source = archlang.loads(TEXT).architecture(None, None, {"depth": 2}).source()
    assert "compile_blocks" not in source
    assert "Any" not in source


def test_a_layer_of_that_name() -> None:
    """Its weights keep their name, and the method its own."""
    module = net(TEXT.replace("as grow", "as compile_blocks")).eval()
    assert "stages.1.compile_blocks.weight" in module.state_dict()
    assert module(torch.randn(2, 4, 8)).shape == (2, 4, 16)
    text = TEXT.replace("output y = x", "output y = x -> linear(3) as compile_blocks")
    module = net(text).eval()
    assert "compile_blocks.weight" in module.state_dict()
    module.compile_blocks(backend="eager")
    assert module(torch.randn(2, 4, 8)).shape == (2, 4, 3)
