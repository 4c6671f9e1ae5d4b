"""Measuring: every implementation of every operation of a network, side by side, until the time is over."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from archlang.emit import load
from archlang.emit.torch import class_name, emit
from archlang.ir import Graph
from archlang.primitive import Primitive
from archlang.primitives.recurrence import LinearRecurrence
from archlang.sizes import substitute, symbols
from archlang.tuning import Case, Record, candidates, case, device
from archlang.tuning.cases import every, free

VISITS = 5  # of each implementation, in random order
VISIT = 0.01  # seconds at least
WRONG = 1e-3  # relative to the largest number: what differs by more is no implementation
Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure: an operation on inputs of these types, by implementation."""

    case: Case
    inputs: tuple[tuple[str, Any], ...]
    ways: Mapping[str, Primitive]


@dataclass
class Tuning:
    """What has been measured so far, and of how much."""

    tasks: list[Task]
    times: dict[Case, dict[str, float]] = field(default_factory=dict)

    def record(self) -> Record:
        """Of this device."""
        return Record({device(): self.times})


def tasks(graphs: Iterable[Graph], batch: int, inference: bool) -> list[Task]:
    """One for each case in these networks, those with the most work first."""
    found: dict[Case, tuple[int, Task]] = {}
    for part, node in (pair for graph in graphs for pair in every(graph)):
        types = part.input_types(node)
        about = case(node.op, types, batch)
        ways = candidates(node.op, types, inference) if about else {}
        if about is None or len(ways) < 2 or about in found:
            continue
        inputs = tuple((argument, _sized(value.type, batch)) for argument, value in part.operands(node))
        macs = node.op.macs(*types)
        found[about] = int(str(_number(macs, batch))), Task(about, inputs, ways)
    return [task for _, task in sorted(found.values(), key=lambda pair: (-pair[0], pair[1].case))]


def tune(tuning: Tuning, seconds: float) -> Iterator[Case]:
    """Measure one task after another, and yield what is done; stops when the time is over."""
    end = time.monotonic() + seconds
    for task in tuning.tasks:
        if time.monotonic() > end:
            return
        if times := _measured(task):
            tuning.times[task.case] = times
        yield task.case


def _measured(task: Task) -> dict[str, float]:
    """Microseconds of each implementation that computes what the first does: the best of several visits."""
    import torch

    ready: dict[str, Call] = {}
    with torch.random.fork_rng(), torch.inference_mode(False), torch.no_grad():
        torch.manual_seed(0)
        for name, op in task.ways.items():
            with suppress(RuntimeError, NotImplementedError):  # of this build of torch
                ready[name] = _call(op, task.inputs)
        meant = ready[next(iter(task.ways))]()
        sound = {name: call for name, call in ready.items() if _close(call(), meant)}
        best = dict.fromkeys(sound, float("inf"))
        for _ in range(VISITS):
            for name in random.sample(list(sound), len(sound)):
                best[name] = min(best[name], _visit(sound[name]))
    return {name: seconds * 1e6 for name, seconds in best.items()}


def _visit(call: Call) -> float:
    """Seconds of one call: the shortest of several."""
    call()
    end, best = time.perf_counter() + VISIT, float("inf")
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _call(op: Primitive, inputs: tuple[tuple[str, Any], ...]) -> Call:
    """The operation as it is written, on random numbers."""
    import torch

    graph = Graph("tuned")
    operands = [(argument, graph.add_input(argument.replace(".", "_"), type_)) for argument, type_ in inputs]
    label = "op" if op.params(*graph.arguments(op, [(argument, value.type) for argument, value in operands])) else None
    graph.outputs = [("", graph.add(op, operands, label=label)[0])]
    module = load(emit(graph), class_name(graph))().eval()
    random = torch.Generator().manual_seed(0)
    module.load_state_dict({key: _numbers(value.shape, random) for key, value in module.state_dict().items()})
    tensors = [_laid(op, argument, type_, random) for argument, type_ in inputs]
    return lambda: module(*tensors)


def _laid(op: Primitive, argument: str, type_: Any, random: Any) -> Any:
    """An input as it lies where a network is tuned: the channels of a place side by side."""
    names, sizes = type_.names, {axis.name: int(str(axis.size)) for axis in type_}
    if isinstance(op, LinearRecurrence) or argument not in ("q", "k", "v", "x"):
        return _numbers(sizes.values(), random)
    order = [name for role in ("batch", "space", "time", "free", "channel") for name in type_.of_role(role)]
    return _numbers([sizes[name] for name in order], random).permute([order.index(name) for name in names])


def _numbers(shape: Iterable[int], random: Any) -> Any:
    """Between 0 and 1, as decays are, and no longer than 1 over the last axis, as the keys of the delta rule."""
    import torch

    made = torch.rand(*shape, generator=random)
    return made / max(1, made.shape[-1] if made.ndim else 1) ** 0.5


def _close(made: Any, meant: Any) -> bool:
    return bool((made - meant).abs().max() <= WRONG * meant.abs().max())


def _sized(type_: Any, batch: int) -> Any:
    """A type with numbers for free sizes."""
    return type_.resized(**{axis.name: _number(axis.size, batch) for axis in type_})


def _number(size: Any, batch: int) -> Any:
    return substitute(size, {name: free(name, batch) for name in symbols(size)})
