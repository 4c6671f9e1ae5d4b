"""What parity tests share: weights copied through a map, and results and gradients compared."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import archlang
from archlang.checkpoint import Key, WeightMap
from archlang.source import BUILTIN

EXAMPLES = Path(__file__).parents[2] / "examples"
TOLERANCE = 1e-5  # relative, evaluation in float32
GRADIENTS = 1e-4  # relative, training in float32
EXACT = 1e-9  # relative, in float64
ROUNDING = 1e-6  # of the largest gradient: what is left of one that is 0, as of a bias before a batch norm


def load(file: str, model: str | None = None, variant: str | None = None, **settings: Any) -> Any:
    return archlang.load(EXAMPLES / file).architecture(model, variant, settings)


def published(peer: nn.Module) -> dict[str, Tensor]:
    """The weights by the names of published checkpoints, which transformers gives them only in files."""
    if not hasattr(peer, "save_pretrained"):
        return peer.state_dict()
    with TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def copied(network: Any, peer: nn.Module, weights: WeightMap) -> nn.Module:
    """Our module with the weights of the peer, which the map gives back tensor for tensor."""
    theirs = published(peer)
    module = network.module().to(next(peer.parameters()).dtype)
    module.load_state_dict({**module.state_dict(), **weights.load(theirs, module.state_dict())})
    saved = weights.save(module.state_dict())
    assert set(saved) == set(theirs)
    for key, tensor in saved.items():
        assert torch.equal(tensor, theirs[key]), key
    count = sum(p.numel() for p in peer.parameters())
    assert network.params == count == sum(p.numel() for p in module.parameters())
    return module


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


def agree(network: Any, peer: nn.Module, weights: WeightMap, *inputs: Tensor) -> None:
    """Equal results in evaluation; equal gradients of every weight and input in training.

    A peer in double precision, as equations written out are, has EXACT results and gradients.
    """
    double = next(peer.parameters()).dtype == torch.float64
    tolerance, slope, rounding = (EXACT, EXACT, EXACT / 10) if double else (TOLERANCE, GRADIENTS, ROUNDING)
    randomise(peer)
    module = copied(network, peer, weights)
    with torch.no_grad():
        assert difference(result(module.eval()(*inputs)), result(peer.eval()(*inputs))) <= tolerance
    mine, theirs = gradients(module.train(), *inputs), gradients(peer.train(), *inputs)
    made, wanted = weights.save(gradients_of(module).state_dict()), published(gradients_of(peer))
    largest = max(p.grad.abs().max() for p in peer.parameters() if p.grad is not None)
    for key, gradient in wanted.items():
        if gradient.is_floating_point():
            allowed = slope * gradient.abs().max() + rounding * largest
            assert (made[key] - gradient).abs().max() <= allowed, key
    for a, b in zip(mine, theirs, strict=True):
        assert difference(a, b) <= slope


def evaluates(network: Any, peer: nn.Module, weights: WeightMap, *inputs: Tensor) -> None:
    """Equal results in evaluation, in float32, of the module for training and of that for inference."""
    randomise(peer)
    for purpose in ("training", "inference"):
        module = network.module(purpose=purpose).eval()
        module.load_state_dict({**module.state_dict(), **weights.load(published(peer), module.state_dict())})
        with torch.no_grad():
            assert difference(module(*inputs), result(peer.eval()(*inputs))) <= TOLERANCE, purpose


def gradients_of(module: nn.Module) -> nn.Module:
    """The module with the gradients in the place of its weights."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0 if parameter.grad is None else parameter.grad)
        for buffer in module.buffers():
            buffer.zero_()
    return module


def result(output: Any) -> Tensor:
    """The logits, or all real numbers of several results."""
    if isinstance(output, tuple):
        return torch.cat([part.flatten() for part in output if part.is_floating_point()])
    return output if isinstance(output, Tensor) else output.logits


def gradients(module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """Those of the inputs that have one; those of the weights stay with them."""
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    output = result(module(*leaves))
    generator = torch.Generator().manual_seed(3)
    (output * torch.randn(output.shape, generator=generator)).sum().backward()
    return [x.grad for x in leaves if x.grad is not None]


def randomise(peer: nn.Module) -> None:
    """Weights at which every part matters: biases, tables, scales and statistics that are not at their start."""
    generator = torch.Generator().manual_seed(1)
    for module in peer.modules():
        statistics = [(name, x) for name, x in module.named_buffers(recurse=False) if name.startswith("running")]
        for name, tensor in [*module.named_parameters(recurse=False), *statistics]:
            noise = torch.randn(tensor.shape, generator=generator)
            if name == "running_var" or (name == "weight" and "Norm" in type(module).__name__):
                value = 1 + 0.2 * noise.tanh()
            else:
                value = noise * (
                    0.1
                    if tensor.ndim < 2
                    else tensor[0].numel() ** -0.5
                    if tensor.ndim > 2 or min(tensor.shape) > 32
                    else 0.5
                )
            tensor.data.copy_(value)


def in_order(network: Any, peer: nn.Module) -> WeightMap:
    """A map for a peer that has the weights in our order, under whatever names."""
    pairs = zip(network.module().state_dict(), peer.state_dict(), strict=True)
    return WeightMap("in order", {ours: (Key(theirs), BUILTIN) for ours, theirs in pairs}, ())


def picture(size: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(2))


def noise(*shape: int, seed: int = 5) -> Tensor:
    """An input for equations, in double precision."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def timm(name: str, **settings: Any) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, **settings)
