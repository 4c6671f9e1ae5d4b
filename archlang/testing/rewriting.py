"""The law of passes: what a graph means does not change.

check_passes(archlang.load("net.arch").architecture(), {"b": 2}, Options("inference"))
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from archlang.ir import Graph
from archlang.passes import Options
from archlang.testing.interpret import run
from archlang.testing.laws import double_precision, random_weights
from archlang.testing.networks import PRECISION, close, gradients, random_inputs

if TYPE_CHECKING:
    from archlang.compile import Architecture


@double_precision()
def check_passes(
    network: "Architecture", sizes: Mapping[str, int], options: Options, seed: int = 0
) -> dict[str, list[str]]:
    """After each pass the types hold, the weights have their names and shapes, and values and gradients are those of
    the graph before all passes, each operation by its reference. Returns the rules that held, by pass.
    """
    weights, inputs = random_weights(network.graph, seed), random_inputs(network, sizes, seed + 1)
    meant = _meaning(network.graph, inputs, weights)
    done = network.optimised(options)
    for name, graph in done.stages.items():
        graph.verify()
        assert _weights(graph) == _weights(network.graph), f"{name} changes the weights"
        for what, before, after in zip(("results", "gradients"), meant, _meaning(graph, inputs, weights), strict=True):
            close(f"{what} after {name}", after, before, PRECISION)
    return {name: [e.rule for e in done.events if e.stage == name and not e.reason] for name in done.stages}


def _weights(graph: Graph) -> dict[str, tuple[Any, ...]]:
    return {path: param.shape for path, param, _ in graph.weights()}


def _meaning(
    graph: Graph, inputs: Mapping[str, Any], weights: Mapping[str, Any]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Results and gradients with respect to inputs and weights."""
    given, mine = ({name: _leaf(x) for name, x in tensors.items()} for tensors in (inputs, weights))
    results = list(run(graph, given, mine).values())
    sources = [x for x in [*given.values(), *mine.values()] if x.requires_grad]
    return results, gradients(results, sources)


def _leaf(x: torch.Tensor) -> torch.Tensor:
    return x.detach().clone().requires_grad_(x.is_floating_point())
