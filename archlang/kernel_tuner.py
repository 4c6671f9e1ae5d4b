"""Measuring kernels: every shape of tiles that they may have, inside networks, on the GPU at hand, until the time is
over. A shape counts only where values and gradients are those of the PyTorch form in float64: compilers go wrong too.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from archlang.diagnostics import error
from archlang.sizes import symbols
from archlang.testing.aot import compiling
from archlang.testing.networks import random_inputs
from archlang.tuning import Case, Record, configurations
from archlang.tuning.cases import free
from archlang.tuning.configs import Config, text

if TYPE_CHECKING:
    from torch import Tensor

    from archlang.compile import Architecture

PRECISIONS = ("bfloat16", "float32")
ALLOWED = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 4e-3}  # of the largest value
Run = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device that runs kernels: what records call it, and what a block of it may have."""

    name: str
    device: str
    capability: int = 0
    shared: int = 0  # bytes

    def seconds(self, run: Callable[[], Any]) -> float:
        """Of a call: the median of many, with caches flushed before each; in the interpreter of one."""
        if self.device == "cuda":
            from triton.testing import do_bench

            return float(do_bench(run, quantiles=[0.5])) / 1000
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def fits(self, run: Callable[[], Any]) -> bool:
        """Whether the kernels of a call compile without spilled registers, into the memory that a block shares."""
        if self.device != "cuda":
            return True
        with compiling([self.capability]) as found:
            run()
        return all(kernel.spilled == 0 and kernel.shared <= self.shared for kernel in found)


def gpu() -> Gpu:
    """The one at hand; Triton's interpreter where that is on, which is how all this is tested."""
    import torch

    if torch.cuda.is_available():
        from triton.compiler.compiler import max_shared_mem

        major, minor = torch.cuda.get_device_capability()
        shared = max_shared_mem(torch.cuda.current_device())
        return Gpu(torch.cuda.get_device_name(), "cuda", 10 * major + minor, shared)
    if _is_interpreted():
        return Gpu("interpreter", "cpu")
    raise error("A908", "kernels are measured on a GPU, and torch finds none here", help="they keep their own tiles")


def _is_interpreted() -> bool:
    try:
        from triton import knobs
    except ImportError:
        return False
    return bool(knobs.runtime.interpret)


class Probe:
    """Stands in for `tile_shape` of an emitted file: notes what kernels ask for, and answers with what is tried."""

    def __init__(self, file: ModuleType) -> None:
        self.tile = file.tile
        self.asked: dict[Case, dict[str, int]] = {}
        self.tried: dict[Case, dict[str, int]] = {}

    def __call__(self, kernel: str, x: Any, sizes: Mapping[str, int], **shipped: int) -> dict[str, int]:
        rounded = tuple((name, self.tile(size, 1)) for name, size in sizes.items())
        case = Case(kernel, rounded, str(x.dtype).removeprefix("torch."))
        self.asked.setdefault(case, shipped)
        return dict(self.tried.get(case, shipped))


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a kernel with what a network gave it. In float64 it is the PyTorch form that runs."""

    probe: Probe
    kernel: Run
    given: tuple[Any, dict[str, Any]]
    precision: str

    def results(self, wide: bool = False) -> "list[Tensor]":
        """Outputs, and gradients for fixed slopes of them."""
        import torch

        args, kwargs = _mapped(self.given, torch.float64 if wide else None)
        outputs = [y for y in _tensors(self.kernel(*args, **kwargs)) if y.is_floating_point()]
        made = [y for y in outputs if y.requires_grad]
        leaves = [x for x in _tensors((args, kwargs)) if x.requires_grad]
        random = torch.Generator().manual_seed(0)
        slopes = [torch.randn(y.shape, generator=random).to(y) for y in made]
        grads = torch.autograd.grad(made, leaves, slopes, materialize_grads=True) if made else ()
        return [*(y.detach() for y in outputs), *grads]

    def forward(self) -> Any:
        """The kernel alone."""
        import torch

        with torch.no_grad():
            return self.kernel(*self.given[0], **self.given[1])

    def error(self, meant: "Sequence[Tensor]") -> float:
        """The largest of the kernel, relative to the largest value; no number where one is none."""
        import torch

        pairs = zip(self.results(), meant, strict=True)
        errors = [((x - y).abs().max() / y.abs().max().clamp(min=0.1)).cpu() for x, y in pairs if y.numel()]
        return float(torch.stack(errors).max())


@dataclass
class KernelTuning:
    """What has been measured so far, and of how many calls."""

    gpu: Gpu
    calls: list[Call]
    times: dict[Case, dict[str, float]] = field(default_factory=dict)  # microseconds, what ships first
    refused: list[str] = field(default_factory=list)  # with results that are wrong

    def record(self) -> Record:
        """Of this device."""
        return Record({self.gpu.name: {case: times for case, times in self.times.items() if times}})


def calls(networks: "Iterable[Architecture]", batch: int, device: str) -> list[Call]:
    """All that networks ask of kernels, in each precision: of calls for the same tiles the first."""
    return [
        call for network in networks for precision in PRECISIONS for call in _calls(network, precision, batch, device)
    ]


def _calls(network: "Architecture", precision: str, batch: int, device: str) -> list[Call]:
    import torch

    kind = getattr(torch, precision)
    module: Any = network.module(seed=0, target="triton").eval().to(device, kind)
    file = sys.modules[type(module).__module__]
    if not hasattr(file, "tile_shape"):
        return []
    for weight in module.parameters():
        if not weight.any():  # as some start, which would hide what is wrong
            weight.data.normal_(0, 0.1)
    names = {name for type_ in network.inputs.values() for axis in type_ for name in symbols(axis.size)}
    inputs = random_inputs(network, {name: free(name, batch) for name in names})
    given = [x.to(device, kind).requires_grad_() if x.is_floating_point() else x.to(device) for x in inputs.values()]
    with _watched(file, precision) as found:
        module(*given)
    return found


@contextmanager
def _watched(file: ModuleType, precision: str) -> Iterator[list[Call]]:
    """The calls of the kernels of an emitted file, while it runs."""
    found: list[Call] = []
    probe, kept = Probe(file), []
    for owner, name in _kernels(file):
        kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, _noted(getattr(owner, name), probe, precision, found))
    try:
        with _answering(probe, file):
            yield found
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def _kernels(file: ModuleType) -> Iterator[tuple[Any, str]]:
    """Where kernels are called: functions and layers that fall back on PyTorch."""
    import torch

    for name, value in list(vars(file).items()):
        if name.startswith("triton_") or f"{name}_plain" in vars(file):
            yield file, name
        elif name.startswith("Triton") and isinstance(value, type) and issubclass(value, torch.nn.Module):
            yield value, "forward"


def _noted(kernel: Run, probe: Probe, precision: str, found: list[Call]) -> Run:
    def run(*args: Any, **kwargs: Any) -> Any:
        before = len(probe.asked)
        made = kernel(*args, **kwargs)
        if len(probe.asked) > before:
            found.append(Call(probe, kernel, _mapped((args, kwargs)), precision))
        return made

    return run


def tune(tuning: KernelTuning, seconds: float) -> Iterator[Call]:
    """Measure one call after another, and yield what is done; stops when the time is over, or the device breaks."""
    import torch

    end = time.monotonic() + seconds
    with suppress(torch.AcceleratorError):
        for call in tuning.calls:
            with _answering(call.probe, sys.modules[call.kernel.__module__]):
                _measure(call, tuning, end)
            if time.monotonic() > end:
                return
            yield call


@contextmanager
def _answering(probe: Probe, file: Any) -> Iterator[None]:
    """The kernels of an emitted file ask the probe."""
    shipped, file.tile_shape = file.tile_shape, probe
    try:
        yield
    finally:
        file.tile_shape = shipped


def _measure(call: Call, tuning: KernelTuning, end: float) -> None:
    """The times of all shapes of the tiles of a call: those of its forward pass first, then those of its gradients."""
    meant, probe = call.results(wide=True), call.probe
    probe.asked.clear()
    call.forward()
    forward = set(probe.asked)
    call.results()
    for case, shipped in list(probe.asked.items()):
        if case in tuning.times:
            continue
        times = tuning.times.setdefault(case, {})
        run = call.forward if case in forward else call.results
        for config in configurations(shipped):
            if time.monotonic() > end:
                return
            probe.tried[case] = config
            if _is_sound(call, case, config, meant, tuning):
                times[text(config)] = tuning.gpu.seconds(run) * 1e6
        probe.tried[case] = min(configurations(shipped), key=lambda config: times.get(text(config), float("inf")))


def _is_sound(call: Call, case: Case, config: Config, meant: "Sequence[Tensor]", tuning: KernelTuning) -> bool:
    """Whether tiles of this shape fit the device, and what they compute is right."""
    import torch
    from triton.errors import TritonError

    try:
        if not tuning.gpu.fits(call.results):
            return False
        wrong = call.error(meant)
    except torch.AcceleratorError:  # nothing runs on this device any more
        tuning.refused.append(f"{case}: {text(config)} breaks the device")
        raise
    except (TritonError, RuntimeError):  # of the compiler: such tiles cannot be
        return False
    if wrong <= ALLOWED[case.dtype]:
        return True
    tuning.refused.append(f"{case}: {text(config)} is off by {wrong:.1e}")
    return False


def _tensors(tree: Any) -> "list[Tensor]":
    """All tensors, and the weights of modules."""
    import torch
    from torch.utils._pytree import tree_leaves

    leaves = tree_leaves(tree)
    weights = [w for x in leaves if isinstance(x, torch.nn.Module) for w in x.parameters()]
    return [x for x in leaves if isinstance(x, torch.Tensor)] + weights


def _mapped(tree: Any, kind: Any = None) -> Any:
    """Tensors of their own, where they lie, and in another dtype if one is given."""
    import torch
    from torch.utils._pytree import tree_map

    def own(x: Any) -> Any:
        if isinstance(x, torch.nn.Module):
            return deepcopy(x).to(kind)
        if not isinstance(x, torch.Tensor):
            return x
        wide = x.detach() if kind is None or not x.is_floating_point() else x.detach().to(kind)
        return wide.requires_grad_(x.requires_grad)

    return tree_map(own, tree)
