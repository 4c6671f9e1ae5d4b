"""The names of the source are the weights, always: what a network was trained as, saved by a published map, loads into every
other form of it.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

import archlang
from archlang.passes import PIPELINE
from tests.test_examples import CORE, TOYS, inputs, network
from tests.toys import Toy

EVERY = tuple(pass_.name for pass_ in PIPELINE)
MAPPED = [toy for toy in TOYS if network(toy.name).maps]
PRECISION = 1e-5  # of the largest output, in float32, after other orders of sums in every layer
mapped = pytest.mark.parametrize(
    "toy", [pytest.param(toy, marks=() if toy.name in CORE else pytest.mark.slow, id=toy.name) for toy in MAPPED]
)


def trained(toy: Toy) -> nn.Module:
    """A module after three steps, which also move the statistics of its batch norms."""
    module = network(toy.name).module(seed=0).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
    torch.manual_seed(1)
    for _ in range(3):
        made = module(*inputs(toy))
        results = [*(made if isinstance(made, tuple) else (made,)), *getattr(module, "losses", {}).values()]
        loss = torch.stack([result.square().mean() for result in results if result.is_floating_point()]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    return module.eval()


def outputs(module: nn.Module, toy: Toy) -> list[torch.Tensor]:
    with torch.no_grad():
        made = module(*inputs(toy))
    return list(made) if isinstance(made, tuple) else [made]


@mapped
def test_every_form_has_the_same_weights(toy: Toy, tmp_path: Path):
    """Trained optimised; saved by the map; loaded as it is written, and for inference; and back."""
    map_, source = network(toy.name).maps[0], trained(toy)
    archlang.save_weights(source, tmp_path / "trained.safetensors", map=map_)
    forms = {
        "unoptimised": network(toy.name).module(seed=3, disable=EVERY).eval(),
        "inference": network(toy.name).module(seed=4, purpose="inference"),
    }
    for name, module in forms.items():
        assert list(module.state_dict()) == list(source.state_dict()), name
        archlang.load_weights(module, tmp_path / "trained.safetensors", map=map_)
        for made, meant in zip(outputs(module, toy), outputs(source, toy), strict=True):
            scale = float(meant.abs().max()) if meant.is_floating_point() else 0.0
            torch.testing.assert_close(made, meant, rtol=0, atol=PRECISION * scale)
        archlang.save_weights(module, tmp_path / f"{name}.safetensors", map=map_)
        back = (tmp_path / f"{name}.safetensors").read_bytes()
        assert back == (tmp_path / "trained.safetensors").read_bytes(), f"{name} saves other weights"
