"""The law of whole networks: what is emitted computes what the graph means.

check_network(archlang.load("net.arch").architecture(), {"b": 2, "t": 7})
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from archlang.emit import load
from archlang.testing.interpret import concrete, run, run_training
from archlang.testing.laws import double_precision, random_tensor, random_weights

if TYPE_CHECKING:
    from archlang.compile import Architecture
    from archlang.passes import Purpose

PRECISION = 1e-10  # of the largest value, in float64


def random_inputs(network: "Architecture", sizes: Mapping[str, int], seed: int = 0) -> dict[str, torch.Tensor]:
    """A tensor of float64 or whole numbers for each input, with these free sizes."""
    random = torch.Generator().manual_seed(seed)
    return {port: random_tensor(concrete(type_, sizes), random) for port, type_ in network.inputs.items()}


def module_of(network: "Architecture", weights: Mapping[str, torch.Tensor], **how: Any) -> torch.nn.Module:
    """The emitted module in float64 and evaluation, with these weights, written as `source` is told; their names and
    shapes must be its own.
    """
    module: torch.nn.Module = load(network.source(**how), network.class_name)().double().eval()
    mine = {path: tuple(tensor.shape) for path, tensor in module.state_dict().items()}
    assert mine == {path: tuple(tensor.shape) for path, tensor in weights.items()}, "weights are not as declared"
    module.load_state_dict(dict(weights))
    return module


@double_precision()
def check_network(
    network: "Architecture",
    sizes: Mapping[str, int],
    seed: int = 0,
    purpose: "Purpose" = "training",
    **how: Any,
) -> torch.nn.Module:
    """Types hold when they are worked out again; results and all gradients are those of the references; parameters
    are counted exactly. Returns the module. For inference there are no gradients to weights.
    """
    network.graph.verify()
    weights = random_weights(network.graph, seed)
    module = module_of(network, weights, purpose=purpose, **how)
    assert sum(p.numel() for p in module.parameters()) == network.params
    inputs = random_inputs(network, sizes, seed + 1)
    leaves = {port: x.requires_grad_(x.is_floating_point()) for port, x in inputs.items()}
    parameters = dict(module.named_parameters())
    means = {path: x.clone().requires_grad_() if path in parameters else x for path, x in weights.items()}
    meant = run(network.graph, leaves, means)
    made = module(*leaves.values())
    results = [made] if isinstance(made, torch.Tensor) else list(made)
    floats = [x for x in leaves.values() if x.requires_grad]
    close("results", results, list(meant.values()))
    if purpose == "inference":
        return module
    mine = gradients(results, [*floats, *parameters.values()])
    theirs = gradients(list(meant.values()), [*floats, *(means[path] for path in parameters)])
    close("gradients", mine, theirs)
    if network.graph.losses or network.graph.exits:
        _check_training(network, module, leaves, means)
    return module


def _check_training(network: "Architecture", module: Any, leaves: Mapping[str, Any], means: Mapping[str, Any]) -> None:
    """The outputs, exits and losses that a model gives in training, and their gradients, where it makes no noise."""
    assert not any(node.op.random for node in network.graph), "set the rates of noise in the model itself to 0"
    meant = run_training(network.graph, leaves, means)
    module.training = True  # of the model alone: noise and statistics below it stay off
    made = module(*leaves.values())
    module.training = False
    results = [made] if isinstance(made, torch.Tensor) else list(made)
    losses = {name: meant[name] for name in network.graph.losses}
    close("results in training", results, [*meant[""], *meant["exits"]])
    recorded = getattr(module, "losses", {})
    assert {name: len(values) for name, values in losses.items()} == {n: len(x) for n, x in recorded.items()}
    stacked = [torch.stack(values) for values in losses.values()]
    close("losses", list(recorded.values()), stacked)
    parameters = dict(module.named_parameters())
    sources = [*(x for x in leaves.values() if x.requires_grad)]
    mine = gradients([*results, *recorded.values()], [*sources, *parameters.values()])
    theirs = gradients([*meant[""], *meant["exits"], *stacked], [*sources, *(means[path] for path in parameters)])
    close("gradients in training", mine, theirs)


def gradients(results: Sequence[torch.Tensor], sources: Sequence[Any]) -> list[torch.Tensor]:
    """The gradients of one fixed random weighting of the results."""
    random = torch.Generator().manual_seed(7)
    weighted = [
        (result * torch.randn(result.shape, dtype=torch.float64, generator=random)).sum()
        for result in results
        if result.is_floating_point() and result.requires_grad
    ]
    if not weighted or not sources:
        return []
    return list(torch.autograd.grad(torch.stack(weighted).sum(), list(sources), materialize_grads=True))


def close(what: str, made: Sequence[torch.Tensor], meant: Sequence[torch.Tensor], precision: float = PRECISION) -> None:
    """Equal up to rounding: of the tensor's own largest value, or, for gradients that cancel to 0, of that of all."""
    made, meant = [x.detach() for x in made], [x.detach() for x in meant]
    assert len(made) == len(meant), f"{len(made)} {what}, and {len(meant)} are meant"
    largest = max((float(x.abs().max()) for x in meant if x.numel() and x.is_floating_point()), default=0.0)
    for i, (a, b) in enumerate(zip(made, meant, strict=True)):
        assert a.shape == b.shape, f"{what} {i}: {tuple(a.shape)}, and {tuple(b.shape)} is meant"
        if not a.is_floating_point() or not a.numel():
            assert torch.equal(a, b.to(a.dtype)), f"{what} {i}"
            continue
        assert bool((a.isfinite() & b.isfinite()).all()), f"{what} {i} are not finite"
        allowed = precision * float(b.abs().max()) + 1e-2 * precision * largest
        gap = float((a - b).abs().max())
        assert gap <= allowed, f"{what} {i}: emitted and reference differ by {gap:.2g}, and {allowed:.2g} is rounding"
