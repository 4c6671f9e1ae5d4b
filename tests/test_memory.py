"""The estimate of the peak of memory against every allocation of torch, and training within a budget."""

from pathlib import Path
from typing import Any

import pytest
import torch

import archlang
from archlang.testing.memory import inference_peak, training_peak
from archlang.testing.networks import random_inputs
from tests.toys import Toy, all_toys

EXAMPLES = Path(__file__).parents[1] / "examples"
TOYS = {toy.name: toy for toy in all_toys()}
BOUND = 0.15
LOOSE = {"graph_gps": 0.2}  # what a fused kernel of attention works in, for each thread: small beside all but a toy
ENOUGH = 1_500_000  # bytes, so that the values of one operation do not decide
CORE = """maxvit convnext swin mobilenet_v2 vit llama mixtral dinat xcit lsnet kat mlp_mixer swin_v2 gated_delta_net
mamba2 retnet""".split()


@pytest.fixture(autouse=True)
def two_threads():
    """As benchmarks run: one thread takes other kernels for some convolutions."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def network(toy: Toy) -> Any:
    return archlang.load(EXAMPLES / f"{toy.file}.arch").architecture(toy.model, toy.variant, toy.settings)


def large_enough(toy: Toy, made: Any) -> dict[str, int]:
    """Sizes of some megabytes: more samples, and sequences of one chunk at least."""
    sizes = dict(toy.sizes[0]) | ({"t": 64} if "t" in toy.sizes[0] else {})
    growing = [*sizes] if "e" in sizes else [next(name for name in ("b", *sizes) if name in sizes)]  # graphs in all
    while made.memory.at(sizes).training < ENOUGH:
        sizes |= {name: 2 * sizes[name] for name in growing}
    return sizes


def tensors(made: Any, sizes: dict[str, int]) -> list[torch.Tensor]:
    return [x.float() if x.is_floating_point() else x for x in random_inputs(made, sizes).values()]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in CORE else pytest.mark.slow) for name in sorted(TOYS)]
)
def test_estimates_what_torch_allocates(name: str):
    made = network(TOYS[name])
    sizes = large_enough(TOYS[name], made)
    module, given, estimate = made.module(seed=0), tensors(made, sizes), made.memory.at(sizes)
    for what, meant, found in (
        ("inference", estimate.inference, inference_peak(module, given)),
        ("training", estimate.training, training_peak(module, given)),
    ):
        assert abs(meant / found - 1) < LOOSE.get(name, BOUND), f"{what}: {int(meant)} estimated, {found} measured"


def test_expectations_are_of_the_estimate():
    text = "model net { input x: [b, c = 8]\n output y = x -> linear(8) as fc -> gelu\n expect %s }"
    memory = archlang.loads(text % "params == 72").net().memory.at({"b": 3})
    for name, held in (("inference", memory.inference), ("training", memory.training)):
        assert archlang.loads(text % f"{name}_bytes == {held} at b = 3").check() == []
        (wrong,) = archlang.loads(text % f"{name}_bytes < {held} at b = 3").check()
        assert wrong.labels[0].text == f"{name}_bytes = {held:,}"
