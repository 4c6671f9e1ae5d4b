"""Auxiliary losses and early exits: what a network gives in training, and where its samples leave it."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import archlang
from archlang.testing.networks import check_network

EXAMPLES = Path(__file__).parents[1] / "examples"
NESTED = """
block layer(width: int)(x: [b, n, c]) -> [b, n, c] {
  y = x -> linear(width) as up -> relu
  loss sparse = mean(abs(y), on = [b, n, c])
  return x + (y -> linear(c) as down)
}
model net {
  input x: [b, n, c = 8]
  repeat 3 as layers[i] { x = x -> layer(16) }
  shared = layer(4)
  y = shared(shared(x))
  loss size = mean(square(y), on = [b, n, c])
  output y = y
}
"""


def nested() -> Any:
    return archlang.loads(NESTED).architecture()


def test_losses_are_collected_from_loops_blocks_and_shared_layers():
    """One value for each place, in order; equal to their meaning with all gradients."""
    module = check_network(nested(), {"b": 2, "n": 5})
    assert {name: len(values) for name, values in module.losses.items()} == {"sparse": 5, "size": 1}


IN_SCANS = """
use std.ffn: mlp
use std.moe: moe

block cell(dim: int)(x: [b, c], s: [b, c = dim]) -> [b, c = dim] {
  y = tanh(s + (x -> linear(dim) as into))
  loss small = mean(square(y), on = [b, c])
  return y
}
model net {
  input x: [b, t, c = 8]
  input image: [b, h = 2, w = 3, c = 4]
  output y = scan t carry s: [b, c = 8] = 0 {
    s = cell(x, s, dim = 8)
    s = s + (s -> moe(mlp(2), experts = 3, top = 2) as ffn)
    loss size = mean(abs(s), on = [b, c])
    yield s
  }
  output z = scan snake(h, w) carry s: [b, c = 4] = 0 {
    s = s + image
    loss size = mean(square(s), on = [b, c])
    yield s
  }
}
"""


def test_losses_of_scans_are_means_over_their_positions():
    """Of a loop with experts in its body, and of a scan that becomes a cumulative sum along a path."""
    module = check_network(archlang.loads(IN_SCANS).architecture(), {"b": 2, "t": 3})
    counts = {name: len(values) for name, values in module.losses.items()}
    assert counts == {"small": 1, "balance": 1, "z": 1, "size": 2}
    image, s, sizes = torch.randn(2, 2, 3, 4), torch.zeros(2, 4), []
    for h, w in ((0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)):
        s = s + image[:, h, w]
        sizes.append(s.square().mean())
    module.float().train()(torch.randn(2, 3, 8), image)
    torch.testing.assert_close(module.losses["size"][1], torch.stack(sizes).mean())


def test_losses_are_of_training():
    module, x = nested().module(seed=0).eval(), torch.randn(2, 5, 8)
    y = module(x)
    assert isinstance(y, torch.Tensor)
    assert module.losses == {}
    assert torch.equal(module.train()(x), y)
    assert module.losses.keys() == {"sparse", "size"}
    sum(loss.sum() for loss in module.losses.values()).backward()
    assert all(p.grad is not None for name, p in module.named_parameters() if "up" in name)


def test_copies_and_files_go_without_losses():
    module = nested().module(seed=0).train()
    module(torch.randn(2, 5, 8))
    assert copy.deepcopy(module).losses == {}
    torch.save(module.state_dict(), file := io.BytesIO())
    assert not any("losses" in key for key in torch.load(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_losses_compile_as_one_graph(backend: str):
    module, x = nested().module(seed=0).train(), torch.randn(2, 5, 8)
    module(x)
    wanted = dict(module.losses)
    torch._dynamo.reset()
    torch.compile(module, backend=backend, fullgraph=True)(x)
    for name, loss in wanted.items():
        torch.testing.assert_close(module.losses[name], loss)


# ---- exits
def branchy(threshold: float) -> Any:
    small = {"dims": [4, 4, 8], "depth": 1, "classes": 5, "resolution": 16, "threshold": threshold}
    return archlang.load(EXAMPLES / "branchy_resnet.arch").architecture(settings=small)


def flops(module: Any, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    return counter.get_total_flops()


def surprise(logits: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(logits.softmax(-1)).sum(-1)


def test_each_sample_leaves_by_its_first_exit():
    """Samples that leave early and late in one batch."""
    x = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    module = branchy(0.11).module(seed=0).eval()
    for stage, scale in zip(module.stages, (20, 200), strict=False):
        stage.branch.head.weight.data.normal_(0, scale, generator=torch.Generator().manual_seed(2))
    module.training = True  # of the model alone: statistics of norms stay as they are
    logits, early, later = module(x)
    module.eval()
    leaves = [surprise(guess) < 0.11 for guess in (early, later)]
    assert 0 < leaves[0].sum() < len(x)
    assert (leaves[1] & ~leaves[0]).any()
    wanted = torch.where(leaves[0][:, None], early, torch.where(leaves[1][:, None], later, logits))
    torch.testing.assert_close(module(x), wanted)


def test_work_ends_where_the_whole_batch_has_left():
    x = torch.randn(4, 3, 16, 16)
    whole, first = flops(branchy(0).module(seed=0).eval(), x), flops(branchy(9).module(seed=0).eval(), x)
    assert whole == 4 * branchy(0).flops
    assert first < 0.8 * whole
    assert flops(branchy(9).module(seed=0).train(), x) == whole


def test_compiled_and_exported_networks_go_to_the_end():
    """Equal results, without a branch on data."""
    module, x = branchy(9).module(seed=0).eval(), torch.randn(4, 3, 16, 16)
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(module, backend="eager", fullgraph=True)(x), module(x))
        exported = torch.export.export(module, (x,), dynamic_shapes=branchy(9).dynamic_shapes()).module()
        torch.testing.assert_close(exported(x[:3]), module(x[:3]))


def test_samples_do_not_reach_each_other():
    """What is not a number in one sample leaves the others alone."""
    module, x = branchy(1.5).module(seed=0).eval(), torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        wanted = module(x)
        x[1] = torch.nan
        torch.testing.assert_close(module(x)[[0, 2, 3]], wanted[[0, 2, 3]])
