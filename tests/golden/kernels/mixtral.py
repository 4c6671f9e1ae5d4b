"""Mixtral (Jiang et al., arXiv:2401.04088): a Llama-like decoder whose feed-forward blocks are eight experts, of
which each token meets two.
"""
# Made by archlang 0.1.0 from mixtral.arch (sha256 db186f4f1a246543): mixtral/toy

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
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
def fused_add_rms_norm_forward(
    x_in,
    stochastic_depth_in,
    weight_in,
    add_out,
    mul_out,
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
    """add, rms_norm: a tile of rows."""
    row = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (column < width)[None, :]
    here = (row < rows)[:, None] & (column < width)[None, :]
    x = chain_load(x_in, x_steps, row, inner, column, here)
    stochastic_depth = chain_load(stochastic_depth_in, stochastic_depth_steps, row, inner, column, here)
    weight = tl.load(weight_in + column, mask=column < width, other=1.0).to(tl.float32)[None, :]
    add = x + stochastic_depth
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(add_out + at, add.to(add_out.dtype.element_ty), mask=here)
    tl.store(
        mul_out + at,
        (add * tl.rsqrt(chain_sum(add * add, inside) / width + eps) * weight).to(mul_out.dtype.element_ty),
        mask=here,
    )


@jit
def fused_add_rms_norm_backward(
    grad_add_in,
    grad_mul_in,
    x_in,
    stochastic_depth_in,
    weight_in,
    grad_x_out,
    grad_stochastic_depth_out,
    grad_weight_out,
    eps,
    grad_add_steps,
    grad_mul_steps,
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
    """The slopes of add, rms_norm: of one tile of rows after another, those of what all rows share as a sum over them."""
    part = tl.program_id(0) // tiles
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    weight = tl.load(weight_in + column, mask=column < width, other=1.0).to(tl.float32)[None, :]
    inside = (column < width)[None, :]
    sum_weight = tl.zeros([ROWS, COLUMNS], tl.float32)
    for step in range(part * each, (part + 1) * each):
        row = step * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < width)[None, :]
        grad_add = chain_load(grad_add_in, grad_add_steps, row, inner, column, here)
        grad_mul = chain_load(grad_mul_in, grad_mul_steps, row, inner, column, here)
        x = chain_load(x_in, x_steps, row, inner, column, here)
        stochastic_depth = chain_load(stochastic_depth_in, stochastic_depth_steps, row, inner, column, here)
        add = x + stochastic_depth
        scale = tl.rsqrt(chain_sum(add * add, inside) / width + eps)
        product = grad_mul * weight
        ratio = -0.5 * chain_sum(product * add, inside) * scale * scale * scale / width
        product2 = ratio * add
        grad_x = grad_add + product * scale + product2 + product2
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        tl.store(grad_x_out + at, grad_x.to(grad_x_out.dtype.element_ty), mask=here)
        tl.store(grad_stochastic_depth_out + at, grad_x.to(grad_stochastic_depth_out.dtype.element_ty), mask=here)
        sum_weight += tl.where(here, (grad_mul * (add * scale)), 0.0)
    tl.store(grad_weight_out + part.to(tl.int64) * width + column, tl.sum(sum_weight, 0), mask=column < width)


@operation
def fused_add_rms_norm_step(x: Tensor, stochastic_depth: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """add, rms_norm of rows [.., c]."""
    rows, inner, steps = chain_rows([dense(x), dense(stochastic_depth)])
    add, mul = fused_add_rms_norm_like(x, stochastic_depth, weight, eps)
    call = chain_call("fused_add_rms_norm.forward", x, True)
    grid = (call["tiles"] * triton.cdiv(call["rows"], call["ROWS"]),)
    fused_add_rms_norm_forward[grid](*rows, weight, add, mul, eps, *steps, inner, **call)
    return add, mul


@fused_add_rms_norm_step.register_fake
def fused_add_rms_norm_like(x: Tensor, stochastic_depth: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    kind = chain_kind(x, stochastic_depth, weight)
    return tuple(x.new_empty(x.shape, dtype=kind) for _ in range(2))


@operation
def fused_add_rms_norm_slopes(
    grad_add: Tensor, grad_mul: Tensor, x: Tensor, stochastic_depth: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of all inputs; torch adds what the programs have summed."""
    given = [dense(grad_add), dense(grad_mul), dense(x), dense(stochastic_depth)]
    rows, inner, steps = chain_rows(given)
    made = list(fused_add_rms_norm_slopes_like(grad_add, grad_mul, x, stochastic_depth, weight, eps))
    call = chain_call("fused_add_rms_norm.backward", x, True)
    count = triton.cdiv(call["rows"], call["ROWS"])
    each = triton.cdiv(count, max(1, CHAIN_PARTS // call["tiles"]))
    parts = triton.cdiv(count, each)
    made[2] = x.new_empty(parts, call["width"], dtype=torch.float32)
    grid = (call["tiles"] * parts,)
    fused_add_rms_norm_backward[grid](*rows, weight, *made, eps, *steps, inner, each=each, **call)
    made[2] = made[2].sum(0).to(weight.dtype)
    return tuple(made)


@fused_add_rms_norm_slopes.register_fake
def fused_add_rms_norm_slopes_like(
    grad_add: Tensor, grad_mul: Tensor, x: Tensor, stochastic_depth: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (x, stochastic_depth, weight))


def fused_add_rms_norm_keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.given = inputs[3:]


def fused_add_rms_norm_gradients(ctx: Any, grad_add: Tensor, grad_mul: Tensor) -> tuple[Tensor | None, ...]:
    return *fused_add_rms_norm_slopes(grad_add, grad_mul, *ctx.saved_tensors, *ctx.given), None


fused_add_rms_norm_step.register_autograd(fused_add_rms_norm_gradients, setup_context=fused_add_rms_norm_keep)


def fused_add_rms_norm_plain(x: Tensor, stochastic_depth: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """add, rms_norm in PyTorch."""
    add = x + stochastic_depth
    mul = F.rms_norm(add, add.shape[-1:], eps=eps) * weight
    return add, mul


def fused_add_rms_norm(x: Tensor, stochastic_depth: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """add, rms_norm in one kernel."""
    if not runs(x, stochastic_depth, weight) or not x.numel() or x.shape[-1] > CHAIN_WIDTH:
        return fused_add_rms_norm_plain(x, stochastic_depth, weight, eps)
    return fused_add_rms_norm_step(x, stochastic_depth, weight, eps)


def chosen_rows(x: Tensor, order: Tensor) -> Tensor:
    """The rows of x [token, ..] at the tokens of the choices in `order`, where each token has the same number of them,
    side by side.
    """
    return x[order // (order.shape[0] // max(x.shape[0], 1))]


GROUPED_CAPTURED: list[tuple[Tensor, Tensor]] = []  # the addresses that CUDA graphs read


@jit
def grouped_rows(at, ends, total, EXPERTS: tl.constexpr, SLOTS: tl.constexpr, ROWS: tl.constexpr):
    """The expert that a tile of rows has, its first row, and where the rows of that expert end; an expert more has those of none. Beyond
    all tiles it is -1.
    """
    slot = tl.arange(0, SLOTS)
    begin = tl.load(ends + slot - 1, mask=(slot > 0) & (slot <= EXPERTS), other=0)
    end = tl.where(slot < EXPERTS, tl.load(ends + slot, mask=slot < EXPERTS, other=0), total)
    tiles = tl.where(slot <= EXPERTS, (end - begin + ROWS - 1) // ROWS, 0)
    start = at - (tl.cumsum(tiles, 0) - tiles)
    mine = (start >= 0) & (start < tiles)
    expert = tl.sum(tl.where(mine, slot.to(tl.int64) + 1, 0), 0) - 1
    first, last = tl.where(mine, begin + start * ROWS, 0), tl.where(mine, end, 0)
    return expert, tl.sum(first, 0), tl.sum(last, 0)


@jit
def grouped_tokens(tokens, row, here):
    """The rows of x that some rows are, where these are those of tokens."""
    if tokens is not None:
        row = tl.load(tokens + row, mask=here, other=0)
    return row


@jit
def grouped_load(x, row, channel, here, channels):
    """Some channels of some rows, 0 beyond them."""
    return tl.load(
        x + row[:, None] * channels + channel[None, :], mask=here[:, None] & (channel < channels)[None, :], other=0.0
    )


@jit
def grouped_weight(weights, number, x, ALIGNED: tl.constexpr):
    """The weight or bias at an address of a table."""
    weight = tl.load(weights + number).to(tl.pointer_type(x.dtype.element_ty))
    if ALIGNED:
        weight = tl.multiple_of(weight, 16)
    return weight


@jit
def grouped_weights(weight, channel, unit, channels, units, channel_step, unit_step):
    """Some channels and units of a weight, 0 beyond them."""
    at = channel.to(tl.int64)[:, None] * channel_step + unit.to(tl.int64)[None, :] * unit_step
    return tl.load(weight + at, mask=(channel < channels)[:, None] & (unit < units)[None, :], other=0.0)


@jit
def grouped_forward(
    x,
    tokens,
    ends,
    weights,
    biases,
    y,
    total,
    channels,
    units,
    channel_step,
    unit_step,
    LAYERS: tl.constexpr,
    EXPERTS: tl.constexpr,
    SLOTS: tl.constexpr,
    ALIGNED: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """A tile of y: some units of some rows, all of one expert, summed over the layers, each of rows of its own. The weights are where their addresses say."""
    expert, first, last = grouped_rows(tl.program_id(0), ends, total, EXPERTS, SLOTS, ROWS)
    row, unit = first + tl.arange(0, ROWS), tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    here, inside = row < last, unit < units
    value = tl.zeros([ROWS, UNITS], tl.float32)
    if (expert >= 0) & (expert < EXPERTS):
        token = grouped_tokens(tokens, row, here)
        for layer in range(LAYERS):
            weight = grouped_weight(weights, layer * EXPERTS + expert, x, ALIGNED)
            for start in range(0, channels, CHANNELS):
                channel = start + tl.arange(0, CHANNELS)
                x_tile = grouped_load(x, token + layer * total, channel, here, channels)
                w_tile = grouped_weights(weight, channel, unit, channels, units, channel_step, unit_step)
                value += product(x_tile, w_tile, PRECISION, WIDEN)
        if biases is not None:
            bias = grouped_weight(biases, expert, x, False)
            value += tl.load(bias + unit, mask=inside, other=0.0).to(tl.float32)[None, :]
    tl.store(
        y + row[:, None] * units + unit[None, :], value.to(y.dtype.element_ty), mask=here[:, None] & inside[None, :]
    )


@jit
def grouped_backward(
    grad,
    x,
    tokens,
    ends,
    grad_weight,
    grad_bias,
    total,
    channels,
    units,
    EXPERTS: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The gradient of a tile of the weight of one expert in one layer, and of its bias, from all of its rows."""
    number = tl.program_id(2).to(tl.int64)
    expert = number % EXPERTS
    grad += number // EXPERTS * total * units
    begin, end = tl.load(ends + expert - 1, mask=expert > 0, other=0), tl.load(ends + expert)
    unit, channel = tl.program_id(0) * UNITS + tl.arange(0, UNITS), tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    value = tl.zeros([UNITS, CHANNELS], tl.float32)
    slope = tl.zeros([UNITS], tl.float32)
    for start in range(begin, end, ROWS):
        row = start + tl.arange(0, ROWS)
        here = row < end
        g_tile = tl.load(
            grad + row[None, :] * units + unit[:, None], mask=here[None, :] & (unit < units)[:, None], other=0.0
        )
        x_tile = grouped_load(x, grouped_tokens(tokens, row, here), channel, here, channels)
        value += product(g_tile, x_tile, PRECISION, WIDEN)
        slope += tl.sum(g_tile.to(tl.float32), 1)
    at = (number * units + unit)[:, None] * channels + channel[None, :]
    tl.store(
        grad_weight + at,
        value.to(grad_weight.dtype.element_ty),
        mask=(unit < units)[:, None] & (channel < channels)[None, :],
    )
    if grad_bias is not None:
        tl.store(
            grad_bias + number * units + unit,
            slope.to(grad_bias.dtype.element_ty),
            mask=(unit < units) & (tl.program_id(1) == 0),
        )


@jit
def grouped_sums(rows, places, y, tokens, channels, CHOICES: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr):
    """Some channels of some tokens: the sum of the rows of their choices."""
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here, inside = token < tokens, (column < channels)[None, :]
    total = tl.zeros([TOKENS, COLUMNS], tl.float32)
    for i in range(CHOICES):
        place = tl.load(places + token.to(tl.int64) * CHOICES + i, mask=here, other=0)
        total += tl.load(rows + place[:, None] * channels + column[None, :], mask=here[:, None] & inside, other=0.0).to(
            tl.float32
        )
    at = token.to(tl.int64)[:, None] * channels + column[None, :]
    tl.store(y + at, total.to(y.dtype.element_ty), mask=here[:, None] & inside)


def grouped_call(part: str, x: Tensor, rows: int, units: int, experts: int, layers: int = 1) -> dict[str, Any]:
    """The shape of a tile, by the numbers of channels and units and of the rows that an expert has if all have as many. A program that
    has several `layers` side by side takes as many fewer units.
    """
    half, rows = x.element_size() == 2, triton.cdiv(rows, experts)
    shipped = dict(
        ROWS=min(tile(rows), 64 if half else 32),
        UNITS=min(tile(units), (128 if half else 64) // layers),
        CHANNELS=min(tile(x.shape[-1]), 64 if half else 32),
        num_warps=4,
        num_stages=2,
    )
    sizes = dict(rows=rows, c=x.shape[-1], units=units, layers=layers)
    return dict(**tile_shape(f"grouped.{part}", x, sizes, **shipped), **math_of(x))


def grouped_rows_of(x: Tensor, order: Tensor | None) -> tuple[Tensor | None, int]:
    """The rows of x [token, inner, c] that are those of the tokens of choices, and how many there are."""
    if order is None:
        return None, x.shape[0] * x.shape[1]
    tokens, inner = order // (order.shape[0] // x.shape[0]), x.shape[1]
    if inner > 1:
        tokens = (tokens[:, None] * inner + torch.arange(inner, device=x.device)).flatten()
    return tokens, tokens.shape[0]


@lru_cache(4096)
def grouped_addresses(addresses: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Addresses on the host and where a kernel reads them: weights stay where they are from one step to the next."""
    table = torch.tensor(addresses, dtype=torch.int64, pin_memory=device.type == "cuda")
    return table, table.to(device, non_blocking=True)


def grouped_table(tensors: list[Tensor]) -> Tensor:
    """The addresses of tensors, where a kernel reads them; a CUDA graph reads them again whenever it runs."""
    tables = grouped_addresses(tuple(x.data_ptr() for x in tensors), tensors[0].device)
    if tensors[0].is_cuda and torch.cuda.is_current_stream_capturing():
        GROUPED_CAPTURED.append(tables)
    return tables[1]


def grouped_aligned(tensors: list[Tensor]) -> bool:
    """Whether all of them start where wide loads do."""
    return all(x.data_ptr() % 16 == 0 for x in tensors)


def grouped_gradients_of(
    grad: Tensor, x: Tensor, order: Tensor | None, ends: Tensor, weights: list[Tensor], bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x [token, inner, c], of the weights and of the biases of all experts, those of one layer behind those of the
    one before, from those of what each layer has made: grad [layer, row, units].
    """
    weights, (tokens, rows) = [w.contiguous() for w in weights], grouped_rows_of(x, order)
    layers, units = grad.shape[0], grad.shape[2]
    channels, experts = x.shape[-1], len(weights) // layers
    _, grad_weight, grad_bias = grouped_gradients_like(grad, x, weights, bias)
    call = grouped_call("weights", x, rows, units, experts)
    grid = triton.cdiv(units, call["UNITS"]), triton.cdiv(channels, call["CHANNELS"]), len(weights)
    grouped_backward[grid](
        grad, x, tokens, ends, grad_weight, grad_bias if bias else None, rows, channels, units, EXPERTS=experts, **call
    )
    call, grad_rows = grouped_call("inputs", grad, rows, channels, experts), x.new_empty(rows, channels)
    grid = triton.cdiv(rows, call["ROWS"]) + experts, triton.cdiv(channels, call["UNITS"])
    grouped_forward[grid](
        grad,
        None,
        ends,
        grouped_table(weights),
        None,
        grad_rows,
        rows,
        channels=units,
        units=channels,
        channel_step=channels,
        unit_step=1,
        LAYERS=layers,
        EXPERTS=experts,
        SLOTS=tile(experts + 1, 1),
        ALIGNED=grouped_aligned(weights),
        **call,
    )
    return grad_rows.view(x.shape) if order is None else grouped_sum(grad_rows, x, order), grad_weight, grad_bias


def grouped_gradients_like(grad: Tensor, x: Tensor, weights: list[Tensor], bias: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the gradients of x, of the weights and of the biases."""
    count, (units, channels) = len(weights), weights[0].shape
    return x.new_empty(x.shape), x.new_empty(count, units, channels), x.new_empty(count if bias else 0, units)


def grouped_sum(rows: Tensor, x: Tensor, order: Tensor) -> Tensor:
    """The sums of the rows of the choices of each token, like x."""
    places, y = torch.empty_like(order), x.new_empty(x.shape)
    places[order] = torch.arange(order.shape[0], device=order.device)
    channels = x.shape[1] * x.shape[2]
    columns = min(tile(channels, 1), 128)
    some = min(tile(x.shape[0], 1), 2048 // columns)
    grid = triton.cdiv(x.shape[0], some), triton.cdiv(channels, columns)
    choices = order.shape[0] // x.shape[0]
    grouped_sums[grid](
        rows, places, y, x.shape[0], channels, CHOICES=choices, TOKENS=some, COLUMNS=columns, num_warps=4
    )
    return y


def grouped_linear(
    x: Tensor, ends: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = (), order: Tensor | None = None
) -> Tensor:
    """x W_e^T + b_e for the rows of each expert e, which end at `ends`: [rows, .., c] -> [rows, .., units]; 0 after the
    last. With `order` the rows are those of x [token, .., c] at the tokens of these choices.
    """
    x = x if order is None else chosen_rows(x, order)
    counts = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
    *parts, rest = x.split([*counts, x.shape[0] - sum(counts)])
    made = [F.linear(part, weight) for part, weight in zip(parts, weights, strict=True)]
    if biases:
        made = [part + bias for part, bias in zip(made, biases, strict=True)]
    return torch.cat([*made, rest.new_zeros(*rest.shape[:-1], weights[0].shape[0])])


@jit
def grouped_silu_mul_forward(
    x,
    tokens,
    ends,
    weights,
    biases,
    y,
    kept,
    total,
    channels,
    units,
    EXPERTS: tl.constexpr,
    SLOTS: tl.constexpr,
    ALIGNED: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """silu, mul of a tile of what the layers make: some units of some rows, all of one expert. What they made is kept where there is room for it."""
    expert, first, last = grouped_rows(tl.program_id(0), ends, total, EXPERTS, SLOTS, ROWS)
    row, unit = first + tl.arange(0, ROWS), tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    here, inside = row < last, unit < units
    gate = tl.zeros([ROWS, UNITS], tl.float32)
    up = tl.zeros([ROWS, UNITS], tl.float32)
    if (expert >= 0) & (expert < EXPERTS):
        token = grouped_tokens(tokens, row, here)
        weight_0 = grouped_weight(weights, expert, x, ALIGNED)
        weight_1 = grouped_weight(weights, EXPERTS + expert, x, ALIGNED)
        for start in range(0, channels, CHANNELS):
            channel = start + tl.arange(0, CHANNELS)
            x_tile = grouped_load(x, token, channel, here, channels)
            gate += product(
                x_tile, grouped_weights(weight_0, channel, unit, channels, units, 1, channels), PRECISION, WIDEN
            )
            up += product(
                x_tile, grouped_weights(weight_1, channel, unit, channels, units, 1, channels), PRECISION, WIDEN
            )
        if biases is not None:
            bias = grouped_weight(biases, expert, x, False)
            gate += tl.load(bias + unit, mask=inside, other=0.0).to(tl.float32)[None, :]
            bias = grouped_weight(biases, EXPERTS + expert, x, False)
            up += tl.load(bias + unit, mask=inside, other=0.0).to(tl.float32)[None, :]
    at, seen = row[:, None] * units + unit[None, :], here[:, None] & inside[None, :]
    if kept is not None:
        tl.store(kept + at, gate.to(kept.dtype.element_ty), mask=seen)
        tl.store(kept + total.to(tl.int64) * units + at, up.to(kept.dtype.element_ty), mask=seen)
    tl.store(y + at, (gate * tl.sigmoid(gate) * up).to(y.dtype.element_ty), mask=seen)


@jit
def grouped_silu_mul_backward(grad, kept, slopes, count, SIZE: tl.constexpr):
    """The slopes of silu, mul: of some numbers of what each layer has made."""
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    here = at < count
    grad_mul = tl.load(grad + at, mask=here, other=1.0).to(tl.float32)
    gate = tl.load(kept + at, mask=here, other=1.0).to(tl.float32)
    up = tl.load(kept + count.to(tl.int64) + at, mask=here, other=1.0).to(tl.float32)
    gate2 = tl.sigmoid(gate)
    product2 = grad_mul * up
    tl.store(
        slopes + at, (product2 * gate2 + product2 * gate * gate2 * (1.0 - gate2)).to(slopes.dtype.element_ty), mask=here
    )
    tl.store(slopes + count.to(tl.int64) + at, (grad_mul * (gate * gate2)).to(slopes.dtype.element_ty), mask=here)


@operation
def grouped_silu_mul_step(
    x: Tensor, ends: Tensor, weights: list[Tensor], biases: list[Tensor], order: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    """silu, mul of the layers of all experts [row, units] on x [token, inner, c], and what the layers made [layer, row, units]."""
    weights, biases = [w.contiguous() for w in weights], [b.contiguous() for b in biases]
    (tokens, rows), (units, channels), experts = grouped_rows_of(x, order), weights[0].shape, len(weights) // 2
    call = grouped_call("forward", x, rows, units, experts, 2)
    y, kept = grouped_silu_mul_like(x, ends, weights, biases, order, keep)
    grid = triton.cdiv(rows, call["ROWS"]) + experts, triton.cdiv(units, call["UNITS"])
    tables = grouped_table(weights), grouped_table(biases) if biases else None
    sizes = dict(EXPERTS=experts, SLOTS=tile(experts + 1, 1), ALIGNED=grouped_aligned(weights), **call)
    grouped_silu_mul_forward[grid](x, tokens, ends, *tables, y, kept if keep else None, rows, channels, units, **sizes)
    return y, kept


@grouped_silu_mul_step.register_fake
def grouped_silu_mul_like(
    x: Tensor, ends: Tensor, weights: list[Tensor], biases: list[Tensor], order: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    rows, units = (x if order is None else order).shape[0] * x.shape[1], weights[0].shape[0]
    return x.new_empty(rows, units), x.new_empty(2 if keep else 0, rows, units)


@operation
def grouped_silu_mul_slopes(
    grad: Tensor, kept: Tensor, x: Tensor, ends: Tensor, weights: list[Tensor], bias: bool, order: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, of the weights and of the biases of all experts."""
    slopes, size = torch.empty_like(kept), 1024
    grouped_silu_mul_backward[(triton.cdiv(grad.numel(), size),)](
        grad.contiguous(), kept, slopes, grad.numel(), SIZE=size, num_warps=4
    )
    return grouped_gradients_of(slopes, x, order, ends, weights, bias)


@grouped_silu_mul_slopes.register_fake
def grouped_silu_mul_slopes_like(
    grad: Tensor, kept: Tensor, x: Tensor, ends: Tensor, weights: list[Tensor], bias: bool, order: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return grouped_gradients_like(grad, x, weights, bias)


def grouped_silu_mul_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ends, *given, weights, biases, order, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], x, ends, order, *weights)
    ctx.given, ctx.bias = given, bool(biases)


def grouped_silu_mul_gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    kept, x, ends, order, *weights = ctx.saved_tensors
    grad_x, grad_weight, grad_bias = grouped_silu_mul_slopes(grad, kept, x, ends, *ctx.given, weights, ctx.bias, order)
    return grad_x, None, *(None for _ in ctx.given), list(grad_weight.unbind()), list(grad_bias.unbind()), None, None


grouped_silu_mul_step.register_autograd(grouped_silu_mul_gradients, setup_context=grouped_silu_mul_keep)


def grouped_silu_mul_plain(
    x: Tensor,
    ends: Tensor,
    weights: Sequence[Sequence[Tensor]],
    biases: Sequence[Sequence[Tensor]],
    order: Tensor | None,
) -> Tensor:
    """silu, mul of the layers of all experts in PyTorch."""
    x = x if order is None else chosen_rows(x, order)
    gate, up = (grouped_linear(x, ends, w, b) for w, b in zip(weights, biases or [(), ()], strict=True))
    return F.silu(gate) * up


def grouped_silu_mul(
    x: Tensor,
    ends: Tensor,
    weights: Sequence[Sequence[Tensor]],
    biases: Sequence[Sequence[Tensor]] = (),
    order: Tensor | None = None,
) -> Tensor:
    """silu, mul of the layers of all experts in one kernel."""
    flat = [w for own in weights for w in own], [b for own in biases for b in own]
    if not runs(x, *flat[0], *flat[1]) or not x.numel() or not flat[0][0].numel():
        return grouped_silu_mul_plain(x, ends, weights, biases, order)
    x, *given = alike(x, *flat[0], *flat[1])
    keep = torch.is_grad_enabled() and any(part.requires_grad for part in (x, *given))
    rows = x.reshape(x.shape[0], -1, x.shape[-1]).contiguous()
    y, _ = grouped_silu_mul_step(rows, ends * rows.shape[1], given[: len(flat[0])], given[len(flat[0]) :], order, keep)
    return y.view(-1, *x.shape[1:-1], y.shape[-1])


def load_balance(probability: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The balance loss of experts with probability [..., experts] that index [..., k] chooses among."""
    experts, tokens = probability.shape[-1], probability.flatten(0, -2)
    choices = index.flatten()
    chosen = tokens.new_zeros(experts).scatter_add(0, choices, torch.ones_like(choices, dtype=tokens.dtype))
    return experts * (chosen / tokens.shape[0] * tokens.mean(0)).sum()


class Losses(dict[str, torch.Tensor]):
    """Auxiliary losses by name, one value for each place of the network; copies and saved modules go without them."""

    def __deepcopy__(self, memo: object) -> "Losses":
        return Losses()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Losses, ()


def rotary_turns(
    places: Sequence[int],
    pairs: int,
    base: float = 10000.0,
    step: float = 1.0,
    speeds: Tensor | None = None,
    gain: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    past: int = 0,
) -> Tensor:
    """[cos, sin] of the angles at the places of a map, `gain` times: [2, *places, pairs of all axes]. Each axis has its
    own share of the pairs: pair i at place p turns by p * step * base^(-i / pairs), or p * speeds[i].
    Along the first one, `past` places come before.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    if speeds is None:
        speeds = step / base ** (torch.arange(pairs, dtype=dtype, device=device) / pairs)
    angles = []
    for axis, size in enumerate(places):
        first = 0 if axis else past
        angle = torch.arange(first, first + size, dtype=dtype, device=device)[:, None] * speeds
        angles.append(angle.view(-1, *(1,) * (len(places) - axis - 1), pairs).expand(*places, pairs))
    angle = torch.cat(angles, -1)
    return torch.stack((angle.cos(), angle.sin())) * gain


def combine(parts: Sequence[torch.Tensor], order: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the experts made of their tokens, from `order` back to the tokens and summed with weight [..., k]."""
    rows, last = torch.cat(list(parts)), weight.ndim - 1
    choices = rows.new_zeros(weight.numel(), *rows.shape[1:]).index_copy(0, order[: rows.shape[0]], rows)
    weight = weight.to(rows.dtype)[(..., *[None] * (rows.ndim - 1))]
    return (choices.view(*weight.shape[: last + 1], *rows.shape[1:]) * weight).sum(last)


@jit
def combine_forward(
    rows, places, weight, y, tokens, channels, CHOICES: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Some channels of some tokens: the weighted sum of the rows of all choices that were not dropped."""
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here, inside = token < tokens, (column < channels)[None, :]
    total = tl.zeros([TOKENS, COLUMNS], tl.float32)
    for i in range(CHOICES):
        at = token.to(tl.int64) * CHOICES + i
        place = tl.load(places + at, mask=here, other=-1)
        share = tl.load(weight + at, mask=here, other=0.0).to(tl.float32)
        row = tl.load(
            rows + place[:, None] * channels + column[None, :], mask=(place >= 0)[:, None] & inside, other=0.0
        )
        total += share[:, None] * row.to(tl.float32)
    at = token.to(tl.int64)[:, None] * channels + column[None, :]
    tl.store(y + at, total.to(y.dtype.element_ty), mask=here[:, None] & inside)


@jit
def combine_backward(
    grad,
    rows,
    places,
    weight,
    grad_rows,
    grad_weight,
    tokens,
    channels,
    CHOICES: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradients of the rows that some tokens chose one of their choices for, and of the weights of these."""
    token, choice = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.program_id(1)
    here, at = token < tokens, token.to(tl.int64) * CHOICES + choice
    place = tl.load(places + at, mask=here, other=-1)
    share = tl.load(weight + at, mask=here, other=0.0).to(tl.float32)
    total = tl.zeros([TOKENS], tl.float32)
    for start in range(0, channels, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        seen = (place >= 0)[:, None] & (column < channels)[None, :]
        slope = tl.load(grad + token.to(tl.int64)[:, None] * channels + column[None, :], mask=seen, other=0.0).to(
            tl.float32
        )
        spot = place[:, None] * channels + column[None, :]
        row = tl.load(rows + spot, mask=seen, other=0.0).to(tl.float32)
        tl.store(grad_rows + spot, (share[:, None] * slope).to(grad_rows.dtype.element_ty), mask=seen)
        total += tl.sum(row * slope, 1)
    tl.store(grad_weight + at, total.to(grad_weight.dtype.element_ty), mask=here)


def combine_call(part: str, rows: Tensor, weight: Tensor) -> dict[str, Any]:
    """What both kernels are told of rows [row, c] and weights [token, choice]."""
    columns, sizes = min(tile(rows.shape[1], 1), 128), dict(c=rows.shape[1], choices=weight.shape[1])
    shipped = dict(TOKENS=min(tile(weight.shape[0], 1), 2048 // columns), COLUMNS=columns, num_warps=4)
    return dict(
        tokens=weight.shape[0],
        channels=rows.shape[1],
        CHOICES=weight.shape[1],
        **tile_shape(f"combine.{part}", rows, sizes, **shipped),
    )


@operation
def combined(rows: Tensor, places: Tensor, weight: Tensor) -> Tensor:
    """The weighted sum of the rows at the places [token, choice]; there is no row at -1."""
    call, y = combine_call("forward", rows, weight), combined_like(rows, places, weight)
    grid = triton.cdiv(call["tokens"], call["TOKENS"]), triton.cdiv(call["channels"], call["COLUMNS"])
    combine_forward[grid](rows, places, weight, y, **call)
    return y


@combined.register_fake
def combined_like(rows: Tensor, places: Tensor, weight: Tensor) -> Tensor:
    return rows.new_empty(weight.shape[0], rows.shape[1])


@operation
def combined_backward(grad: Tensor, rows: Tensor, places: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the rows and the weights."""
    call, grad = combine_call("backward", rows, weight), grad.contiguous()
    grad_rows, grad_weight = rows.new_empty(rows.shape), weight.new_empty(weight.shape)
    grid = triton.cdiv(call["tokens"], call["TOKENS"]), call["CHOICES"]
    combine_backward[grid](grad, rows, places, weight, grad_rows, grad_weight, **call)
    return grad_rows, grad_weight


@combined_backward.register_fake
def combined_backward_like(grad: Tensor, rows: Tensor, places: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return rows.new_empty(rows.shape), weight.new_empty(weight.shape)


def combined_keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def combined_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rows, places, weight = ctx.saved_tensors
    grad_rows, grad_weight = combined_backward(grad, rows, places, weight)
    return grad_rows, None, grad_weight


combined.register_autograd(combined_gradients, setup_context=combined_keep)


def triton_combine(parts: Sequence[Tensor], order: Tensor, weight: Tensor) -> Tensor:
    """`combine` by kernels."""
    if not runs(*parts, weight) or not weight.numel() or not prod(parts[0].shape[1:]):
        return combine(parts, order, weight)
    rows = torch.cat(list(parts))
    rows = rows.view(rows.shape[0], prod(rows.shape[1:]))
    places = torch.full_like(order, -1)
    places[order[: rows.shape[0]]] = torch.arange(rows.shape[0], device=order.device)
    shares = weight.to(rows.dtype).flatten(0, -2)
    y = combined(rows, places.view(shares.shape), shares.contiguous())
    return y.view(*weight.shape[:-1], *parts[0].shape[1:])


@operation
def grouped_products(
    x: Tensor, ends: Tensor, weights: list[Tensor], biases: list[Tensor], order: Tensor | None
) -> Tensor:
    """The layers of all experts [row, units] on x [token, inner, c]."""
    weights, biases = [w.contiguous() for w in weights], [b.contiguous() for b in biases]
    (tokens, rows), (units, channels) = grouped_rows_of(x, order), weights[0].shape
    call, y = grouped_call("forward", x, rows, units, len(weights)), x.new_empty(rows, units)
    grid = triton.cdiv(rows, call["ROWS"]) + len(weights), triton.cdiv(units, call["UNITS"])
    grouped_forward[grid](
        x,
        tokens,
        ends,
        grouped_table(weights),
        grouped_table(biases) if biases else None,
        y,
        rows,
        channels=channels,
        units=units,
        channel_step=1,
        unit_step=channels,
        LAYERS=1,
        EXPERTS=len(weights),
        SLOTS=tile(len(weights) + 1, 1),
        ALIGNED=grouped_aligned(weights),
        **call,
    )
    return y


@grouped_products.register_fake
def grouped_products_like(
    x: Tensor, ends: Tensor, weights: list[Tensor], biases: list[Tensor], order: Tensor | None
) -> Tensor:
    rows = (x if order is None else order).shape[0] * x.shape[1]
    return x.new_empty(rows, weights[0].shape[0])


@operation
def grouped_slopes(
    grad: Tensor, x: Tensor, ends: Tensor, weights: list[Tensor], bias: bool, order: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, of the weights and of the biases of all experts."""
    return grouped_gradients_of(grad.contiguous()[None], x, order, ends, weights, bias)


@grouped_slopes.register_fake
def grouped_slopes_like(
    grad: Tensor, x: Tensor, ends: Tensor, weights: list[Tensor], bias: bool, order: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return grouped_gradients_like(grad, x, weights, bias)


def grouped_keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ends, weights, biases, order = inputs
    ctx.save_for_backward(x, ends, order, *weights)
    ctx.bias = bool(biases)


def grouped_gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, ends, order, *weights = ctx.saved_tensors
    grad_x, grad_weight, grad_bias = grouped_slopes(grad, x, ends, weights, ctx.bias, order)
    return grad_x, None, list(grad_weight.unbind()), list(grad_bias.unbind()), None


grouped_products.register_autograd(grouped_gradients, setup_context=grouped_keep)


def triton_grouped_linear(
    x: Tensor, ends: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = (), order: Tensor | None = None
) -> Tensor:
    """`grouped_linear` by kernels."""
    if not runs(x, *weights, *biases) or not x.numel() or not weights[0].numel():
        return grouped_linear(x, ends, weights, biases, order)
    x, *given = alike(x, *weights, *biases)
    rows = x.reshape(x.shape[0], -1, x.shape[-1]).contiguous()
    y = grouped_products(rows, ends * rows.shape[1], given[: len(weights)], given[len(weights) :], order)
    return y.view(-1, *x.shape[1:-1], y.shape[-1])


def sorted_choices(index: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """The choices in index, sorted by the expert that is chosen: where those of each expert end, and the place of each
    among all. An index of `experts` is for nobody and comes last.
    """
    choices = index.flatten()
    counts = choices.new_zeros(experts + 1).scatter_add(0, choices, choices.new_ones(choices.shape))
    return counts[:experts].cumsum(0), choices.argsort(stable=True)


@jit
def choices_hit(index, total, ROWS: tl.constexpr, SLOTS: tl.constexpr):
    """Some choices, and which expert each has, as numbers; none beyond the last."""
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    chosen = tl.load(index + place, mask=place < total, other=-1)
    return place, (chosen[:, None] == tl.arange(0, SLOTS)[None, :]).to(tl.int32)


@jit
def choices_count(index, counts, total, ROWS: tl.constexpr, SLOTS: tl.constexpr):
    """How often a block of choices has each expert."""
    _, hit = choices_hit(index, total, ROWS, SLOTS)
    tl.store(counts + tl.program_id(0) * SLOTS + tl.arange(0, SLOTS), tl.sum(hit, 0).to(tl.int64))


@jit
def choices_place(index, starts, order, total, ROWS: tl.constexpr, SLOTS: tl.constexpr):
    """Puts a block of choices where those of their experts lie, in the order in which they come."""
    place, hit = choices_hit(index, total, ROWS, SLOTS)
    start = tl.load(starts + tl.program_id(0) * SLOTS + tl.arange(0, SLOTS))
    spot = tl.sum(hit * (start[None, :] + tl.cumsum(hit, 0) - 1), 1)
    tl.store(order + spot, place, mask=place < total)


@operation
def sort_choices(index: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """Where the choices of each expert end, and all choices in their order."""
    slots, total = tile(experts + 1, 1), index.shape[0]
    call: dict[str, Any] = dict(total=total, ROWS=max(16, 8192 // slots), SLOTS=slots, num_warps=4)
    blocks = triton.cdiv(total, call["ROWS"])
    counts, order = index.new_empty(blocks, slots), torch.empty_like(index)
    choices_count[(blocks,)](index, counts, **call)
    until = counts.cumsum(0)
    ends = until[-1].cumsum(0)
    choices_place[(blocks,)](index, until - counts + ends - until[-1], order, **call)
    return ends[:experts].clone(), order


@sort_choices.register_fake
def sort_choices_like(index: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    return index.new_empty(experts), torch.empty_like(index)


def triton_sorted_choices(index: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """`sorted_choices` by kernels."""
    if not runs(index.new_empty(0, dtype=torch.float32)) or not index.numel():
        return sorted_choices(index, experts)
    return sort_choices(index.flatten().long().contiguous(), experts)


def top_k_routing(
    logits: Tensor,
    k: int,
    score: str = "none",
    weights: str = "none",
    bias: Tensor | None = None,
    scored: bool = False,
    groups: tuple[int, int, int] | None = None,
) -> tuple[Tensor, ...]:
    """The k experts of logits [.., experts] with the largest score plus bias [experts], where a score is a softmax or
    sigmoid of the logits or these themselves; and their weights: their scores, the shares of these in their sum, or a
    softmax of these; where `scored` the scores of all. With `groups` = (count, kept, best) the experts are those of the
    `kept` groups, of `count` of equal size, whose `best` largest scores plus bias sum to most.
    """
    scores = logits.softmax(-1) if score == "softmax" else logits.sigmoid() if score == "sigmoid" else logits
    keys = scores if bias is None else scores + bias
    if groups is not None:
        count, kept, best = groups
        apart = keys.unflatten(-1, (count, -1))
        worth = apart.topk(best, -1).values.sum(-1)
        closed = torch.ones_like(worth).scatter(-1, worth.topk(kept, -1).indices, 0.0) > 0
        keys = apart.masked_fill(closed[..., None], float("-inf")).flatten(-2)
    index = keys.topk(k, -1).indices
    weight = scores.gather(-1, index)
    if weights == "share":
        weight = weight / weight.sum(-1, keepdim=True)
    elif weights == "softmax":
        weight = weight.softmax(-1)
    return (index, weight, scores) if scored else (index, weight)


@jit
def routing_rows(rows, EXPERTS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Some rows and all experts: which, where they lie, and which there are."""
    row, expert = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    at = row.to(tl.int64)[:, None] * EXPERTS + expert[None, :]
    return row, expert, at, (row < rows)[:, None] & (expert < EXPERTS)[None, :]


@jit
def routing_scores(x, inside, SCORE: tl.constexpr):
    """The scores of experts, 0 beyond the last."""
    if SCORE == "softmax":
        x = tl.where(inside, x, float("-inf"))
        power = tl.exp(x - tl.max(x, 1)[:, None])
        x = power / tl.sum(power, 1)[:, None]
    elif SCORE == "sigmoid":
        x = tl.sigmoid(x)
    return tl.where(inside, x, 0.0)


@jit
def routing_weights(chosen, here, WEIGHTS: tl.constexpr):
    """The weights that follow from the scores of those that are chosen, 0 beyond the last."""
    if WEIGHTS == "share":
        chosen = chosen / tl.sum(chosen, 1)[:, None]
    elif WEIGHTS == "softmax":
        chosen = tl.where(here, chosen, float("-inf"))
        power = tl.exp(chosen - tl.max(chosen, 1)[:, None])
        chosen = power / tl.sum(power, 1)[:, None]
    return chosen


@jit
def routing_forward(
    logits,
    bias,
    index,
    weight,
    scores,
    rows,
    K: tl.constexpr,
    EXPERTS: tl.constexpr,
    GROUPS: tl.constexpr,
    SCORE: tl.constexpr,
    WEIGHTS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The experts and weights of some rows; where there is room for them the scores of all experts."""
    row, expert, at, here = routing_rows(rows, EXPERTS, ROWS, WIDTH)
    inside, slot = (expert < EXPERTS)[None, :], tl.arange(0, SLOTS)
    score = routing_scores(tl.load(logits + at, mask=here, other=1.0).to(tl.float32), inside, SCORE)
    if scores is not None:
        tl.store(scores + at, score.to(scores.dtype.element_ty), mask=here)
    key = score
    if bias is not None:
        key += tl.load(bias + expert, mask=expert < EXPERTS, other=0.0).to(tl.float32)[None, :]
    key = tl.maximum(key, -3.4028234663852886e38)
    key = tl.where(inside, key, float("-inf"))
    chosen, places = tl.zeros([ROWS, SLOTS], tl.float32), tl.zeros([ROWS, SLOTS], tl.int32)
    for i in range(K):
        best = tl.argmax(key, 1)
        hit, own = expert[None, :] == best[:, None], (slot == i)[None, :]
        chosen = tl.where(own, tl.sum(tl.where(hit, score, 0.0), 1)[:, None], chosen)
        places = tl.where(own, best[:, None], places)
        key = tl.where(hit, float("-inf"), key)
    spot = row.to(tl.int64)[:, None] * K + slot[None, :]
    seen = (row < rows)[:, None] & (slot < K)[None, :]
    value = routing_weights(chosen, (slot < K)[None, :], WEIGHTS)
    tl.store(index + spot, places.to(tl.int64), mask=seen)
    tl.store(weight + spot, value.to(weight.dtype.element_ty), mask=seen)


@jit
def routing_backward(
    grad,
    grad_scores,
    logits,
    index,
    grad_logits,
    rows,
    K: tl.constexpr,
    EXPERTS: tl.constexpr,
    GROUPS: tl.constexpr,
    SCORE: tl.constexpr,
    WEIGHTS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The slopes of the logits of some rows, from those of the weights, and of the scores of all where these were made."""
    row, expert, at, here = routing_rows(rows, EXPERTS, ROWS, WIDTH)
    slot = tl.arange(0, SLOTS)
    spot, used = row.to(tl.int64)[:, None] * K + slot[None, :], (slot < K)[None, :]
    seen = (row < rows)[:, None] & used
    score = routing_scores(
        tl.load(logits + at, mask=here, other=1.0).to(tl.float32), (expert < EXPERTS)[None, :], SCORE
    )
    places = tl.load(index + spot, mask=seen, other=0)
    slope = tl.load(grad + spot, mask=seen, other=0.0).to(tl.float32)
    chosen = tl.zeros([ROWS, SLOTS], tl.float32)
    for i in range(K):
        own = (slot == i)[None, :]
        hit = expert[None, :] == tl.sum(tl.where(own, places, 0), 1)[:, None]
        chosen = tl.where(own, tl.sum(tl.where(hit, score, 0.0), 1)[:, None], chosen)
    value = routing_weights(chosen, used, WEIGHTS)
    if WEIGHTS != "none":
        slope -= tl.sum(slope * value, 1)[:, None]
    if WEIGHTS == "share":
        slope = slope / tl.sum(chosen, 1)[:, None]
    elif WEIGHTS == "softmax":
        slope *= value
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    if grad_scores is not None:
        total += tl.load(grad_scores + at, mask=here, other=0.0).to(tl.float32)
    for i in range(K):
        own = (slot == i)[None, :]
        hit = expert[None, :] == tl.sum(tl.where(own, places, 0), 1)[:, None]
        total += tl.where(hit, tl.sum(tl.where(own, slope, 0.0), 1)[:, None], 0.0)
    if SCORE == "softmax":
        total = score * (total - tl.sum(total * score, 1)[:, None])
    elif SCORE == "sigmoid":
        total *= score * (1.0 - score)
    tl.store(grad_logits + at, total.to(grad_logits.dtype.element_ty), mask=here)


def routing_call(
    part: str, logits: Tensor, k: int, score: str, weights: str, groups: tuple[int, ...] | None
) -> dict[str, Any]:
    """What both kernels are told of logits [row, experts]: a tile has 1024 numbers, or a row."""
    width = tile(logits.shape[1], 1)
    height = max(1, min(tile(logits.shape[0], 1), 1024 // width))
    return dict(
        rows=logits.shape[0],
        K=k,
        EXPERTS=logits.shape[1],
        GROUPS=groups,
        SCORE=score,
        WEIGHTS=weights,
        WIDTH=width,
        SLOTS=tile(k, 1),
        **tile_shape(f"top_k_routing.{part}", logits, dict(experts=width, k=k), ROWS=height, num_warps=4),
    )


@operation
def route(
    logits: Tensor, bias: Tensor | None, k: int, score: str, weights: str, scored: bool, groups: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The experts and weights [row, k] for logits [row, experts], and the scores of all experts or nothing."""
    call = routing_call("forward", logits, k, score, weights, tuple(groups) or None)
    index, weight, scores = route_like(logits, bias, k, score, weights, scored, groups)
    routing_forward[(triton.cdiv(call["rows"], call["ROWS"]),)](
        logits, bias, index, weight, scores if scored else None, **call
    )
    return index, weight, scores


@route.register_fake
def route_like(
    logits: Tensor, bias: Tensor | None, k: int, score: str, weights: str, scored: bool, groups: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    rows, experts = logits.shape
    index = logits.new_empty(rows, k, dtype=torch.int64)
    return index, logits.new_empty(rows, k), logits.new_empty(rows if scored else 0, experts)


@operation
def route_backward(
    grad: Tensor, grad_scores: Tensor | None, logits: Tensor, index: Tensor, score: str, weights: str
) -> Tensor:
    """The gradient of the logits."""
    call, made = routing_call("backward", logits, index.shape[1], score, weights, None), torch.empty_like(logits)
    scores = None if grad_scores is None else grad_scores.contiguous()
    routing_backward[(triton.cdiv(call["rows"], call["ROWS"]),)](grad.contiguous(), scores, logits, index, made, **call)
    return made


@route_backward.register_fake
def route_backward_like(
    grad: Tensor, grad_scores: Tensor | None, logits: Tensor, index: Tensor, score: str, weights: str
) -> Tensor:
    return torch.empty_like(logits)


def route_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, _, _, score, weights, scored, _ = inputs
    ctx.mark_non_differentiable(output[0])
    ctx.save_for_backward(logits, output[0])
    ctx.given, ctx.scored = (score, weights), scored


def route_gradients(ctx: Any, _: Tensor, grad: Tensor, grad_scores: Tensor) -> tuple[Tensor | None, ...]:
    made = route_backward(grad, grad_scores if ctx.scored else None, *ctx.saved_tensors, *ctx.given)
    return made, None, None, None, None, None, None


route.register_autograd(route_gradients, setup_context=route_keep)


def triton_top_k_routing(
    logits: Tensor,
    k: int,
    score: str = "none",
    weights: str = "none",
    bias: Tensor | None = None,
    scored: bool = False,
    groups: tuple[int, int, int] | None = None,
) -> tuple[Tensor, ...]:
    """`top_k_routing` by kernels."""
    if not runs(logits, bias) or not logits.numel():
        return top_k_routing(logits, k, score, weights, bias, scored, groups)
    lead, experts = logits.shape[:-1], logits.shape[-1]
    bias = None if bias is None else bias.contiguous()
    index, weight, scores = route(
        logits.reshape(-1, experts).contiguous(), bias, k, score, weights, scored, list(groups or ())
    )
    made = index.view(*lead, k), weight.view(*lead, k)
    return (*made, scores.view(logits.shape)) if scored else made


def turn(x: Tensor, turns: Tensor, axes: Sequence[int], interleaved: bool = False) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin) for pairs of the first channels of x (the last axis), with the cos and
    sin of each place along `axes`: turns [2, *places, pairs].
    """
    dim = 2 * turns.shape[-1]
    places = [size if axis in axes else 1 for axis, size in enumerate(x.shape[:-1])][min(axes) :]
    cos, sin = turns.reshape(2, *places, dim // 2)
    turned = x[..., :dim]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    a, b = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack((a, b), -1).flatten(-2) if interleaved else torch.cat((a, b), -1)
    return torch.cat((turned.to(x.dtype), x[..., dim:]), -1) if dim < x.shape[-1] else turned.to(x.dtype)


class CausalAttention(nn.Module):
    """Grouped-query attention to the past with rotary positions, as in Llama (Touvron et al., 2023; Ainslie et al.,
    EMNLP 2023).
    """

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(32, 32, bias=False)
        self.k_proj = nn.Linear(32, 16, bias=False)
        self.v_proj = nn.Linear(32, 16, bias=False)
        self.o_proj = nn.Linear(32, 32, bias=False)

    def forward(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        q = self.q_proj(x).unflatten(-1, (2, 2, 8))
        k = self.k_proj(x).unflatten(-1, (2, 8))
        v = self.v_proj(x).unflatten(-1, (2, 8))
        q = turn(q, turns, (1,))
        k = turn(k, turns, (1,))
        o = F.scaled_dot_product_attention(
            q.flatten(2, 3).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        return self.o_proj(o.transpose(1, 2).flatten(2))


class TopSoftmax(nn.Module):
    """The `top` most probable experts of a softmax; their probabilities, or these divided by their sum.

    Renormalised it is the router of Mixtral (Jiang et al., arXiv:2401.04088); of the probabilities as they are,
    top = 1 is that of Switch (Fedus et al., JMLR 2022).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 4, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.gate(x)
        index, weight, probability = triton_top_k_routing(logits, 2, score="softmax", weights="share", scored=True)
        z = torch.square(logits.logsumexp(-1)).mean((0, 1))
        return index, weight, load_balance(probability, index), z


class Swiglu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 48, bias=False)
        self.up = nn.Linear(32, 48, bias=False)
        self.down = nn.Linear(48, 32, bias=False)


class Moe(nn.Module):
    """sum over the chosen experts e of weight[e] * expert_e(x), and shared(x) (Shazeer et al., ICLR 2017).

    Dropless, unless `capacity` lets each expert take only so many times its even share of a sample's tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.router = TopSoftmax()
        self.experts = nn.ModuleList(Swiglu() for _ in range(4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        index, weight, balance, z = self.router(x)
        ends, order = triton_sorted_choices(index, 4)
        routed = grouped_silu_mul(
            x.flatten(0, 1),
            ends,
            [[layer.gate.weight for layer in self.experts], [layer.up.weight for layer in self.experts]],
            order=order,
        )
        routed = triton_grouped_linear(routed, ends, [layer.down.weight for layer in self.experts])
        return triton_combine([routed], order, weight), balance, z


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(32, eps=1e-5)
        self.attn = CausalAttention()
        self.norm2 = nn.RMSNorm(32, eps=1e-5)
        self.moe = Moe()

    def forward(self, x: torch.Tensor, turns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        add, norm2 = fused_add_rms_norm(x, self.attn(self.norm1(x), turns), self.norm2.weight, 1e-5)
        moe, balance, z = self.moe(norm2)
        return add + moe, balance, z


class Mixtral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.losses = Losses()
        self.embed = nn.Embedding(128, 32)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.RMSNorm(32, eps=1e-5)
        self.head = nn.Linear(32, 128, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        device = tokens.device
        t = tokens.shape[-1]
        turns = rotary_turns((t,), 4, dtype=self.embed.weight.dtype, device=device)
        x = self.embed(tokens)
        balances = []
        zs = []
        for layer in self.layers:
            x, balance, z = layer(x, turns)
            balances.append(balance)
            zs.append(z)
        if self.training:
            self.losses = Losses({"balance": torch.stack(balances), "z": torch.stack(zs)})
        return self.head(self.norm(x))

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
