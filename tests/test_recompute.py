"""Training within a budget of memory: the same gradients and statistics, and no more bytes than allowed."""

from pathlib import Path
from typing import Any

import pytest
import torch

import archlang
from archlang.analysis.memory import estimate
from archlang.diagnostics import ArchError
from archlang.passes import Budget, Options
from archlang.testing.memory import training_peak
from archlang.testing.networks import random_inputs
from tests.toys import all_toys

EXAMPLES = Path(__file__).parents[1] / "examples"
TOYS = {toy.name: toy for toy in all_toys()}
SIZES = {"vit": {"b": 32}, "maxvit": {"b": 4}, "mobilenet_v2": {"b": 16}, "mixtral": {"b": 8, "t": 64}}
SLOW = {"maxvit"}
DEEP = {"vit": {"depth": 6}}


def network(name: str, **more: Any) -> Any:
    toy = TOYS[name]
    settings = toy.settings | DEEP.get(name, {}) | more
    return archlang.load(EXAMPLES / f"{toy.file}.arch").architecture(toy.model, toy.variant, settings)


def tensors(made: Any, sizes: dict[str, int]) -> list[torch.Tensor]:
    return [x.float() if x.is_floating_point() else x for x in random_inputs(made, sizes).values()]


def halfway(made: Any, sizes: dict[str, int]) -> int:
    """A budget between the least that is possible and what is held without one."""
    whole = made.memory.at(sizes).training
    with pytest.raises(ArchError) as refused:
        made.source(memory=int(whole) // 100, at=sizes)
    (found,) = refused.value.diagnostics
    assert found.code == "A817"
    least = float(found.help.split()[0]) * {"KiB": 2**10, "MiB": 2**20}[found.help.split()[1]]
    return int((least + whole) / 2)


def step(module: torch.nn.Module, given: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Results, losses, gradients and buffers after one step of training, with noise from one seed."""
    torch.manual_seed(3)
    made = module.train()(*given)
    results = {f"result {i}": x for i, x in enumerate([made] if isinstance(made, torch.Tensor) else made)}
    results |= {f"loss {name}": x for name, x in getattr(module, "losses", {}).items()}
    torch.stack([result.square().mean() for result in results.values()]).sum().backward()
    gradients = {f"gradient {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    return results | gradients | dict(module.named_buffers())


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(SIZES)]
)
def test_trains_the_same_in_less_memory(name: str):
    """Dropped paths, batch statistics, losses of experts and all."""
    made, sizes = network(name), SIZES[name]
    budget, given = halfway(made, sizes), tensors(made, sizes)
    plain, careful = made.module(seed=0), made.module(seed=0, memory=budget, at=sizes)
    assert list(plain.state_dict()) == list(careful.state_dict())
    meant, found = step(plain, given), step(careful, given)
    assert meant.keys() == found.keys()
    for what, value in meant.items():
        torch.testing.assert_close(
            found[what], value, rtol=1e-5, atol=1e-6, msg=lambda text, what=what: f"{what}: {text}"
        )
    options = Options(budget=Budget(budget, tuple(sorted(sizes.items()))))
    meant_peak = estimate(made.optimised(options).graph).at(sizes).training
    measured = training_peak(careful, given)
    assert meant_peak <= budget
    assert measured <= budget * 1.05, f"{measured} bytes measured, {budget} allowed"
    assert measured < training_peak(plain, given)


def test_only_training_makes_again():
    made, sizes = network("vit"), SIZES["vit"]
    module = made.module(seed=0, memory=halfway(made, sizes), at=sizes).eval()
    calls = []
    module.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    (made_,) = [module(*tensors(made, sizes))]
    made_.sum().backward()
    assert len(calls) == 1


def test_the_first_few_of_a_loop():
    made, sizes = network("vit"), SIZES["vit"]
    text = made.source(memory=halfway(made, sizes), at=sizes)
    assert (
        "for i, block in enumerate(self.blocks):\n            x = recompute(block, x, when=self.training and i < "
        in text
    )
    assert "recompute" not in made.source(memory="1GiB", at=sizes)


def test_a_lent_layer_is_made_again():
    text = """
block twice(f: layer)(x: [b, n, c]) -> [b, n, c] {
  return x + (x -> f -> gelu -> linear(c) -> gelu -> f)
}
model net {
  input x: [b, n = 32, c = 16]
  shared = linear(16)
  y = x
  repeat 4 as blocks[i] { y = y -> twice(shared) }
  output made = y
}
"""
    made, sizes = archlang.loads(text).net(), {"b": 64}
    budget, given = halfway(made, sizes), tensors(made, sizes)
    meant, found = step(made.module(seed=0), given), step(made.module(seed=0, memory=budget, at=sizes), given)
    for what, value in meant.items():
        torch.testing.assert_close(found[what], value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiles_as_one_graph():
    """What is made again stays so: the compiler is told, and does it."""
    made, sizes = network("vit", depth=3), SIZES["vit"]
    module, given = made.module(seed=0, memory=halfway(made, sizes), at=sizes), tensors(made, sizes)
    torch._dynamo.reset()
    compiled = torch.compile(module.train(), backend="aot_eager", fullgraph=True)
    meant = step(made.module(seed=0), given)
    result = compiled(*given)
    result.square().mean().backward()
    torch.testing.assert_close(result, meant["result 0"], rtol=1e-4, atol=1e-5)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, meant[f"gradient {name}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("memory", "at", "title"),
    [
        ("8 parsecs", {"b": 2}, "`8 parsecs` is no amount of memory"),
        ("9" * 20 + "GiB", {"b": 2}, f"`{'9' * 20}GiB` is no amount of memory"),
        ("8GiB", {}, "the memory of the network depends on `b`"),
        ("8GiB", {"b": 2, "t": 4}, "the network has no free size `t`"),
        ("8GiB", {"b": 0}, "`b` must be a whole number from 1, and is 0"),
        (None, {"b": 2}, "sizes are given for a budget of memory, and there is none"),
    ],
)
def test_refuses(memory: Any, at: dict[str, int], title: str):
    with pytest.raises(ArchError) as refused:
        network("vit").source(memory=memory, at=at)
    assert (refused.value.diagnostics[0].code, refused.value.diagnostics[0].title) == ("A901", title)


def test_inference_has_no_budget():
    with pytest.raises(ArchError, match="a budget of memory is for training"):
        network("vit").source(purpose="inference", memory="8GiB", at={"b": 1})
