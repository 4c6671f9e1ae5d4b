"""Laws: what holds of every operation, checked against its `reference` in float64.

    check_law(Linear(units=8), TensorType((axis("b", symbol("b")), axis("c", 4))))

An input is a type (a random tensor), a pair of a type and a tensor, None (an optional input that is absent) or a list
of these (a variadic one).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from archlang.emit import load
from archlang.emit.torch import class_name, emit
from archlang.facts import Facts
from archlang.ir import Graph, Node
from archlang.named import Named
from archlang.primitive import Primitive, Types
from archlang.shapes import TensorType, is_float
from archlang.sizes import symbols
from archlang.testing.interpret import bind_sizes, concrete, run

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.complex128: 1e-9}
DTYPES = {"float": torch.float64, "int": torch.int64, "segments": torch.int64, "complex": torch.complex128}
_EXACT = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128"
DTYPES |= {name: getattr(torch, name) for name in _EXACT.split()}
Argument = Any


def check_law(
    op: Primitive,
    *inputs: Argument,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    gradients: bool = True,
    flops: bool = True,
) -> torch.nn.Module:
    """Check one operation: emitted equals reference (outputs and gradients), types and weights are as declared, axes
    that it does not mix are independent, causal axes ignore the future, position after position of time gives the
    whole, FLOPs are those that torch counts. Free sizes
    take the values in `sizes`, else small ones.
    Returns the emitted module."""
    graph, node = single(op, inputs)
    tensors = _tensors(graph, inputs, dict(sizes or {}), torch.Generator().manual_seed(seed))
    module = check_emitted(graph, tensors, seed=seed, gradients=gradients)
    check_independence(module, graph, node, tensors)
    if node.op.state(*graph.input_types(node)):
        check_steps(graph, node, tensors, random_weights(graph, seed + 1))
    if flops:
        check_flops(module, graph, node, tensors)
    return module


def single(op: Primitive, inputs: Sequence[Argument]) -> tuple[Graph, Node]:
    """The graph of one operation, whose node it also gives."""
    graph, facts, operands = Graph("net"), Facts(), []
    for port, argument in zip(op.inputs, inputs, strict=False):
        if port.startswith("*"):
            operands += [
                (f"{port[1:]}.{i}", graph.add_input(f"{port[1:]}{i}", _type(item))) for i, item in enumerate(argument)
            ]
        elif argument is not None:
            operands.append((port.strip("?"), graph.add_input(port.strip("?"), _type(argument))))
    results = graph.add(op, operands, facts=facts, label="op" if _has_weights(op, graph, operands) else None)
    graph.outputs = [("" if len(results) == 1 else f"y{i}", value) for i, value in enumerate(results)]
    return graph, graph.node(results[0].node)


def _has_weights(op: Primitive, graph: Graph, operands: Sequence[tuple[str, Any]]) -> bool:
    return bool(op.params(*graph.arguments(op, [(name, value.type) for name, value in operands])))


def _type(argument: Argument) -> TensorType:
    type_: TensorType = argument[0] if isinstance(argument, tuple) else argument
    return type_


# ---- random values
def _tensors(
    graph: Graph, inputs: Sequence[Argument], sizes: dict[str, int], random: torch.Generator
) -> dict[str, torch.Tensor]:
    flat = [
        item
        for argument in inputs
        for item in (argument if isinstance(argument, list) else [argument])
        if item is not None
    ]
    given = {port: item[1] for port, item in zip(graph.inputs, flat, strict=True) if isinstance(item, tuple)}
    sizes = (
        bind_sizes(
            {port: graph.inputs[port].type for port in given}, {port: tuple(x.shape) for port, x in given.items()}
        )
        | sizes
    )
    free = sorted(
        {name for value in graph.inputs.values() for axis in value.type for name in symbols(axis.size)} - set(sizes)
    )
    sizes |= {name: 2 + i % 3 for i, name in enumerate(free)}
    return {
        port: given[port] if port in given else random_tensor(concrete(value.type, sizes), random)
        for port, value in graph.inputs.items()
    }


def random_tensor(type_: TensorType, random: torch.Generator, high: int = 4) -> torch.Tensor:
    """A tensor of a concrete type: normal, or whole numbers below `high`."""
    shape, dtype = [int(str(axis.size)) for axis in type_], DTYPES[type_.dtype]
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, dtype=dtype, generator=random)
    return torch.randint(0, 2 if dtype == torch.bool else high, shape, generator=random).to(dtype)


def random_weights(graph: Graph, seed: int) -> dict[str, torch.Tensor]:
    """Weights for all paths: normal, at a scale that keeps deep nets tame; buffers positive, as variances are, or
    ascending through 0.
    """
    random, weights = torch.Generator().manual_seed(seed), {}
    for path, param, _ in graph.weights():
        shape, dtype = [int(str(size)) for size in param.shape], DTYPES[param.dtype]
        if not dtype.is_floating_point:
            weights[path] = torch.zeros(shape, dtype=dtype)
        else:
            noise = (
                torch.rand(shape, dtype=dtype, generator=random) + 0.5
                if param.buffer
                else torch.randn(shape, dtype=dtype, generator=random)
            )
            if param.ascending:
                noise = noise.cumsum(-1)
                weights[path] = noise - noise.mean(-1, keepdim=True)
            else:
                weights[path] = noise / max(1, noise[:1].numel()) ** 0.5 if len(shape) > 1 else noise
    return weights


# ---- checks
@contextmanager
def double_precision() -> Iterator[None]:
    """The working type is float64: of constants too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@double_precision()
def check_emitted(
    graph: Graph, inputs: Mapping[str, torch.Tensor], *, seed: int = 0, gradients: bool = True
) -> torch.nn.Module:
    """The emitted module computes what the graph means, with its gradients and the declared weights and types."""
    text = emit(graph)
    module: torch.nn.Module = load(text, class_name(graph))().double().eval()
    weights = random_weights(graph, seed + 1)
    shapes = {path: tuple(tensor.shape) for path, tensor in module.state_dict().items()}
    assert shapes == {path: tuple(tensor.shape) for path, tensor in weights.items()}, f"weights: {shapes}\n{text}"
    module.load_state_dict(weights)
    leaves = [x.detach().requires_grad_(x.is_floating_point() or x.is_complex()) for x in inputs.values()]
    parameters = dict(module.named_parameters())
    means = {
        path: parameters[path].detach().clone().requires_grad_() if path in parameters else x
        for path, x in weights.items()
    }
    meant = list(run(graph, dict(zip(inputs, leaves, strict=True)), means).values())
    made = module(*leaves)
    made = [made] if isinstance(made, torch.Tensor) else list(made)
    _check_types(graph, inputs, made, text)
    for a, b in zip(made, meant, strict=True):
        close(a, b, text)
    if gradients:
        _check_gradients(made, meant, leaves, [(parameters[path], means[path]) for path in parameters], text)
    return module


def close(made: torch.Tensor, meant: torch.Tensor, about: str) -> None:
    """Equal at the tolerance of the wider dtype's table entry; exactly equal for whole numbers."""
    tolerance = TOLERANCE.get(made.dtype, 1e-2 if made.dtype.is_floating_point else 0)
    torch.testing.assert_close(
        made,
        meant.to(made.dtype),
        rtol=tolerance,
        atol=tolerance,
        equal_nan=True,
        msg=lambda text: f"emitted (left) against reference: {text}\n{about}",
    )


def _check_types(graph: Graph, inputs: Mapping[str, torch.Tensor], made: Sequence[torch.Tensor], text: str) -> None:
    sizes = bind_sizes(
        {port: graph.inputs[port].type for port in inputs}, {port: tuple(x.shape) for port, x in inputs.items()}
    )
    for (_, value), result in zip(graph.outputs, made, strict=True):
        type_ = concrete(value.type, sizes)
        assert tuple(result.shape) == tuple(axis.size for axis in type_), (
            f"{tuple(result.shape)} is declared {type_}\n{text}"
        )
        assert result.dtype == DTYPES[type_.dtype], f"{result.dtype} is declared {type_}\n{text}"


def _check_gradients(
    made: Sequence[torch.Tensor],
    meant: Sequence[torch.Tensor],
    leaves: Sequence[torch.Tensor],
    weights: Sequence[tuple[Any, Any]],
    text: str,
) -> None:
    sources = [x for x in leaves if x.requires_grad]
    mine, theirs = (
        _gradients(made, [*sources, *(p for p, _ in weights)]),
        _gradients(meant, [*sources, *(w for _, w in weights)]),
    )
    for a, b in zip(mine, theirs, strict=True):
        close(a, b, f"(a gradient)\n{text}")


def _gradients(results: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The gradients of a fixed random weighting of the results."""
    random = torch.Generator().manual_seed(7)
    total = torch.zeros((), dtype=torch.float64)
    for result in results:
        if result.dtype.is_complex:
            result = torch.view_as_real(result)
        if result.dtype.is_floating_point:
            total = total + (result * torch.randn(result.shape, dtype=torch.float64, generator=random)).sum()
    if not total.requires_grad or not sources:
        return [torch.zeros_like(source) for source in sources]
    return list(torch.autograd.grad(total, list(sources), allow_unused=True, materialize_grads=True))


def check_independence(
    module: Callable[..., Any], graph: Graph, node: Node, inputs: Mapping[str, torch.Tensor]
) -> None:
    """A change at one place of an axis changes no other where it is not mixed, no earlier one where it is causal."""
    types = graph.input_types(node)
    mixed, ahead = node.op.mixes(*types), node.op.looks_ahead(*types)
    assert ahead <= mixed, f"{node.op} looks ahead along {sorted(ahead - mixed)}, which it says it does not mix"
    axes = dict.fromkeys(
        axis.name for value in graph.inputs.values() if is_float(value.type.dtype) for axis in value.type
    )
    for axis in axes:
        if axis in ahead:
            continue
        for (_, value), before, after in zip(graph.outputs, *(_perturbed(module, graph, inputs, axis)), strict=True):
            if axis in value.type:
                _check_unchanged(graph, node, inputs, value.type, axis, before, after, causal=axis in mixed)


def _perturbed(
    module: Callable[..., Any], graph: Graph, inputs: Mapping[str, torch.Tensor], axis: str
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The results before and after a change of the second half of an axis."""
    changed = []
    for port, x in inputs.items():
        type_ = graph.inputs[port].type
        if axis in type_ and is_float(type_.dtype):
            at = type_.names.index(axis)
            x = x.clone()
            x.narrow(at, x.shape[at] // 2, x.shape[at] - x.shape[at] // 2).add_(1.0).mul_(-1.7)
        changed.append(x)
    with torch.no_grad():
        results = [module(*inputs.values()), module(*changed)]
    return tuple([r] if isinstance(r, torch.Tensor) else list(r) for r in results)  # type: ignore[return-value]


def _check_unchanged(
    graph: Graph,
    node: Node,
    inputs: Mapping[str, torch.Tensor],
    type_: TensorType,
    axis: str,
    before: torch.Tensor,
    after: torch.Tensor,
    causal: bool,
) -> None:
    at = type_.names.index(axis)
    length = next(
        x.shape[graph.inputs[p].type.names.index(axis)] for p, x in inputs.items() if axis in graph.inputs[p].type
    )
    if not causal and before.shape[at] != length:
        raise AssertionError(f"{node.op} changes the size of `{axis}`, which it says it does not mix")
    kept = (length // 2) * before.shape[at] // length
    same = torch.equal(before.narrow(at, 0, kept), after.narrow(at, 0, kept)) or torch.allclose(
        before.narrow(at, 0, kept), after.narrow(at, 0, kept), rtol=1e-12, atol=1e-12, equal_nan=True
    )
    assert same, f"{node.op} {'looks ahead along' if causal else 'mixes'} `{axis}`, and does not say so"


def check_steps(
    graph: Graph, node: Node, inputs: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> None:
    """`step` folded over the positions of time is `reference`, in a state no larger than declared; the further results
    are the last states.
    """
    sizes = bind_sizes(
        {port: graph.inputs[port].type for port in inputs}, {port: tuple(x.shape) for port, x in inputs.items()}
    )
    op = concrete(node.op, sizes)
    types = Types(concrete(tuple(graph.input_types(node)), sizes), concrete(node.types, sizes))
    leaves = {leaf: weights[f"{node.label}.{leaf}"] for leaf in graph.params(node)}
    given = {port: Named(x, graph.inputs[port].type.names) for port, x in inputs.items()}
    operands = [(argument, given[str(graph.name_of(value))]) for argument, value in graph.operands(node)]
    result = types.outputs[0]
    (time,), declared = result.of_role("time"), op.state(*types.inputs)
    state: dict[str, Named] = {}
    outputs = []
    for at in range(int(str(result.size(time)))):
        now = [(argument, _positions(x, time, at, int(str(result.size(time))))) for argument, x in operands]
        made, state = op.step(types, state, *Graph.arguments(op, now), **leaves)
        assert state.keys() == declared.keys(), f"{op}: the state {sorted(state)} is declared {sorted(declared)}"
        for name, type_ in declared.items():
            assert state[name].tensor.numel() <= math.prod(int(str(axis.size)) for axis in type_), (
                f"{op}: {name}, {type_}"
            )
        outputs.append(made.to(result.names))
    made = op.reference(types, *Graph.arguments(op, operands), **leaves)
    whole, *finals = made if isinstance(made, tuple) else [made]
    close(torch.cat(outputs, result.names.index(time)), whole.to(result.names), f"steps of {op}")
    for final, left in zip(finals, state.values(), strict=False):
        close(left.to((*final.names, time))[..., 0].expand_as(final.tensor), final.tensor, f"the last state of {op}")


def _positions(x: Named, time: str, at: int, count: int) -> Named:
    """What a step takes where the sequence is so many of them: a stride takes several positions at once."""
    if time not in x.names:
        return x
    pace = x.size(time) // count
    return x.select(time, list(range(at * pace, at * pace + pace)))


def check_flops(module: Callable[..., Any], graph: Graph, node: Node, inputs: Mapping[str, torch.Tensor]) -> None:
    """Twice the declared multiply-accumulates is what torch counts."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    sizes = bind_sizes(
        {port: graph.inputs[port].type for port in inputs}, {port: tuple(x.shape) for port, x in inputs.items()}
    )
    declared = concrete(node.op.macs(*graph.input_types(node)), sizes)
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):  # the fused one of the CPU is not counted
        module(*inputs.values())
    assert counter.get_total_flops() == 2 * declared, (
        f"{node.op}: {declared} MACs declared, {counter.get_total_flops() / 2} counted"
    )
