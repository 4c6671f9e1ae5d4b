"""Swin Transformer: Hierarchical Vision Transformer using Shifted Windows (Liu et al., ICCV 2021)."""
# Made by archlang 0.1.0 from swin.arch (sha256 be475dfc16d7c6db): swin/tiny classes=3 depths=[2] dim=4 heads=[1] resolution=24 window=3

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
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


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))


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


CHAIN_WIDTH = 4096  # of a row that a program holds whole
CHAIN_PARTS = 1024  # so many programs sum the slopes of weights


@jit
def chain_row(steps, row, inner):
    """Where rows start: `inner` of them at one step, and these at another."""
    return (row // inner).to(tl.int64) * steps[0] + (row % inner).to(tl.int64) * steps[1]


@jit
def chain_load(x, steps, row, inner, column, here):
    """A tile of numbers; beyond the last row and column 1, where functions have no poles."""
    at = chain_row(steps, row, inner)[:, None] + column[None, :]
    return tl.load(x + at, mask=here, other=1.0).to(tl.float32)


@jit
def chain_sum(x, here, along: tl.constexpr = 1):
    """The sum of each row, or of each column, along 0."""
    return tl.sum(tl.where(here, x, 0.0), along, keep_dims=True)


@jit
def chain_peak(x, here, along: tl.constexpr = 1):
    """The largest number of each row, or of each column, along 0."""
    return tl.max(tl.where(here, x, float("-inf")), along, keep_dims=True)


@jit
def chain_below(x, here, along: tl.constexpr = 1):
    """How far numbers are below the largest of their row, or of their column; what is not there, without end."""
    return tl.where(here, x - chain_peak(x, here, along), float("-inf"))


@jit
def chain_tanh(x):
    """tanh, near 0 by its series: a difference of numbers near 1 would leave no digits."""
    square = x * x
    series = -0.05396825396825397 + square * 0.021869488536155203
    series = x + x * square * (-0.3333333333333333 + square * (0.13333333333333333 + square * series))
    return tl.where(square < 0.0625, series, 2.0 * tl.sigmoid(2.0 * x) - 1.0)


@jit
def chain_log1p(x):
    """log(1 + x), by the number that 1 + x is rounded to."""
    rounded = 1.0 + x
    return tl.where(rounded == 1.0, x, tl.log(rounded) * (x / tl.where(rounded == 1.0, 1.0, rounded - 1.0)))


@jit
def chain_expm1(x):
    """e^x - 1, near 0 by its series."""
    series = 0.16666666666666666 + x * (0.041666666666666664 + x * (0.008333333333333333 + x * 0.001388888888888889))
    return tl.where(tl.abs(x) < 0.25, x + x * x * (0.5 + x * series), tl.exp(x) - 1.0)


@jit
def chain_softplus(x):
    """log(1 + e^x), which is x where e^x is all there is."""
    return tl.where(x > 20.0, x, chain_log1p(tl.exp(tl.minimum(x, 20.0))))


def chain_rows(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], int, list[tuple[int, int]]]:
    """Tensors [*rows, c] such that their rows lie at two steps: `inner` of them at one, and these at the other; copies
    where they lie at more.
    """
    found: list[tuple[int, list[int]]] = []
    for i in reversed(range(tensors[0].ndim - 1)):
        size, steps = tensors[0].shape[i], [x.stride(i) for x in tensors]
        if found and steps == [found[-1][0] * step for step in found[-1][1]]:
            found[-1] = found[-1][0] * size, found[-1][1]
        elif size != 1:
            found.append((size, steps))
    if len(found) > 2:
        return chain_rows([x.contiguous() for x in tensors])
    (inner, near), (_, far) = (*found, *[(1, [0] * len(tensors))] * 2)[:2]
    return tensors, inner, list(zip(far, near, strict=True))


def chain_call(kernel: str, x: Tensor, whole: bool) -> dict[str, Any]:
    """What kernels are told of x [*rows, c]: counts, and the shape of a tile, which has 1024 numbers, or a row."""
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    columns = tile(width, 1) if whole else min(tile(width, 1), 1024)
    height = max(1, min(tile(rows, 1), 1024 // columns))
    shape = tile_shape(kernel, x, dict(c=width), ROWS=height, num_warps=min(16, max(1, height * columns // 256)))
    return dict(rows=rows, width=width, tiles=triton.cdiv(width, columns), COLUMNS=columns, **shape)


def chain_kind(*tensors: Tensor) -> torch.dtype:
    """The dtype of what tensors make together."""
    kind = tensors[0].dtype
    for x in tensors[1:]:
        kind = torch.promote_types(kind, x.dtype)
    return kind


def chain_flat(*tensors: Tensor) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    """Tensors of one shape as one row, in the order in which the first lies in memory, and the way back."""
    first = tensors[0]
    order = list(range(first.ndim))
    if not first.is_contiguous():
        order.sort(key=lambda i: -first.stride(i))
    back = [order.index(i) for i in range(first.ndim)]
    shape = [first.shape[i] for i in order]
    return [x.permute(order).reshape(1, -1) for x in tensors], lambda y: y.view(shape).permute(back)


@jit
def fused_add_layer_norm_forward(
    x_in,
    stochastic_depth_in,
    weight_in,
    bias_in,
    add_out,
    add2_out,
    eps,
    x_steps,
    stochastic_depth_steps,
    inner,
    rows,
    width,
    tiles,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """add, layer_norm: a tile of rows."""
    row = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (column < width)[None, :]
    here = (row < rows)[:, None] & (column < width)[None, :]
    x = chain_load(x_in, x_steps, row, inner, column, here)
    stochastic_depth = chain_load(stochastic_depth_in, stochastic_depth_steps, row, inner, column, here)
    weight = tl.load(weight_in + column, mask=column < width, other=1.0).to(tl.float32)[None, :]
    bias = tl.load(bias_in + column, mask=column < width, other=1.0).to(tl.float32)[None, :]
    add = x + stochastic_depth
    centred = add - chain_sum(add, inside) / width
    mul = centred * tl.rsqrt(chain_sum(centred * centred, inside) / width + eps) * weight
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(add_out + at, add.to(add_out.dtype.element_ty), mask=here)
    tl.store(add2_out + at, (mul + bias).to(add2_out.dtype.element_ty), mask=here)


@jit
def fused_add_layer_norm_backward(
    grad_add_in,
    grad_add2_in,
    x_in,
    stochastic_depth_in,
    weight_in,
    bias_in,
    grad_x_out,
    grad_stochastic_depth_out,
    grad_weight_out,
    grad_bias_out,
    eps,
    grad_add_steps,
    grad_add2_steps,
    x_steps,
    stochastic_depth_steps,
    inner,
    rows,
    width,
    tiles,
    each,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The slopes of add, layer_norm: of one tile of rows after another, those of what all rows share as a sum over them."""
    part = tl.program_id(0) // tiles
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    weight = tl.load(weight_in + column, mask=column < width, other=1.0).to(tl.float32)[None, :]
    inside = (column < width)[None, :]
    sum_weight = tl.zeros([ROWS, COLUMNS], tl.float32)
    sum_bias = tl.zeros([ROWS, COLUMNS], tl.float32)
    for step in range(part * each, (part + 1) * each):
        row = step * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < width)[None, :]
        grad_add = chain_load(grad_add_in, grad_add_steps, row, inner, column, here)
        grad_add2 = chain_load(grad_add2_in, grad_add2_steps, row, inner, column, here)
        x = chain_load(x_in, x_steps, row, inner, column, here)
        stochastic_depth = chain_load(stochastic_depth_in, stochastic_depth_steps, row, inner, column, here)
        add = x + stochastic_depth
        centred = add - chain_sum(add, inside) / width
        scale = tl.rsqrt(chain_sum(centred * centred, inside) / width + eps)
        product = grad_add2 * weight
        ratio = -0.5 * chain_sum(product * centred, inside) * scale * scale * scale / width
        product2 = ratio * centred
        add2 = product * scale + product2 + product2
        grad_x = grad_add + add2 + chain_sum(-add2, inside) / width
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        tl.store(grad_x_out + at, grad_x.to(grad_x_out.dtype.element_ty), mask=here)
        tl.store(grad_stochastic_depth_out + at, grad_x.to(grad_stochastic_depth_out.dtype.element_ty), mask=here)
        sum_weight += tl.where(here, (grad_add2 * (centred * scale)), 0.0)
        sum_bias += tl.where(here, grad_add2, 0.0)
    tl.store(grad_weight_out + part.to(tl.int64) * width + column, tl.sum(sum_weight, 0), mask=column < width)
    tl.store(grad_bias_out + part.to(tl.int64) * width + column, tl.sum(sum_bias, 0), mask=column < width)


@operation
def fused_add_layer_norm_step(
    x: Tensor, stochastic_depth: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """add, layer_norm of rows [.., c]."""
    rows, inner, steps = chain_rows([dense(x), dense(stochastic_depth)])
    add, add2 = fused_add_layer_norm_like(x, stochastic_depth, weight, bias, eps)
    call = chain_call("fused_add_layer_norm.forward", x, True)
    grid = (call["tiles"] * triton.cdiv(call["rows"], call["ROWS"]),)
    fused_add_layer_norm_forward[grid](*rows, weight, bias, add, add2, eps, *steps, inner, **call)
    return add, add2


@fused_add_layer_norm_step.register_fake
def fused_add_layer_norm_like(
    x: Tensor, stochastic_depth: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    kind = chain_kind(x, stochastic_depth, weight, bias)
    return tuple(x.new_empty(x.shape, dtype=kind) for _ in range(2))


@operation
def fused_add_layer_norm_slopes(
    grad_add: Tensor, grad_add2: Tensor, x: Tensor, stochastic_depth: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of all inputs; torch adds what the programs have summed."""
    given = [dense(grad_add), dense(grad_add2), dense(x), dense(stochastic_depth)]
    rows, inner, steps = chain_rows(given)
    made = list(fused_add_layer_norm_slopes_like(grad_add, grad_add2, x, stochastic_depth, weight, bias, eps))
    call = chain_call("fused_add_layer_norm.backward", x, True)
    count = triton.cdiv(call["rows"], call["ROWS"])
    each = triton.cdiv(count, max(1, CHAIN_PARTS // call["tiles"]))
    parts = triton.cdiv(count, each)
    made[2] = x.new_empty(parts, call["width"], dtype=torch.float32)
    made[3] = x.new_empty(parts, call["width"], dtype=torch.float32)
    grid = (call["tiles"] * parts,)
    fused_add_layer_norm_backward[grid](*rows, weight, bias, *made, eps, *steps, inner, each=each, **call)
    made[2] = made[2].sum(0).to(weight.dtype)
    made[3] = made[3].sum(0).to(bias.dtype)
    return tuple(made)


@fused_add_layer_norm_slopes.register_fake
def fused_add_layer_norm_slopes_like(
    grad_add: Tensor, grad_add2: Tensor, x: Tensor, stochastic_depth: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (x, stochastic_depth, weight, bias))


def fused_add_layer_norm_keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.given = inputs[4:]


def fused_add_layer_norm_gradients(ctx: Any, grad_add: Tensor, grad_add2: Tensor) -> tuple[Tensor | None, ...]:
    return *fused_add_layer_norm_slopes(grad_add, grad_add2, *ctx.saved_tensors, *ctx.given), None


fused_add_layer_norm_step.register_autograd(fused_add_layer_norm_gradients, setup_context=fused_add_layer_norm_keep)


def fused_add_layer_norm_plain(
    x: Tensor, stochastic_depth: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """add, layer_norm in PyTorch."""
    add = x + stochastic_depth
    add2 = F.layer_norm(add, add.shape[-1:], eps=eps) * weight + bias
    return add, add2


def fused_add_layer_norm(
    x: Tensor, stochastic_depth: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """add, layer_norm in one kernel."""
    if not runs(x, stochastic_depth, weight, bias) or not x.numel() or x.shape[-1] > CHAIN_WIDTH:
        return fused_add_layer_norm_plain(x, stochastic_depth, weight, bias, eps)
    return fused_add_layer_norm_step(x, stochastic_depth, weight, bias, eps)


def offset_index(window: Sequence[int], table: Sequence[int] | None = None) -> Tensor:
    """index[i, j]: the row of the offset from place j to place i, the first axis the slowest, in the table of a window
    as large or larger.
    """
    index = torch.zeros(1, 1, dtype=torch.long)
    for size, most in zip(window, table or window, strict=True):
        offset = torch.arange(size)[:, None] - torch.arange(size) + most - 1
        index = index[:, None, :, None] * (2 * most - 1) + offset[:, None]
        index = index.flatten(0, 1).flatten(1)
    return index


class RelativePosition(nn.Module):
    """bias[head, i, j] = weight[row of the offset from place j to place i, head]"""

    index: Tensor

    def __init__(self, window: Sequence[int], heads: int, table: Sequence[int] | None = None) -> None:
        super().__init__()
        rows = prod(2 * size - 1 for size in table or window)
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, heads), std=0.02))
        self.register_buffer("index", offset_index(window, table), persistent=False)

    def forward(self) -> Tensor:
        return self.weight.T[:, self.index]


def shift_bias(
    space: Sequence[int],
    window: Sequence[int],
    shift: Sequence[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """0 where two places of a shifted window are neighbours on the map, -inf where the shift wrapped one of them:
    [windows, 1, places, places].
    """
    same = torch.ones(1, 1, 1, dtype=torch.bool, device=device)
    for size, side, step in zip(space, window, shift, strict=True):
        wrapped = (torch.arange(size, device=device) >= size - step).reshape(-1, side)
        pairs = wrapped[:, :, None] == wrapped[:, None]
        same = same[:, None, :, None, :, None] & pairs[None, :, None, :, None]
        same = same.flatten(0, 1).flatten(1, 2).flatten(2)
    return torch.zeros((), dtype=dtype, device=device).where(same, float("-inf"))[:, None]


@jit
def map_load(x, row, stride, here, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """A row of x for each place that is here, 0 elsewhere and beyond the width."""
    column = tl.arange(0, COLUMNS)
    seen = here[:, None] & (column < WIDTH)[None, :]
    return tl.load(x + row.to(tl.int64)[:, None] * stride + column[None, :], mask=seen, other=0.0)


@jit
def map_store(x, row, stride, here, value, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """A row of x for each place that is here."""
    column = tl.arange(0, COLUMNS)
    seen = here[:, None] & (column < WIDTH)[None, :]
    tl.store(x + row.to(tl.int64)[:, None] * stride + column[None, :], value.to(x.dtype.element_ty), mask=seen)


def flat_strides(x: Tensor) -> tuple[int, int, int]:
    """From sample to sample, place to place and head to head of x [batch, *map, heads, c]."""
    return x.stride(0), x.stride(-3), x.stride(-2)


def flat_map(x: Tensor) -> Tensor:
    """x [batch, *map, heads, c] such that places follow one another at equal steps; a copy only where they do not."""
    return dense(x.flatten(1, -3)).unflatten(1, x.shape[1:-2])


@jit
def softmax_weights(logits, top, total):
    """exp(logits - top) with the largest logit so far as `top`, what exponentials before are worth now, that logit, and
    the sum of all.
    """
    new_top = tl.maximum(top, tl.max(logits, 1))
    base = tl.where(new_top == float("-inf"), 0.0, new_top)  # for rows that have seen nothing yet
    weights, kept = tl.exp(logits - base[:, None]), tl.exp(top - base)
    return weights, kept, new_top, total * kept + tl.sum(weights, 1)


def short_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, drop: float = 0.0, scale: float | None = None
) -> Tensor:
    """softmax(scale * q k^T + bias) v of [.., places, c], written out: with few keys faster than the fused kernel on a
    CPU.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = q @ k.mT * scale if bias is None else torch.add(bias, q @ k.mT, alpha=scale)
    weights = weights.softmax(-1)
    return (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Sequence[int],
    shift: Sequence[int] | None = None,
    step: Sequence[int] | None = None,
    spread: bool = False,
    bias: Tensor | None = None,
    border: Tensor | None = None,
    scale: float | None = None,
    drop: float = 0.0,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
    core: Callable[..., Tensor] = short_attention,
) -> Tensor:
    """Attention inside each window of q, k, v: [batch, *map, heads, c], each of which may lack batch and heads. `shift`
    moves the windows, the places of one are `step` apart, or `spread` over the map. `border` keeps apart what the shift
    wrapped, beside a `bias` [.., heads, query, key], which may have batch and windows before. `mask` [batch, *map,
    heads] says which keys are there, `segments` [batch, *map, heads] in which document each place is.
    """
    rank, space = len(window), q.shape[1:-2]
    steps = [size // side for size, side in zip(space, window, strict=True)] if spread else step or [1] * rank
    counts = [size // (side * gap) for size, side, gap in zip(space, window, steps, strict=True)]
    sizes = [size for axis in zip(counts, window, steps, strict=True) for size in axis]
    axes = list(range(1, rank + 1))
    outer = [at for axis in range(rank) for at in (3 * axis + 1, 3 * axis + 3)]
    inner = [3 * axis + 2 for axis in range(rank)]

    def cut(x: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [batch, windows, heads, places, c]"""
        if shift is not None:
            x = x.roll([-move for move in shift], axes)
        x = x.reshape(x.shape[0], *sizes, *x.shape[-2:])
        x = x.permute(0, *outer, 3 * rank + 1, *inner, 3 * rank + 2)
        return x.flatten(2 * rank + 2, -2).flatten(1, 2 * rank)

    def places(x: Tensor) -> Tensor:
        """[batch, *map, heads] -> [batch, windows, heads, places, 1]"""
        return cut(x.expand(-1, *space, -1)[..., None])

    if border is not None:
        bias = border if bias is None else bias + border
    if mask is not None:
        bias = torch.where(places(mask).mT, 0.0 if bias is None else bias, float("-inf")).to(q.dtype)
    if segments is not None:
        own = places(segments)
        bias = torch.where(own == own.mT, 0.0 if bias is None else bias, float("-inf")).to(q.dtype)
    x = core(cut(q), cut(k), cut(v), bias, drop, scale=scale)
    batch, heads = x.shape[0], x.shape[2]
    x = x.reshape(batch, *(sizes[at - 1] for at in outer), heads, *window, x.shape[-1])
    order = [at for axis in range(rank) for at in (2 * axis + 1, 2 * rank + 2 + axis, 2 * axis + 2)]
    x = x.permute(0, *order, 2 * rank + 1, 3 * rank + 2).reshape(batch, *space, heads, x.shape[-1])
    return x if shift is None else x.roll(list(shift), axes)


@jit
def window_token(cell, place, size, step, shift, SIDE: tl.constexpr):
    """Where a place of a cell lies on the map, and a number that places share which see each other: which borders the shift has wrapped there."""
    row, stride = place * 0, 1
    side = place * 0
    at, cell = cell % (size[1] // SIDE[1]), cell // (size[1] // SIDE[1])
    x = (at // step[1] * SIDE[1] + place % SIDE[1]) * step[1] + at % step[1]
    place = place // SIDE[1]
    side = side * 2 + (x >= size[1] - shift[1]).to(tl.int32)
    x += tl.where(x >= size[1] - shift[1], shift[1] - size[1], shift[1])
    row, stride = row + x * stride, stride * size[1]
    at, cell = cell % (size[0] // SIDE[0]), cell // (size[0] // SIDE[0])
    x = (at // step[0] * SIDE[0] + place % SIDE[0]) * step[0] + at % step[0]
    side = side * 2 + (x >= size[0] - shift[0]).to(tl.int32)
    x += tl.where(x >= size[0] - shift[0], shift[0] - size[0], shift[0])
    row, stride = row + x * stride, stride * size[0]
    return row, side


@jit
def window_logits(a, b, scale, seen, bias, offset, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """scale * a b^T + bias where it is seen, else -inf."""
    logits = product(a, tl.trans(b), PRECISION, WIDEN) * scale
    if bias is not None:
        logits += tl.load(bias + offset)
    return tl.where(seen, logits, float("-inf"))


@jit
def window_attention_forward(
    q,
    k,
    v,
    bias,
    out,
    lse,
    scale,
    cells,
    heads,
    group,
    places,
    q_strides,
    k_strides,
    v_strides,
    size,
    step,
    shift,
    SIDE: tl.constexpr,
    ROWS: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """A tile of queries of one window and head, against the keys of the window tile by tile."""
    PLACES: tl.constexpr = SIDE[0] * SIDE[1]
    at, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    batch, cell = (tl.program_id(0) // cells).to(tl.int64), tl.program_id(0) % cells
    q += batch * q_strides[0] + head * q_strides[2]
    k += batch * k_strides[0] + head // group * k_strides[2]
    v += batch * v_strides[0] + head // group * v_strides[2]
    SPAN: tl.constexpr = (PLACES + ROWS - 1) // ROWS * ROWS
    bias = bias[0] + batch * bias[1] + tl.cast(cell, tl.int64) * bias[2] + head * bias[3] if bias is not None else None
    out += (batch * places * heads + head) * D
    query = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    row, side = window_token(cell, query, size, step, shift, SIDE)
    q_tile = map_load(q, row, q_strides[1], query < PLACES, C, CHANNELS)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    value = tl.zeros([ROWS, VALUES], tl.float32)
    for start in range(0, PLACES, ROWS):
        key = start + tl.arange(0, ROWS)
        row_k, side_k = window_token(cell, key, size, step, shift, SIDE)
        there = key < PLACES
        seen = (query < PLACES)[:, None] & there[None, :]
        seen &= side[:, None] == side_k[None, :]
        k_tile = map_load(k, row_k, k_strides[1], key < PLACES, C, CHANNELS)
        v_tile = map_load(v, row_k, v_strides[1], key < PLACES, D, VALUES)
        logits = window_logits(
            q_tile, k_tile, scale, seen, bias, query[:, None] * SPAN + key[None, :], PRECISION, WIDEN
        )
        weights, kept, top, total = softmax_weights(logits, top, total)
        value = value * kept[:, None] + product(weights.to(v_tile.dtype), v_tile, PRECISION, WIDEN)
    safe = tl.where(total > 0, total, 1.0)
    map_store(out, row, heads * D, query < PLACES, value / safe[:, None], D, VALUES)
    base = tl.where(total > 0, top + tl.log(safe), float("inf"))  # no weights where nothing is seen
    tl.store(lse + (at * heads + head) * PLACES + query, base, mask=query < PLACES)


@jit
def window_attention_backward_queries(
    grad,
    q,
    k,
    v,
    bias,
    out,
    lse,
    mean,
    grad_q,
    scale,
    cells,
    heads,
    group,
    places,
    q_strides,
    k_strides,
    v_strides,
    size,
    step,
    shift,
    SIDE: tl.constexpr,
    ROWS: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The gradient of a tile of queries, and the mean slope of each of them."""
    PLACES: tl.constexpr = SIDE[0] * SIDE[1]
    at, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    batch, cell = (tl.program_id(0) // cells).to(tl.int64), tl.program_id(0) % cells
    k += batch * k_strides[0] + head // group * k_strides[2]
    v += batch * v_strides[0] + head // group * v_strides[2]
    SPAN: tl.constexpr = (PLACES + ROWS - 1) // ROWS * ROWS
    bias = bias[0] + batch * bias[1] + tl.cast(cell, tl.int64) * bias[2] + head * bias[3] if bias is not None else None
    first = batch * places * heads + head
    query = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    here = query < PLACES
    row, side = window_token(cell, query, size, step, shift, SIDE)
    q_tile = map_load(q + batch * q_strides[0] + head * q_strides[2], row, q_strides[1], here, C, CHANNELS)
    grad_tile = map_load(grad + first * D, row, heads * D, here, D, VALUES)
    out_tile = map_load(out + first * D, row, heads * D, here, D, VALUES)
    lse_tile = tl.load(lse + (at * heads + head) * PLACES + query, mask=here, other=float("inf"))
    mean_tile = tl.sum(grad_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    tl.store(mean + (at * heads + head) * PLACES + query, mean_tile, mask=here)
    value = tl.zeros([ROWS, CHANNELS], tl.float32)
    for start in range(0, PLACES, ROWS):
        key = start + tl.arange(0, ROWS)
        row_k, side_k = window_token(cell, key, size, step, shift, SIDE)
        there = key < PLACES
        seen = here[:, None] & there[None, :]
        seen &= side[:, None] == side_k[None, :]
        k_tile = map_load(k, row_k, k_strides[1], key < PLACES, C, CHANNELS)
        v_tile = map_load(v, row_k, v_strides[1], key < PLACES, D, VALUES)
        logits = window_logits(
            q_tile, k_tile, scale, seen, bias, query[:, None] * SPAN + key[None, :], PRECISION, WIDEN
        )
        weights = tl.exp(logits - lse_tile[:, None])
        slope = weights * (product(grad_tile, tl.trans(v_tile), PRECISION, WIDEN) - mean_tile[:, None])
        value += product(slope.to(k_tile.dtype), k_tile, PRECISION, WIDEN)
    map_store(grad_q + first * C, row, heads * C, here, value * scale, C, CHANNELS)


@jit
def window_attention_backward_keys(
    grad,
    q,
    k,
    v,
    bias,
    lse,
    mean,
    grad_k,
    grad_v,
    scale,
    cells,
    heads,
    group,
    places,
    q_strides,
    k_strides,
    v_strides,
    size,
    step,
    shift,
    SIDE: tl.constexpr,
    ROWS: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The gradients of a tile of keys and values, for the queries of one head."""
    PLACES: tl.constexpr = SIDE[0] * SIDE[1]
    at, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    batch, cell = (tl.program_id(0) // cells).to(tl.int64), tl.program_id(0) % cells
    q += batch * q_strides[0] + head * q_strides[2]
    k += batch * k_strides[0] + head // group * k_strides[2]
    v += batch * v_strides[0] + head // group * v_strides[2]
    SPAN: tl.constexpr = (PLACES + ROWS - 1) // ROWS * ROWS
    bias = bias[0] + batch * bias[1] + tl.cast(cell, tl.int64) * bias[2] + head * bias[3] if bias is not None else None
    first = batch * places * heads + head
    key = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    here = key < PLACES
    row_k, side_k = window_token(cell, key, size, step, shift, SIDE)
    there = key < PLACES
    k_tile = map_load(k, row_k, k_strides[1], here, C, CHANNELS)
    v_tile = map_load(v, row_k, v_strides[1], here, D, VALUES)
    k_sum = tl.zeros([ROWS, CHANNELS], tl.float32)
    v_sum = tl.zeros([ROWS, VALUES], tl.float32)
    for start in range(0, PLACES, ROWS):
        query = start + tl.arange(0, ROWS)
        row, side = window_token(cell, query, size, step, shift, SIDE)
        seen = there[:, None] & (query < PLACES)[None, :]
        seen &= side_k[:, None] == side[None, :]
        q_tile = map_load(q, row, q_strides[1], query < PLACES, C, CHANNELS)
        grad_tile = map_load(grad + first * D, row, heads * D, query < PLACES, D, VALUES)
        lse_tile = tl.load(lse + (at * heads + head) * PLACES + query, mask=query < PLACES, other=float("inf"))
        mean_tile = tl.load(mean + (at * heads + head) * PLACES + query, mask=query < PLACES, other=0.0)
        logits = window_logits(
            k_tile, q_tile, scale, seen, bias, key[:, None] + query[None, :] * SPAN, PRECISION, WIDEN
        )
        weights = tl.exp(logits - lse_tile[None, :])
        slope = weights * (product(v_tile, tl.trans(grad_tile), PRECISION, WIDEN) - mean_tile[None, :])
        v_sum += product(weights.to(grad_tile.dtype), grad_tile, PRECISION, WIDEN)
        k_sum += product(slope.to(q_tile.dtype), q_tile, PRECISION, WIDEN)
    map_store(grad_k + first * C, row_k, heads * C, here, k_sum * scale, C, CHANNELS)
    map_store(grad_v + first * D, row_k, heads * D, here, v_sum, D, VALUES)


@jit
def window_attention_backward_bias(
    grad,
    q,
    k,
    v,
    bias,
    lse,
    mean,
    grad_bias,
    scale,
    parts,
    each,
    count,
    kind_step,
    window_step,
    cells,
    heads,
    group,
    places,
    q_strides,
    k_strides,
    v_strides,
    size,
    step,
    shift,
    SIDE: tl.constexpr,
    ROWS: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The gradient of a tile of the bias of one head, summed over some of the windows that share it, which are of one kind."""
    PLACES: tl.constexpr = SIDE[0] * SIDE[1]
    SPAN: tl.constexpr = (PLACES + ROWS - 1) // ROWS * ROWS
    kind, part, head = tl.program_id(0) // parts, tl.program_id(0) % parts, tl.program_id(1).to(tl.int64)
    query = tl.program_id(2) // (SPAN // ROWS) * ROWS + tl.arange(0, ROWS)
    key = tl.program_id(2) % (SPAN // ROWS) * ROWS + tl.arange(0, ROWS)
    first = kind * kind_step
    batch, cell = tl.cast(first // cells, tl.int64), first % cells
    bias = bias[0] + batch * bias[1] + tl.cast(cell, tl.int64) * bias[2] + head * bias[3]
    bias_sum = tl.zeros([ROWS, ROWS], tl.float32)
    for turn in range(part * each, tl.minimum((part + 1) * each, count)):
        window = first + turn * window_step
        at = tl.cast(window, tl.int64)
        batch, cell = tl.cast(window // cells, tl.int64), window % cells
        row, side = window_token(cell, query, size, step, shift, SIDE)
        row_k, side_k = window_token(cell, key, size, step, shift, SIDE)
        there = key < PLACES
        seen = (query < PLACES)[:, None] & there[None, :]
        seen &= side[:, None] == side_k[None, :]
        q_tile = map_load(
            q + batch * q_strides[0] + head * q_strides[2], row, q_strides[1], query < PLACES, C, CHANNELS
        )
        k_tile = map_load(
            k + batch * k_strides[0] + head // group * k_strides[2], row_k, k_strides[1], key < PLACES, C, CHANNELS
        )
        v_tile = map_load(
            v + batch * v_strides[0] + head // group * v_strides[2], row_k, v_strides[1], key < PLACES, D, VALUES
        )
        grad_tile = map_load(grad + (batch * places * heads + head) * D, row, heads * D, query < PLACES, D, VALUES)
        lse_tile = tl.load(lse + (at * heads + head) * PLACES + query, mask=query < PLACES, other=float("inf"))
        mean_tile = tl.load(mean + (at * heads + head) * PLACES + query, mask=query < PLACES, other=0.0)
        logits = window_logits(
            q_tile, k_tile, scale, seen, bias, query[:, None] * SPAN + key[None, :], PRECISION, WIDEN
        )
        weights = tl.exp(logits - lse_tile[:, None])
        bias_sum += weights * (product(grad_tile, tl.trans(v_tile), PRECISION, WIDEN) - mean_tile[:, None])
    grad_bias += (tl.program_id(0) * heads + head) * SPAN * SPAN
    tl.store(grad_bias + query[:, None] * SPAN + key[None, :], bias_sum)


def window_call(
    part: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Tensor | None,
    window: list[int],
    step: list[int],
    shift: list[int],
) -> dict[str, Any]:
    """What every kernel of a call is told: counts, strides, and the shape of a tile."""
    places, count, heads, c = prod(window), prod(q.shape[1:-2]), q.shape[-2], q.shape[-1]
    half = q.element_size() == 2
    rows = min(tile(places), 32 if half else 16)
    sizes = dict(places=places, c=c, d=v.shape[-1])
    return dict(
        cells=count // places,
        heads=heads,
        group=heads // k.shape[-2],
        places=count,
        q_strides=flat_strides(q),
        k_strides=flat_strides(k),
        v_strides=flat_strides(v),
        size=(*q.shape[1:-2],),
        step=(*step,),
        shift=(*shift,),
        SIDE=(*window,),
        C=c,
        CHANNELS=tile(c),
        D=v.shape[-1],
        VALUES=tile(v.shape[-1]),
        **math_of(q),
        **tile_shape(
            f"window_attention.{part}",
            q,
            sizes,
            ROWS=rows,
            num_warps=4,
            num_stages=1 if half or part == "forward" else 2,
        ),
    )


def window_bias(bias: Tensor | None, rows: int) -> tuple[Tensor, int, int, int] | None:
    """A bias [batch, windows, heads, places, places], of size 1 along what it does not depend on, in whole tiles: rows of
    a tile then lie at steps that are known. With the steps from sample to sample, window to window, head to head.
    """
    if bias is None:
        return None
    ahead = -bias.shape[-1] % rows
    bias = torch.nn.functional.pad(bias, (0, ahead, 0, ahead)).contiguous()
    batch, window, head = (bias.stride(axis) if bias.shape[axis] > 1 else 0 for axis in range(3))
    return bias, batch, window, head


@operation
def attend_in_windows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    window: list[int],
    step: list[int],
    shift: list[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The output, and of every query the logarithm of what softmax divides by: [windows, heads, places]."""
    call = window_call("forward", q := flat_map(q), k := flat_map(k), v := flat_map(v), segments, window, step, shift)
    out, lse = attend_in_windows_like(q, k, v, bias, mask, segments, sink, window, step, shift, scale)
    bias = window_bias(bias, call["ROWS"])
    grid = lse.shape[0], lse.shape[1], triton.cdiv(lse.shape[2], call["ROWS"])
    window_attention_forward[grid](q, k, v, bias, out, lse, scale, **call)
    return out, lse


@attend_in_windows.register_fake
def attend_in_windows_like(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    window: list[int],
    step: list[int],
    shift: list[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    places = prod(window)
    lse = q.new_empty(q.shape[0] * prod(q.shape[1:-2]) // places, q.shape[-2], places, dtype=torch.float32)
    return q.new_empty(*q.shape[:-1], v.shape[-1]), lse


@operation
def attend_in_windows_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    out: Tensor,
    lse: Tensor,
    window: list[int],
    step: list[int],
    shift: list[int],
    scale: float,
    learned: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, of a bias that is learned, and of the sink."""
    q, k, v, grad = flat_map(q), flat_map(k), flat_map(v), grad.contiguous()
    call = window_call("backward", q, k, v, segments, window, step, shift)
    total, heads, places = lse.shape
    grad_q, grad_k, grad_v = (q.new_empty(*q.shape[:-1], x.shape[-1]) for x in (q, k, v))
    grad_bias, grad_sink = lse.new_empty(0), lse.new_empty(0)
    bias = window_bias(given := bias, call["ROWS"])
    mean, tiles = torch.empty_like(lse), triton.cdiv(places, call["ROWS"])
    window_attention_backward_queries[total, heads, tiles](grad, q, k, v, bias, out, lse, mean, grad_q, scale, **call)
    window_attention_backward_keys[total, heads, tiles](grad, q, k, v, bias, lse, mean, grad_k, grad_v, scale, **call)
    if learned:
        kinds, cells = prod(given.shape[:2]), call["cells"]
        steps = cells, 1  # from kind to kind of windows, and from one of a kind to the next
        if given.shape[1] > 1:
            steps = 1, cells
        each = triton.cdiv(total // kinds, max(1, 1024 // (heads * kinds)))
        parts = triton.cdiv(total // kinds, each)
        grad_bias = lse.new_empty(*given.shape[:2], parts, heads, *bias[0].shape[-2:])
        grid = kinds * parts, heads, tiles * tiles
        window_attention_backward_bias[grid](
            grad, q, k, v, bias, lse, mean, grad_bias, scale, parts, each, total // kinds, *steps, **call
        )
        grad_bias = grad_bias.sum(2)[..., :places, :places].sum_to_size(given.shape).to(given.dtype, copy=True)
    if call["group"] > 1:
        grad_k, grad_v = (x.unflatten(-2, (-1, call["group"])).sum(-2) for x in (grad_k, grad_v))
    return grad_q, grad_k, grad_v, grad_bias, grad_sink


@attend_in_windows_backward.register_fake
def attend_in_windows_backward_like(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    out: Tensor,
    lse: Tensor,
    window: list[int],
    step: list[int],
    shift: list[int],
    scale: float,
    learned: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad_bias = bias.new_empty(bias.shape) if learned else lse.new_empty(0)
    grad_sink = lse.new_empty(0) if sink is None else sink.new_empty(sink.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), grad_bias, grad_sink


def attend_in_windows_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7], *output)
    ctx.given = inputs[7:]


def attend_in_windows_gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    kept, learned = ctx.saved_tensors, ctx.needs_input_grad[3]  # a bias that follows from distances is not
    *grads, grad_bias, grad_sink = attend_in_windows_backward(grad, *kept, *ctx.given, learned)
    bias, sink = grad_bias if learned else None, None if kept[6] is None else grad_sink
    return *grads, bias, None, None, sink, *[None] * len(ctx.given)


attend_in_windows.register_autograd(attend_in_windows_gradients, setup_context=attend_in_windows_keep)


def triton_window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Sequence[int],
    shift: Sequence[int] | None = None,
    step: Sequence[int] | None = None,
    spread: bool = False,
    bias: Tensor | None = None,
    border: Tensor | None = None,
    scale: float | None = None,
    drop: float = 0.0,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
    core: Callable[..., Tensor] = short_attention,
) -> Tensor:
    """`window_attention` by kernels; what a shift keeps apart, `border`, they find by themselves."""
    sink = None
    narrow = max(q.shape[-1], v.shape[-1]) <= (32 if alike(q, k, v)[0].dtype == torch.float32 else 128)
    if not runs(q, k, v, bias, sink) or not narrow or drop > 0 or not q.numel():
        return window_attention(q, k, v, window, shift, step, spread, bias, border, scale, drop, mask, segments, core)
    q, k, v = alike(q, k, v)
    whole, shared = torch.broadcast_shapes(*(x.shape[:-2] for x in (q, k, v))), max(k.shape[-2], v.shape[-2])
    q, k, v = (
        x.expand(*whole, heads, x.shape[-1]) for x, heads in ((q, max(q.shape[-2], shared)), (k, shared), (v, shared))
    )
    size, rank, places = q.shape[1:-2], len(window), prod(window)
    steps = [whole // side for whole, side in zip(size, window, strict=True)] if spread else step or [1] * rank
    if bias is not None:
        bias = bias[(None,) * (5 - bias.ndim)]
        bias = bias.expand(*bias.shape[:3], places, places)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return attend_in_windows(
        q, k, v, bias, mask, segments, sink, list(window), list(steps), list(shift or [0] * rank), scale
    )[0]


class PatchEmbed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 4, 4, stride=4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.relative = RelativePosition((3, 3), 1)
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 1, 4))
        q, k, v = qkv.unbind(3)
        o = triton_window_attention(q, k, v, (3, 3), bias=self.relative())
        return self.proj(o.flatten(3))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, 16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(4)
        self.attn = SelfAttention()
        self.norm2 = nn.LayerNorm(4)
        self.mlp = Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stochastic_depth = self.attn(self.norm1(x))
        add, norm2 = fused_add_layer_norm(x, stochastic_depth, self.norm2.weight, self.norm2.bias, 1e-5)
        return add + self.mlp(norm2)


class SelfAttention2(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.relative = RelativePosition((3, 3), 1)
        self.register_buffer("shift_bias", shift_bias((6, 6), (3, 3), (1, 1)), persistent=False)
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 1, 4))
        q, k, v = qkv.unbind(3)
        bias = self.relative()
        o = triton_window_attention(q, k, v, (3, 3), shift=(1, 1), bias=bias, border=self.shift_bias)
        return self.proj(o.flatten(3))


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(4)
        self.attn = SelfAttention2()
        self.norm2 = nn.LayerNorm(4)
        self.mlp = Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stochastic_depth = drop_path(self.attn(self.norm1(x)), 0.2, self.training)
        add, norm2 = fused_add_layer_norm(x, stochastic_depth, self.norm2.weight, self.norm2.bias, 1e-5)
        return add + drop_path(self.mlp(norm2), 0.2, self.training)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Swin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.stages = nn.ModuleList([Stage()])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 24, 24):
            raise ValueError(f"image must be [b, c = 3, h = 24, w = 24], and is {list(image.shape)}")
        x = self.patch_embed(image).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
