# Made by archlang 0.1.0 from loss.arch (sha256 dc79d3137072df99): net

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn


class Captured:
    """A module that evaluates inputs of fixed shapes as one CUDA graph: a single launch, and nothing in Python between
    its operations. What a call returns is overwritten by the next one; weights may change in place.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor]) -> None:
        if not inputs or not all(x.is_cuda for x in inputs):
            raise RuntimeError("a CUDA graph is captured from inputs on a CUDA device")
        self.inputs, self.graph, aside = (
            [x.detach().clone() for x in inputs],
            torch.cuda.CUDAGraph(),
            torch.cuda.Stream(),
        )
        aside.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(aside):
            for _ in range(3):  # what is compiled at the first call is no part of the graph
                module(*self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.outputs = module(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        for held, given in zip(self.inputs, inputs, strict=True):
            if held.shape != given.shape or held.dtype != given.dtype:
                raise ValueError(
                    f"the graph takes {held.dtype} of {list(held.shape)}, not {given.dtype} of {list(given.shape)}"
                )
            held.copy_(given)
        self.graph.replay()
        return self.outputs


def tile(size: int, least: int = 16) -> int:
    """The power of 2 that holds a size: tiles of matrix products have 16 rows at least."""
    return max(least, 1 << (size - 1).bit_length())


try:
    import triton
    from triton import language as tl
except ImportError:  # the PyTorch forms run
    triton = tl = None

# In Triton's interpreter (TRITON_INTERPRET=1) kernels run on tensors of any device, step by step.
INTERPRETED = triton is not None and triton.knobs.runtime.interpret


def jit(kernel: Callable[..., Any]) -> Any:
    """Compile a kernel when it is first called."""
    return kernel if triton is None else triton.jit(kernel)


def operation(function: Callable[..., Any]) -> Any:
    """An operator of torch, under the name of this file: compilers and exporters take it as one step."""
    name = f"{__name__.replace('.', '_')}::{function.__name__}"
    return torch.library.custom_op(name, function, mutates_args=())


def runs(*tensors: Tensor | None) -> bool:
    """Whether kernels take these tensors; elsewhere the PyTorch forms run."""
    kinds = torch.float32, torch.bfloat16, torch.float16
    given = [x for x in tensors if x is not None]
    return triton is not None and all((x.is_cuda or INTERPRETED) and x.dtype in kinds for x in given)


def alike(*tensors: Tensor) -> list[Tensor]:
    """The tensors in one dtype: autocast's where it is on, else the widest of theirs."""
    device, kind = tensors[0].device.type, tensors[0].dtype
    for x in tensors[1:]:
        kind = torch.promote_types(kind, x.dtype)
    if torch.is_autocast_enabled(device):
        kind = torch.get_autocast_dtype(device)
    return [x.to(kind) for x in tensors]


def dense(x: Tensor) -> Tensor:
    """The tensor with its last axis in one piece."""
    return x if x.stride(-1) == 1 else x.contiguous()


# The shapes of tiles that `archlang tune` measured to be the fastest, by device and case; others are those of the rules.
CONFIGS: dict[str, dict[str, int]] = {}


@cache
def device_name(device: torch.device) -> str:
    """A GPU, as records of `archlang tune` name it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


def tile_shape(kernel: str, x: Tensor, sizes: Mapping[str, int], **shipped: int) -> dict[str, int]:
    """The shape of a kernel's tiles: as it was measured to be the fastest here for such sizes, else as it ships."""
    if not CONFIGS:
        return shipped
    words = [kernel, *(f"{name}={tile(size, 1)}" for name, size in sizes.items()), str(x.dtype).removeprefix("torch.")]
    found = CONFIGS.get(f"{device_name(x.device)} | {' '.join(words)}", shipped)
    return {**found} if found.keys() == shipped.keys() else shipped


def math_of(x: Tensor) -> dict[str, Any]:
    """How products are taken: float32 as three of TF32, which is float32 but for the last bit, or as one where torch
    may do so; always summed in float32. The interpreter multiplies no bfloat16, so that it is widened there.
    """
    precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"
    return {"PRECISION": precision, "WIDEN": INTERPRETED and x.dtype == torch.bfloat16}


@jit
def product(a, b, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """a @ b"""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


def cross_entropy(
    x: Tensor,
    target: Tensor,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """`F.cross_entropy` of x [.., classes] and target [..], and z_loss logsumexp(x)^2 where a target is not ignored."""
    kept = target != ignore_index
    each = F.cross_entropy(
        x.reshape(-1, x.shape[-1]),
        target.flatten(),
        reduction="none",
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )
    each = each.view(target.shape) + z_loss * torch.where(kept, x.logsumexp(-1), 0.0).square()
    if reduction == "none":
        return each
    return each.sum() / kept.sum() if reduction == "mean" else each.sum()


LOGITS = 2**26  # so many are there at a time


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """`cross_entropy` of the logits weight x + bias, for x [.., c] and weight [classes, c]: those of some places at a
    time, which the backward pass makes again.
    """
    x, places = x.reshape(-1, x.shape[-1]), target.flatten()

    def losses(x: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(F.linear(x, weight, bias), target, "none", ignore_index, label_smoothing, z_loss)

    some = max(1, LOGITS // weight.shape[0])
    if torch.compiler.is_compiling() or x.shape[0] <= some:
        each = losses(x, places)
    else:
        parts = zip(x.split(some), places.split(some), strict=True)
        each = torch.cat([torch.utils.checkpoint.checkpoint(losses, *part, use_reentrant=False) for part in parts])
    if reduction == "none":
        return each.view(target.shape)
    return each.sum() / (places != ignore_index).sum() if reduction == "mean" else each.sum()


@jit
def entropy_rows(
    logits,
    target,
    loss,
    grad,
    units,
    ignored,
    smoothing,
    z,
    SMOOTH: tl.constexpr,
    LEARN: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The loss of a row of logits, and where these LEARN in their place their slopes: some logits at a time, twice."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * units
    chosen = tl.load(target + row)
    top, total, whole = float("-inf"), 0.0, 0.0
    for start in range(0, units, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        value = tl.load(logits + column, mask=column < units, other=float("-inf")).to(tl.float32)
        new_top = tl.maximum(top, tl.max(value, 0))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)  # where all so far are -inf
        total = total * tl.exp(top - base) + tl.sum(tl.exp(value - base), 0)
        if SMOOTH:
            whole += tl.sum(tl.where(column < units, value, 0.0), 0)
        top = new_top
    log = top + tl.log(total)
    kept = chosen != ignored
    right = tl.load(logits + chosen, mask=kept & (chosen >= 0) & (chosen < units), other=float("nan")).to(tl.float32)
    found = log - (1.0 - smoothing) * right + z * log * log
    if SMOOTH:
        found -= smoothing * whole / units
    tl.store(loss + row, tl.where(kept, found, 0.0))
    if LEARN:
        whole = tl.load(grad + row).to(tl.float32) if grad is not None else 1.0
        tl.debug_barrier()
        for start in range(0, units, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            value = tl.load(logits + column, mask=column < units, other=0.0).to(tl.float32)
            slope = (1.0 + 2.0 * z * log) * tl.exp(value - log) - smoothing / units
            slope = tl.where(kept, whole * (slope - tl.where(column == chosen, 1.0 - smoothing, 0.0)), 0.0)
            tl.store(logits + column, slope.to(logits.dtype.element_ty), mask=column < units)


def entropy_pass(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    ignored: int,
    smoothing: float,
    z: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The losses of x [rows, c] with weight [units, c], and if it is to `learn` the gradients of x, weight and bias for the
    `slope` of each loss, which is 1 where none is given.
    """
    rows, units, some = x.shape[0], weight.shape[0], max(1, LOGITS // weight.shape[0])
    shape = tile_shape("linear_cross_entropy.rows", x, dict(units=units), COLUMNS=min(tile(units), 4096), num_warps=8)
    loss, gradients = x.new_empty(rows, dtype=torch.float32), entropy_room(x, weight, learn)
    grad_x, grad_weight, grad_bias = gradients
    for start in range(0, rows, some):
        part = slice(start, start + some)
        slopes = torch.nn.functional.linear(x[part], weight, bias)
        given = target[part], loss[part], None if slope is None else slope[part]
        entropy_rows[(slopes.shape[0],)](
            slopes, *given, units, ignored, smoothing, z, SMOOTH=smoothing > 0, LEARN=learn, **shape
        )
        if learn:
            torch.mm(slopes, weight, out=grad_x[part])
            grad_bias += slopes.sum(0, dtype=torch.float32)
            # sums over rows may leave the range of float16
            kind = torch.float32 if x.dtype == torch.float16 else x.dtype
            grad_weight += slopes.to(kind).t() @ x[part].to(kind)
    return loss, grad_x, grad_weight, grad_bias


def entropy_room(x: Tensor, weight: Tensor, learn: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the gradients, where sums over rows start from 0."""
    grad_weight = x.new_zeros(weight.shape if learn else (0, 0), dtype=torch.float32)
    return x.new_empty(x.shape if learn else 0), grad_weight, grad_weight.new_zeros(grad_weight.shape[0])


@operation
def entropy_of_linear(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    ignored: int,
    smoothing: float,
    z: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sum of all losses, and if it is to `learn` the gradients of x, weight and bias."""
    loss, *gradients = entropy_pass(x, weight, target, bias, None, ignored, smoothing, z, learn)
    return loss.sum(), *gradients


@entropy_of_linear.register_fake
def entropy_of_linear_like(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    ignored: int,
    smoothing: float,
    z: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return x.new_empty((), dtype=torch.float32), *entropy_room(x, weight, learn)


def entropy_of_linear_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.kinds = [None if x is None else x.dtype for x in (inputs[0], inputs[1], inputs[3])]


def entropy_of_linear_gradients(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    """What was made with the loss, times its slope."""
    pairs = zip(ctx.saved_tensors, ctx.kinds, strict=True)
    grad_x, grad_weight, grad_bias = (None if kind is None else (made * grad).to(kind) for made, kind in pairs)
    return grad_x, grad_weight, None, grad_bias, None, None, None, None


entropy_of_linear.register_autograd(entropy_of_linear_gradients, setup_context=entropy_of_linear_keep)


@operation
def entropies_of_linear(
    x: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, ignored: int, smoothing: float, z: float
) -> Tensor:
    """The loss of each row; the slopes of these are not known yet, and the backward pass makes the logits again."""
    return entropy_pass(x, weight, target, bias, None, ignored, smoothing, z, False)[0]


@entropies_of_linear.register_fake
def entropies_of_linear_like(
    x: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, ignored: int, smoothing: float, z: float
) -> Tensor:
    return x.new_empty(x.shape[0], dtype=torch.float32)


@operation
def entropies_of_linear_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    ignored: int,
    smoothing: float,
    z: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, weight and bias."""
    return entropy_pass(x, weight, target, bias, grad.contiguous(), ignored, smoothing, z, True)[1:]


@entropies_of_linear_backward.register_fake
def entropies_of_linear_backward_like(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    ignored: int,
    smoothing: float,
    z: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return entropy_room(x, weight, True)


def entropies_of_linear_keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.given = inputs[4:]


def entropies_of_linear_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, target, bias = ctx.saved_tensors
    grad_x, grad_weight, grad_bias = entropies_of_linear_backward(grad, x, weight, target, bias, *ctx.given)
    grad_bias = None if bias is None else grad_bias.to(bias.dtype)
    return grad_x, grad_weight.to(weight.dtype), None, grad_bias, None, None, None


entropies_of_linear.register_autograd(entropies_of_linear_gradients, setup_context=entropies_of_linear_keep)


def triton_linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """`linear_cross_entropy` by kernels."""
    if not runs(x, weight, bias) or not x.numel() or not weight.numel():
        return linear_cross_entropy(x, weight, target, bias, reduction, ignore_index, label_smoothing, z_loss)
    rows, weight, *given = alike(x, weight, *([] if bias is None else [bias]))
    learn = torch.is_grad_enabled() and any(y.requires_grad for y in (rows, weight, *given))
    places, bias = target.flatten(), given[0] if given else None
    rows = rows.reshape(-1, x.shape[-1])
    if reduction == "none":
        each = entropies_of_linear(rows, weight, places, bias, ignore_index, label_smoothing, z_loss).view(target.shape)
        return each if torch.is_autocast_enabled(x.device.type) else each.to(x.dtype)
    total = entropy_of_linear(rows, weight, places, bias, ignore_index, label_smoothing, z_loss, learn)[0]
    total = total / (places != ignore_index).sum() if reduction == "mean" else total
    return total if torch.is_autocast_enabled(x.device.type) else total.to(x.dtype)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 1024)
        self.second = nn.Linear(8, 1024)

    def forward(self, x: torch.Tensor, next: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if x.ndim != 3 or x.shape[2] != 8:
            raise ValueError(f"x must be [b, t, c = 8], and is {list(x.shape)}")
        if next.ndim != 2:
            raise ValueError(f"next must be int[b, t], and is {list(next.shape)}")
        if weight.ndim != 2:
            raise ValueError(f"weight must be [b, t], and is {list(weight.shape)}")
        b, t, _ = x.shape
        if next.shape[0] != b:
            raise ValueError(f"axis b of next must be b = {b}, and is {next.shape[0]}")
        if next.shape[1] != t:
            raise ValueError(f"axis t of next must be t = {t}, and is {next.shape[1]}")
        if weight.shape[0] != b:
            raise ValueError(f"axis b of weight must be b = {b}, and is {weight.shape[0]}")
        if weight.shape[1] != t:
            raise ValueError(f"axis t of weight must be t = {t}, and is {weight.shape[1]}")
        mean = triton_linear_cross_entropy(x, self.first.weight, next, bias=self.first.bias, z_loss=0.01)
        y = triton_linear_cross_entropy(x, self.second.weight, next, bias=self.second.bias, reduction="none")
        return mean + (weight * y).sum((0, 1))

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
