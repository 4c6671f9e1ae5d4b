"""Kernels against the PyTorch forms and the meaning, in Triton's interpreter."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

import archlang
from archlang.emit import load

TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def emitted(program: str) -> Any:
    """The Python module that a program of one model becomes, with kernels."""
    network = archlang.loads(program).architecture()
    return sys.modules[load(network.source("triton"), network.class_name).__module__]


def guarded(x: torch.Tensor) -> torch.Tensor:
    """A copy amid memory that is no number: what reads beyond it shows."""
    if not x.is_floating_point():
        return x
    around = torch.full((x.numel() + 256,), float("nan"), dtype=x.dtype)
    around[128:-128] = x.detach().flatten()
    return around[128:-128].view(x.shape)


def results(function: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor], kind: torch.dtype) -> list[Any]:
    """The output and the gradients of all floating inputs, for a fixed slope of the output."""
    given = [guarded(x.to(kind) if x.is_floating_point() else x) for x in inputs]
    for x in given:
        x.requires_grad_(x.is_floating_point())
    y = function(*given)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(kind))
    return [y.detach(), *(x.grad for x in given if x.requires_grad)]


def with_last(function: Callable[..., Any], *, alone: bool = False) -> Callable[..., torch.Tensor]:
    """A function of a state to start from (one number for none) and tensors that gives the outputs and the last state
    side by side, or the latter `alone`; it is turned, and so is its slope. All tensors have slopes, if of 0.
    """

    def both(start: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        y, last = function(*given, start=start if start.numel() > 1 else None, final=True)
        last = last.mT + 0.0 * sum(x.flatten()[0] for x in (start, *given))
        return last if alone else torch.cat([y.flatten(), last.flatten()])

    return both


def check(
    ours: Callable[..., torch.Tensor],
    theirs: Callable[..., torch.Tensor],
    inputs: Sequence[torch.Tensor],
    kind: torch.dtype = torch.float32,
) -> None:
    """Outputs and gradients of a kernel equal those of a PyTorch form in float64, up to the dtype; the tolerance is
    relative to the largest.
    """
    wide = [x.to(kind).double() if x.is_floating_point() else x for x in inputs]
    pairs = zip(results(ours, inputs, kind), results(theirs, wide, torch.float64), strict=True)
    for place, (found, meant) in enumerate(pairs):
        error = (found.double() - meant).abs().max() / meant.abs().max().clamp(min=0.1)
        assert error <= TOLERANCE[kind], f"result {place}: {error:.1e}"
