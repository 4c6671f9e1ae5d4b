"""How much memory a module takes, from every allocation that torch makes and frees on the CPU.

`torch.profiler` records each, what is allocated inside of kernels too; the peak is the largest sum of what stands.
Weights, buffers and inputs stand from the start.
"""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak(step: Callable[[], object]) -> int:
    """The most bytes that stand during a step, above those that stood before it."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    results: Any = found.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    level = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        most = max(most, level)
    return most


def standing(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    """The bytes of weights, buffers and inputs, each storage once."""
    storages = (tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers(), *inputs))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def inference_peak(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    """Of a forward pass without gradients."""
    module.eval()

    @torch.no_grad()
    def step() -> None:
        module(*inputs)

    step()
    return standing(module, inputs) + peak(step)


def training_peak(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    """Of a forward and backward pass, from gradients of all outputs and losses; what is called holds the outputs."""
    module.train()

    def step() -> None:
        made = module(*inputs)
        results = [*([made] if isinstance(made, torch.Tensor) else made), *getattr(module, "losses", {}).values()]
        learned = [result for result in results if result.requires_grad]
        torch.autograd.backward(learned, [torch.ones_like(result) for result in learned])

    step()
    module.zero_grad(set_to_none=True)
    return standing(module, inputs) + peak(step)
