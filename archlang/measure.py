"""How far the outputs of a network for inference are from those of the network that it is folded from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archlang.diagnostics import error
from archlang.sizes import symbols

if TYPE_CHECKING:
    from torch import Tensor

    from archlang.compile import Architecture


@dataclass(frozen=True, slots=True)
class Errors:
    """The largest error in float32 of an output, as a share of its largest value in float64: folded, and as it was."""

    folded: float
    unfolded: float

    def text(self) -> str:
        """For a reader."""
        return (
            f"largest error in float32, of the largest output: {self.folded:.1e} for inference, {self.unfolded:.1e} "
            "without folding (random weights and inputs)"
        )


def folding_errors(network: "Architecture", sizes: Mapping[str, int], disable: Iterable[str] = ()) -> Errors:
    """Run both forms, with equal random weights on equal random inputs."""
    import torch

    free = {name for type_ in network.inputs.values() for axis in type_ for name in symbols(axis.size)}
    if unknown := sorted(free - sizes.keys()):
        raise error("A901", f"the free size `{unknown[0]}` has no value", help=f"write --at {unknown[0]}=SIZE")

    from archlang.testing.laws import random_weights
    from archlang.testing.networks import random_inputs

    weights = {path: _single(x) for path, x in random_weights(network.graph, 0).items()}
    try:
        inputs = {name: _single(x) for name, x in random_inputs(network, sizes, 1).items()}
    except (RuntimeError, MemoryError) as failure:
        raise error("A907", "inputs of these sizes cannot be made", help=str(failure).partition("\n")[0]) from None
    plain = network.module(seed=0).eval()
    folded = network.module(seed=0, purpose="inference", disable=disable)
    for module in (plain, folded):
        module.load_state_dict(weights)
    made = [_outputs(module, inputs, network) for module in (folded, plain)]
    double = {name: x.double() if x.dtype == torch.float32 else x for name, x in inputs.items()}
    exact = _outputs(plain.double(), double, network)
    return Errors(*(max(_error(x, y) for x, y in zip(outputs, exact, strict=True)) for outputs in made))


def _single(x: "Tensor") -> "Tensor":
    return x.float() if x.is_floating_point() else x


def _outputs(module: Any, inputs: "Mapping[str, Tensor]", network: "Architecture") -> "list[Tensor]":
    from archlang import feed

    return [x.double() for x in feed.run(module, inputs, network).values()]


def _error(made: "Tensor", meant: "Tensor") -> float:
    return float((made - meant).abs().max() / meant.abs().max().clamp(min=1e-30))
