"""The law of decoding: a sequence in pieces is the sequence whole.

check_pieces(archlang.load("net.arch").architecture(), {"b": 2, "t": 7}, [4, 1, 2])
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from archlang.testing.laws import double_precision, random_weights
from archlang.testing.networks import PRECISION, module_of, random_inputs

if TYPE_CHECKING:
    from archlang.compile import Architecture


def time_places(network: "Architecture") -> dict[str, int]:
    """Where the time axis stands in the inputs that have it."""
    timed = {port: type_ for port, type_ in network.inputs.items() if type_.of_role("time")}
    return {port: type_.names.index(type_.of_role("time")[0]) for port, type_ in timed.items()}


def in_pieces(
    network: "Architecture", module: Any, inputs: Mapping[str, torch.Tensor], split: Sequence[int]
) -> list[torch.Tensor]:
    """The outputs of a module that decodes, given the sequence in pieces of these sizes, joined again."""
    places, start, found = time_places(network), 0, []
    for size in split:
        now = [x.narrow(places[port], start, size) if port in places else x for port, x in inputs.items()]
        made = module(*now)
        found.append([made] if isinstance(made, torch.Tensor) else list(made))
        start += size
    axes = [type_.names.index(type_.of_role("time")[0]) for type_ in network.outputs.values()]
    return [torch.cat(pieces, axis) for pieces, axis in zip(zip(*found, strict=True), axes, strict=True)]


@double_precision()
def check_pieces(
    network: "Architecture", sizes: Mapping[str, int], *splits: Sequence[int], seed: int = 0, **how: Any
) -> Any:
    """In float64, for each way to split the sequence; returns the module that decodes, written as `source` is told."""
    weights, inputs = random_weights(network.graph, seed), random_inputs(network, sizes, seed + 1)
    plain: Any = module_of(network, weights, purpose="inference")
    made = plain(*inputs.values())
    whole = [made] if isinstance(made, torch.Tensor) else list(made)
    module: Any = module_of(network, weights, purpose="decoding", **how)
    for split in splits:
        module.reset()
        for meant, found in zip(whole, in_pieces(network, module, inputs, split), strict=True):
            scale = max(1.0, float(meant.abs().max())) if meant.is_floating_point() else 1
            torch.testing.assert_close(
                found, meant, rtol=0, atol=PRECISION * scale, msg=partial("{}: {}".format, split)
            )
    return module
