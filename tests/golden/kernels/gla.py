"""Gated Linear Attention (Yang et al., ICML 2024, arXiv:2312.06635)."""
# Made by archlang 0.1.0 from gla.arch (sha256 d5a1b3a1597eb733): gla_lm depth=2 dim=16 heads=2 hidden=24 rank=4 vocab=32

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
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


@jit
def fused_neg_softplus_neg_div_forward(
    decay_in, div_out, beta, decay_steps, inner, rows, width, tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """neg, softplus, neg, div: a tile of rows."""
    row = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    here = (row < rows)[:, None] & (column < width)[None, :]
    decay = chain_load(decay_in, decay_steps, row, inner, column, here)
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(div_out + at, (-(chain_softplus(beta * -decay) / beta) / 16.0).to(div_out.dtype.element_ty), mask=here)


@jit
def fused_neg_softplus_neg_div_backward(
    grad_div_in,
    decay_in,
    grad_decay_out,
    beta,
    grad_div_steps,
    decay_steps,
    inner,
    rows,
    width,
    tiles,
    each,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The slopes of neg, softplus, neg, div: of one tile of rows after another."""
    part = tl.program_id(0) // tiles
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    for step in range(part * each, (part + 1) * each):
        row = step * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < width)[None, :]
        grad_div = chain_load(grad_div_in, grad_div_steps, row, inner, column, here)
        decay = chain_load(decay_in, decay_steps, row, inner, column, here)
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        tl.store(
            grad_decay_out + at,
            (-(-(grad_div / 16.0) / beta * tl.sigmoid(beta * -decay) * beta)).to(grad_decay_out.dtype.element_ty),
            mask=here,
        )


@operation
def fused_neg_softplus_neg_div_step(decay: Tensor, beta: float) -> Tensor:
    """neg, softplus, neg, div of rows [.., c]."""
    rows, inner, steps = chain_rows([dense(decay)])
    div = fused_neg_softplus_neg_div_like(decay, beta)
    call = chain_call("fused_neg_softplus_neg_div.forward", decay, False)
    grid = (call["tiles"] * triton.cdiv(call["rows"], call["ROWS"]),)
    fused_neg_softplus_neg_div_forward[grid](*rows, div, beta, *steps, inner, **call)
    return div


@fused_neg_softplus_neg_div_step.register_fake
def fused_neg_softplus_neg_div_like(decay: Tensor, beta: float) -> Tensor:
    kind = chain_kind(decay)
    return decay.new_empty(decay.shape, dtype=kind)


@operation
def fused_neg_softplus_neg_div_slopes(grad_div: Tensor, decay: Tensor, beta: float) -> Tensor:
    """The gradients of all inputs."""
    given = [dense(grad_div), dense(decay)]
    rows, inner, steps = chain_rows(given)
    made = [fused_neg_softplus_neg_div_slopes_like(grad_div, decay, beta)]
    call = chain_call("fused_neg_softplus_neg_div.backward", decay, False)
    count = triton.cdiv(call["rows"], call["ROWS"])
    each, parts = 1, count
    grid = (call["tiles"] * parts,)
    fused_neg_softplus_neg_div_backward[grid](*rows, *made, beta, *steps, inner, each=each, **call)
    return made[0]


@fused_neg_softplus_neg_div_slopes.register_fake
def fused_neg_softplus_neg_div_slopes_like(grad_div: Tensor, decay: Tensor, beta: float) -> Tensor:
    return decay.new_empty(decay.shape)


def fused_neg_softplus_neg_div_keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:1])
    ctx.given = inputs[1:]


def fused_neg_softplus_neg_div_gradients(ctx: Any, grad_div: Tensor) -> tuple[Tensor | None, ...]:
    return fused_neg_softplus_neg_div_slopes(grad_div, *ctx.saved_tensors, *ctx.given), None


fused_neg_softplus_neg_div_step.register_autograd(
    fused_neg_softplus_neg_div_gradients, setup_context=fused_neg_softplus_neg_div_keep
)


def fused_neg_softplus_neg_div_plain(decay: Tensor, beta: float) -> Tensor:
    """neg, softplus, neg, div in PyTorch."""
    return -F.softplus(-decay, beta) / 16


def fused_neg_softplus_neg_div(decay: Tensor, beta: float) -> Tensor:
    """neg, softplus, neg, div in one kernel."""
    if not runs(decay) or not decay.numel():
        return fused_neg_softplus_neg_div_plain(decay, beta)
    [decay], back = chain_flat(decay)
    return back(fused_neg_softplus_neg_div_step(decay, beta))


@jit
def fused_silu_mul_forward(
    gate_in, up_in, mul_out, gate_steps, up_steps, inner, rows, width, tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """silu, mul: a tile of rows."""
    row = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    here = (row < rows)[:, None] & (column < width)[None, :]
    gate = chain_load(gate_in, gate_steps, row, inner, column, here)
    up = chain_load(up_in, up_steps, row, inner, column, here)
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(mul_out + at, (gate * tl.sigmoid(gate) * up).to(mul_out.dtype.element_ty), mask=here)


@jit
def fused_silu_mul_backward(
    grad_mul_in,
    gate_in,
    up_in,
    grad_gate_out,
    grad_up_out,
    grad_mul_steps,
    gate_steps,
    up_steps,
    inner,
    rows,
    width,
    tiles,
    each,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The slopes of silu, mul: of one tile of rows after another."""
    part = tl.program_id(0) // tiles
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    for step in range(part * each, (part + 1) * each):
        row = step * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < width)[None, :]
        grad_mul = chain_load(grad_mul_in, grad_mul_steps, row, inner, column, here)
        gate = chain_load(gate_in, gate_steps, row, inner, column, here)
        up = chain_load(up_in, up_steps, row, inner, column, here)
        gate2 = tl.sigmoid(gate)
        product = grad_mul * up
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        tl.store(
            grad_gate_out + at,
            (product * gate2 + product * gate * gate2 * (1.0 - gate2)).to(grad_gate_out.dtype.element_ty),
            mask=here,
        )
        tl.store(grad_up_out + at, (grad_mul * (gate * gate2)).to(grad_up_out.dtype.element_ty), mask=here)


@operation
def fused_silu_mul_step(gate: Tensor, up: Tensor) -> Tensor:
    """silu, mul of rows [.., c]."""
    rows, inner, steps = chain_rows([dense(gate), dense(up)])
    mul = fused_silu_mul_like(gate, up)
    call = chain_call("fused_silu_mul.forward", gate, False)
    grid = (call["tiles"] * triton.cdiv(call["rows"], call["ROWS"]),)
    fused_silu_mul_forward[grid](*rows, mul, *steps, inner, **call)
    return mul


@fused_silu_mul_step.register_fake
def fused_silu_mul_like(gate: Tensor, up: Tensor) -> Tensor:
    kind = chain_kind(gate, up)
    return gate.new_empty(gate.shape, dtype=kind)


@operation
def fused_silu_mul_slopes(grad_mul: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of all inputs."""
    given = [dense(grad_mul), dense(gate), dense(up)]
    rows, inner, steps = chain_rows(given)
    made = list(fused_silu_mul_slopes_like(grad_mul, gate, up))
    call = chain_call("fused_silu_mul.backward", gate, False)
    count = triton.cdiv(call["rows"], call["ROWS"])
    each, parts = 1, count
    grid = (call["tiles"] * parts,)
    fused_silu_mul_backward[grid](*rows, *made, *steps, inner, each=each, **call)
    return tuple(made)


@fused_silu_mul_slopes.register_fake
def fused_silu_mul_slopes_like(grad_mul: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (gate, up))


def fused_silu_mul_keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.given = inputs[2:]


def fused_silu_mul_gradients(ctx: Any, grad_mul: Tensor) -> tuple[Tensor | None, ...]:
    return fused_silu_mul_slopes(grad_mul, *ctx.saved_tensors, *ctx.given)


fused_silu_mul_step.register_autograd(fused_silu_mul_gradients, setup_context=fused_silu_mul_keep)


def fused_silu_mul_plain(gate: Tensor, up: Tensor) -> Tensor:
    """silu, mul in PyTorch."""
    return F.silu(gate) * up


def fused_silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """silu, mul in one kernel."""
    if not runs(gate, up) or not gate.numel():
        return fused_silu_mul_plain(gate, up)
    [gate, up], back = chain_flat(gate, up)
    return back(fused_silu_mul_step(gate, up))


@jit
def fused_silu_rms_norm_mul_forward(
    g_proj_in,
    o_in,
    weight_in,
    mul_out,
    eps,
    g_proj_steps,
    o_steps,
    inner,
    rows,
    width,
    tiles,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """silu, rms_norm, mul: a tile of rows."""
    row = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (column < width)[None, :]
    here = (row < rows)[:, None] & (column < width)[None, :]
    g_proj = chain_load(g_proj_in, g_proj_steps, row, inner, column, here)
    o = chain_load(o_in, o_steps, row, inner, column, here)
    weight = tl.load(weight_in + column, mask=column < width, other=1.0).to(tl.float32)[None, :]
    mul = g_proj * tl.sigmoid(g_proj) * (o * tl.rsqrt(chain_sum(o * o, inside) / width + eps) * weight)
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(mul_out + at, mul.to(mul_out.dtype.element_ty), mask=here)


@jit
def fused_silu_rms_norm_mul_backward(
    grad_mul_in,
    g_proj_in,
    o_in,
    weight_in,
    grad_g_proj_out,
    grad_o_out,
    grad_weight_out,
    eps,
    grad_mul_steps,
    g_proj_steps,
    o_steps,
    inner,
    rows,
    width,
    tiles,
    each,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The slopes of silu, rms_norm, mul: of one tile of rows after another, those of what all rows share as a sum over them."""
    part = tl.program_id(0) // tiles
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    weight = tl.load(weight_in + column, mask=column < width, other=1.0).to(tl.float32)[None, :]
    inside = (column < width)[None, :]
    sum_weight = tl.zeros([ROWS, COLUMNS], tl.float32)
    for step in range(part * each, (part + 1) * each):
        row = step * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < width)[None, :]
        grad_mul = chain_load(grad_mul_in, grad_mul_steps, row, inner, column, here)
        g_proj = chain_load(g_proj_in, g_proj_steps, row, inner, column, here)
        o = chain_load(o_in, o_steps, row, inner, column, here)
        gate = tl.sigmoid(g_proj)
        scale = tl.rsqrt(chain_sum(o * o, inside) / width + eps)
        rms_norm = o * scale
        product = grad_mul * (rms_norm * weight)
        product2 = grad_mul * (g_proj * gate)
        product3 = product2 * weight
        product4 = -0.5 * chain_sum(product3 * o, inside) * scale * scale * scale / width * o
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        tl.store(
            grad_g_proj_out + at,
            (product * gate + product * g_proj * gate * (1.0 - gate)).to(grad_g_proj_out.dtype.element_ty),
            mask=here,
        )
        tl.store(grad_o_out + at, (product3 * scale + product4 + product4).to(grad_o_out.dtype.element_ty), mask=here)
        sum_weight += tl.where(here, (product2 * rms_norm), 0.0)
    tl.store(grad_weight_out + part.to(tl.int64) * width + column, tl.sum(sum_weight, 0), mask=column < width)


@operation
def fused_silu_rms_norm_mul_step(g_proj: Tensor, o: Tensor, weight: Tensor, eps: float) -> Tensor:
    """silu, rms_norm, mul of rows [.., c]."""
    rows, inner, steps = chain_rows([dense(g_proj), dense(o)])
    mul = fused_silu_rms_norm_mul_like(g_proj, o, weight, eps)
    call = chain_call("fused_silu_rms_norm_mul.forward", g_proj, True)
    grid = (call["tiles"] * triton.cdiv(call["rows"], call["ROWS"]),)
    fused_silu_rms_norm_mul_forward[grid](*rows, weight, mul, eps, *steps, inner, **call)
    return mul


@fused_silu_rms_norm_mul_step.register_fake
def fused_silu_rms_norm_mul_like(g_proj: Tensor, o: Tensor, weight: Tensor, eps: float) -> Tensor:
    kind = chain_kind(g_proj, o, weight)
    return g_proj.new_empty(g_proj.shape, dtype=kind)


@operation
def fused_silu_rms_norm_mul_slopes(
    grad_mul: Tensor, g_proj: Tensor, o: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of all inputs; torch adds what the programs have summed."""
    given = [dense(grad_mul), dense(g_proj), dense(o)]
    rows, inner, steps = chain_rows(given)
    made = list(fused_silu_rms_norm_mul_slopes_like(grad_mul, g_proj, o, weight, eps))
    call = chain_call("fused_silu_rms_norm_mul.backward", g_proj, True)
    count = triton.cdiv(call["rows"], call["ROWS"])
    each = triton.cdiv(count, max(1, CHAIN_PARTS // call["tiles"]))
    parts = triton.cdiv(count, each)
    made[2] = g_proj.new_empty(parts, call["width"], dtype=torch.float32)
    grid = (call["tiles"] * parts,)
    fused_silu_rms_norm_mul_backward[grid](*rows, weight, *made, eps, *steps, inner, each=each, **call)
    made[2] = made[2].sum(0).to(weight.dtype)
    return tuple(made)


@fused_silu_rms_norm_mul_slopes.register_fake
def fused_silu_rms_norm_mul_slopes_like(
    grad_mul: Tensor, g_proj: Tensor, o: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (g_proj, o, weight))


def fused_silu_rms_norm_mul_keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.given = inputs[3:]


def fused_silu_rms_norm_mul_gradients(ctx: Any, grad_mul: Tensor) -> tuple[Tensor | None, ...]:
    return *fused_silu_rms_norm_mul_slopes(grad_mul, *ctx.saved_tensors, *ctx.given), None


fused_silu_rms_norm_mul_step.register_autograd(
    fused_silu_rms_norm_mul_gradients, setup_context=fused_silu_rms_norm_mul_keep
)


def fused_silu_rms_norm_mul_plain(g_proj: Tensor, o: Tensor, weight: Tensor, eps: float) -> Tensor:
    """silu, rms_norm, mul in PyTorch."""
    return F.silu(g_proj) * (F.rms_norm(o, o.shape[-1:], eps=eps) * weight)


def fused_silu_rms_norm_mul(g_proj: Tensor, o: Tensor, weight: Tensor, eps: float) -> Tensor:
    """silu, rms_norm, mul in one kernel."""
    if not runs(g_proj, o, weight) or not g_proj.numel() or g_proj.shape[-1] > CHAIN_WIDTH:
        return fused_silu_rms_norm_mul_plain(g_proj, o, weight, eps)
    return fused_silu_rms_norm_mul_step(g_proj, o, weight, eps)


RECURRENCE_PROGRAMS = 264  # two for each processor of a large GPU: a sequence is cut into parts until there are so many


@jit
def chunk_places(x, at, heads, chunk, length, column, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """Where the rows of a chunk and some columns of one head of x lie, and which there are; x is a tensor with its strides."""
    row = chunk * ROWS + tl.arange(0, ROWS)
    here = (row < length)[:, None] & (column < WIDTH)[None, :]
    return x[0] + at // heads * x[1] + at % heads * x[2] + row.to(tl.int64)[:, None] * x[3] + column[None, :], here


@jit
def chunk_load(x, at, heads, chunk, length, column, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """The rows of a chunk and some columns of one head of x, 0 beyond them."""
    places, here = chunk_places(x, at, heads, chunk, length, column, WIDTH, ROWS)
    return tl.load(places, mask=here, other=0.0)


@jit
def chunk_store(x, at, heads, chunk, length, column, value, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """The rows of a chunk and some columns of one head of x."""
    places, here = chunk_places(x, at, heads, chunk, length, column, WIDTH, ROWS)
    tl.store(places, value.to(x[0].dtype.element_ty), mask=here)


@jit
def chunk_logs(g, at, heads, chunk, length, column, DECAY: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """The logarithms of decays: none where DECAY is 0, one a row where it is 1, where it is 2 one a column too. What is
    below -104 is -104, whose exponential is 0 as well.
    """
    if DECAY == 2:
        log = chunk_load(g, at, heads, chunk, length, column, WIDTH, ROWS).to(tl.float32)
    elif DECAY == 1:
        log = chunk_load(g, at, heads, chunk, length, tl.arange(0, 1), 1, ROWS).to(tl.float32)
    else:
        log = tl.zeros([ROWS, 1], tl.float32)
    return tl.maximum(log, -104.0)


@jit
def chunk_decays(g, at, heads, chunk, length, column, DECAY: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """The decays from the start of a chunk up to each row, those after each row, and all of them. Sums of logarithms are
    never subtracted, so that nothing cancels, however strong the decays are.
    """
    log = chunk_logs(g, at, heads, chunk, length, column, DECAY, WIDTH, ROWS)
    later = log
    if DECAY > 0:
        next_row = g[0] + g[3], g[1], g[2], g[3]
        end = tl.minimum(length, chunk * ROWS + ROWS)
        later = chunk_logs(next_row, at, heads, chunk, end - 1, column, DECAY, WIDTH, ROWS)
    return tl.exp(tl.cumsum(log, 0)), tl.exp(tl.cumsum(later, 0, reverse=True)), tl.exp(tl.sum(log, 0))


@jit
def decays_left(
    g, kept, at, heads, chunk, length, column, DECAY: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr
):
    """The same; queries and keys that are prepared hold the first two, and `kept` the last."""
    if DECAY == 2:
        whole = tl.load(kept + (at * tl.cdiv(length, ROWS) + chunk) * WIDTH + column, mask=column < WIDTH, other=0.0)
        decays = tl.full([1, 1], 1.0, tl.float32), tl.full([1, 1], 1.0, tl.float32), whole
    else:
        decays = chunk_decays(g, at, heads, chunk, length, column, DECAY, WIDTH, ROWS)
    return decays


@jit
def exact_sums(log):
    """The sums of logarithms up to each row, each as two float32: differences of them are exact."""
    total = tl.cumsum(log.to(tl.float64), 0)
    high = total.to(tl.float32)
    return high, (total - high.to(tl.float64)).to(tl.float32)


@jit
def decays_between(log, TURNED: tl.constexpr, PRECISION: tl.constexpr):
    """The decays after row j up to row i at [i, j], where TURNED at [j, i]; 0 where j > i."""
    high, low = exact_sums(tl.sum(log, 1))
    between = high[:, None] - high[None, :]
    if PRECISION == "tf32x3":
        between += low[:, None] - low[None, :]
    row = tl.arange(0, log.shape[0])
    seen = row[:, None] <= row[None, :] if TURNED else row[:, None] >= row[None, :]
    return tl.exp(tl.where(seen, -between if TURNED else between, float("-inf")))


@jit
def decays_to_border(sums, span, PRECISION: tl.constexpr):
    """Of blocks of 2 * span rows: the decays between each row and the border in the middle of its block."""
    row = tl.arange(0, sums[0].shape[0])
    border = (row // (2 * span) * (2 * span) + span - 1)[:, None] + tl.zeros(sums[0].shape, tl.int32)
    between = sums[0] - tl.gather(sums[0], border, 0)
    if PRECISION == "tf32x3":
        between += sums[1] - tl.gather(sums[1], border, 0)
    return tl.exp(tl.where(row[:, None] > border, between, -between))


@jit
def borders(span, ROWS: tl.constexpr):
    """Of blocks of 2 * span rows: which rows are behind the border in the middle, and which pairs of rows it parts."""
    row = tl.arange(0, ROWS)
    block, behind = row // (2 * span), row // span % 2 == 1
    parted = (block[:, None] == block[None, :]) & (behind[:, None] != behind[None, :])
    return behind[:, None], parted


@jit
def per_decay(x, DECAY: tl.constexpr):
    """What belongs to a decay: each channel, or the sum of a row."""
    return x if DECAY == 2 else tl.sum(x, 1)[:, None]


@jit
def inner_slopes(weights, turned, q, k, log, DECAY: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """From the slopes of the weights of a chunk, [query, value] and turned, those of queries, keys and sums of logarithms."""
    if DECAY == 2:
        slopes = inner_slopes_by_channel(weights, turned, q, k, log, PRECISION, WIDEN)
    else:
        slopes = inner_slopes_by_row(weights, turned, q, k, log, DECAY, PRECISION, WIDEN)
    return slopes


@jit
def inner_slopes_by_row(weights, turned, q, k, log, DECAY: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """The same under a decay a row."""
    q_sum = product((weights * decays_between(log, False, PRECISION)).to(k.dtype), k, PRECISION, WIDEN)
    k_sum = product((turned * decays_between(log, True, PRECISION)).to(q.dtype), q, PRECISION, WIDEN)
    return q_sum, k_sum, per_decay(q * q_sum - k * k_sum, DECAY)


@jit
def inner_slopes_by_channel(weights, turned, q, k, log, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """The same under a decay a channel. Rows of a block meet over the border in its middle, those behind it and those
    before it each under the decays between them and the border; blocks have 2, 4, 8, .. rows.
    """
    place = tl.arange(0, log.shape[0])
    same = tl.sum(tl.where(place[:, None] == place[None, :], weights, 0.0), 1)[:, None]
    q_sum, k_sum, up_to = same * k, same * q, tl.zeros(log.shape, tl.float32)
    slopes = tl.where(place[:, None] > place[None, :], weights, turned).to(q.dtype)
    sums = exact_sums(log)
    span = 1
    while span < log.shape[0]:
        behind, parted = borders(span, log.shape[0])
        decay = decays_to_border(sums, span, PRECISION)
        met = (tl.where(behind, q, k) * decay).to(q.dtype)
        slope = product(tl.where(parted, slopes, 0.0), met, PRECISION, WIDEN)
        up_to += met * tl.where(behind, slope, -slope)
        q_sum += tl.where(behind, slope * decay, 0.0)
        k_sum += tl.where(behind, 0.0, slope * decay)
        span *= 2
    return q_sum, k_sum, up_to


@jit
def read_state(x, state, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """x @ state; a state may leave the range of float16."""
    if x.dtype == tl.float16:
        return product(x.to(tl.float32), state.to(tl.float32), PRECISION, WIDEN)
    return product(x, state.to(x.dtype), PRECISION, WIDEN)


def states_of(k: Tensor, v: Tensor, count: int) -> Tensor:
    """Room for some states of every head: in bfloat16 where the rows are, else in float32."""
    kind = k.dtype if k.dtype == torch.bfloat16 else torch.float32
    return k.new_empty(k.shape[0] * k.shape[1] * count, k.shape[-1], v.shape[-1], dtype=kind)


def chunk_call(k: Tensor, v: Tensor, g: Tensor | None) -> dict[str, Any]:
    """What every kernel of a call is told."""
    math = math_of(k) if k.dtype == torch.float32 else {**math_of(k), "PRECISION": "tf32"}
    decay = 0 if g is None else 1 if g.shape[-1] == 1 else 2
    sizes = dict(C=k.shape[-1], D=v.shape[-1], ROWS=min(tile(k.shape[2]), 32 if k.dtype == torch.float32 else 64))
    return dict(heads=k.shape[1], length=k.shape[2], DECAY=decay, **sizes, **math)


@jit
def state_places(states, number, key, value, C: tl.constexpr, D: tl.constexpr):
    """Where some keys and values of a state lie, and which there are."""
    here = (key < C)[:, None] & (value < D)[None, :]
    return states + number.to(tl.int64) * (C * D) + key[:, None] * D + value[None, :], here


@jit
def state_load(states, number, key, value, C: tl.constexpr, D: tl.constexpr):
    """Some keys and values of a state, 0 beyond them."""
    places, here = state_places(states, number, key, value, C, D)
    return tl.load(places, mask=here, other=0.0)


def laid(x: Tensor | None) -> tuple[Any, ...] | None:
    """A tensor [b, heads, t, c] with its strides, for a kernel."""
    return None if x is None else (x := dense(x), *x.stride()[:3])


def with_heads(lead: Sequence[int], length: int, x: Tensor) -> Tensor:
    """x [.., t, c] with all leading axes, brought to [b, heads, t, c]."""
    x = x.expand(*lead, length, x.shape[-1])
    return x[(None,) * (4 - x.ndim)] if x.ndim <= 4 else x.flatten(0, -4)


def rows_of(x: Tensor, width: int) -> Tensor:
    """Room for rows of all heads of x [b, heads, t, c], which lie side by side: such is what follows most often."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], width).transpose(1, 2)


def last_state_of(k: Tensor, v: Tensor, start: Tensor | None, final: bool) -> Tensor:
    """Room for the last state of every head, in the dtype of the start, or in float32; none where nobody asks for it."""
    shape = (*k.shape[:2], k.shape[-1], v.shape[-1]) if final else (0,)
    return k.new_empty(shape, dtype=torch.float32 if start is None else start.dtype)


def in_chunks(
    inside: Callable[..., tuple[Tensor, ...]],
    step: Callable[..., tuple[Tensor, Tensor]],
    inputs: Sequence[Tensor | None],
    start: Tensor | None,
    chunk: int,
    final: bool,
    segment: int = 256,
) -> Tensor | tuple[Tensor, Tensor]:
    """q, k: [.., t, c], v: [.., t, d] and what else there is, in chunks of t: `inside` makes of several chunks side by
    side what `step` takes of each, all leading axes as one, to lead a state [b, c, d] on, from 0 or from `start`
    [.., c, d], and give the output; with `final` also the state after the last position, in the dtype of `start`. No
    more than a segment is at work at once, which bounds the memory.
    """
    given = [x for x in inputs if x is not None]
    k, v, exporting = given[1], given[2], torch.compiler.is_exporting()
    length, dtype = k.shape[-2], torch.promote_types(k.dtype, torch.float32)
    count = length // chunk + 2 if exporting else -(-length // chunk)
    end = count * chunk - length

    def chunks(x: Tensor) -> Tensor:
        x = x.to(dtype).expand(*x.shape[:-2], length, x.shape[-1])
        x = F.pad(x, (0, 0, 0, end)) if exporting or end else x
        if exporting:
            return x[..., torch.arange(count)[:, None] * chunk + torch.arange(chunk), :]
        return x.reshape(*x.shape[:-2], count, chunk, x.shape[-1])

    parts = [chunks(x) for x in given]
    zero = v.new_zeros(k.shape[-1], v.shape[-1], dtype=dtype)
    state, kind = (zero, v.dtype) if start is None else (start.to(dtype), start.dtype)
    lead = torch.broadcast_shapes(state.shape[:-2], *(x.shape[:-3] for x in parts))

    state, outputs = state.expand(*lead, *zero.shape).reshape(-1, *zero.shape), []
    if exporting:  # a loop of free length
        from torch._higher_order_ops.scan import scan

        def one(state: Tensor, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
            made = inside(*(x.reshape(-1, 1, *x.shape[-2:]) for x in parts))
            return step(state, *(x.squeeze(-3) for x in made))

        wide = [x.expand(*lead, *x.shape[-3:]).movedim(-3, 0) for x in parts]
        state, made = scan(one, state.contiguous(), wide)
        made = F.pad(made.movedim(0, -3).flatten(-3, -2), (0, 0, 0, -end))
    else:
        for some in zip(*(x.split(max(1, segment // chunk), -3) for x in parts), strict=True):
            made = inside(*(x.contiguous() for x in some))
            rows = (x.expand(*lead, some[1].shape[-3], *x.shape[-2:]) for x in made)
            for row in zip(*(x.reshape(-1, *x.shape[-3:]).unbind(-3) for x in rows), strict=True):
                state, output = step(state, *row)
                outputs.append(output)
        made = torch.cat(outputs, -2)[:, :length]
    made = made.reshape(*lead, length, v.shape[-1]).to(v.dtype)
    return (made, state.reshape(*lead, *zero.shape).to(kind)) if final else made


def under_decay(
    q: Tensor, k: Tensor, log_decay: Tensor, bounded: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of chunks [.., n, c], n a power of 2, with the logarithm of the decay of every position, [.., n, c] or
    [.., n, 1]:

    - the sums over c of q_i k_j times the decays after j up to i, 0 where j > i: [.., n, n];
    - q_i times the decays up to i, k_j times the decays after j, and the product of all decays.

    No difference of sums is taken, so that nothing overflows or cancels, however strong the decays are: one number a
    position is summed from every j to every i, and for a number a channel blocks of 1, 2, 4 ... positions meet the
    block before them over the border between the two. Where the decays of a chunk are `bounded` from below together,
    keys are divided by what queries are multiplied with, half of it on either side.
    """
    n = q.shape[-2]
    if log_decay.shape[-1] == 1:
        decays = log_decay.expand(*log_decay.shape[:-1], n).tril(-1).cumsum(-2).exp().tril()
        read = log_decay.cumsum(-2).exp()
        return (q @ k.mT) * decays, q * read, k * decays[..., -1:, :].mT, read[..., -1:, :]
    if bounded:
        total = log_decay.cumsum(-2)
        half = (total - total[..., -1:, :] / 2).exp()
        read, left = total.exp(), (total[..., -1:, :] - total).exp()
        return ((q * half) @ (k / half).mT).tril(), q * read, k * left, read[..., -1:, :]
    size, decay, k = 1, log_decay.exp(), k.expand(torch.broadcast_shapes(k.shape, log_decay.shape))
    scores = (q * k).sum(-1)[..., None, None]
    read, left, kept = q * decay, k, decay[..., None, :]
    while size < n:
        (read_0, read_1), (left_0, left_1) = (x.unflatten(-2, (-1, 2, size)).unbind(-3) for x in (read, left))
        (kept_0, kept_1), (scores_0, scores_1) = (x.unflatten(-3, (-1, 2)).unbind(-3) for x in (kept, scores))
        lower = torch.cat([read_1 @ left_0.mT, scores_1], -1)
        scores = torch.cat([F.pad(scores_0, (0, size)), lower], -2)
        read = torch.cat([read_0, read_1 * kept_0], -2).flatten(-3, -2)
        left = torch.cat([left_0 * kept_1, left_1], -2).flatten(-3, -2)
        kept, size = kept_0 * kept_1, 2 * size
    return scores.squeeze(-3), read, left, kept.squeeze(-3)


def linear_recurrence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    chunk: int = 32,
    bounded: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """S_t = exp(log_decay_t) S_{t-1} + k_t v_t^T, o_t = scale * q_t S_t with q, k: [.., t, c], v: [.., t, d] and
    log_decay: [.., t, c] or [.., t, 1]; from S_0 = `start` [.., c, d], or from 0; with `final` also the last
    S, in the dtype of `start`.

    Inside a chunk every query meets the keys before it; the state passes from one chunk to the next. `bounded`: the
    decays of a chunk together are not below exp(-120).
    """

    def inside(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None) -> tuple[Tensor, ...]:
        """What the queries read of their own chunk and what they read the state with; what is kept of it; the keys and
        values that are added.
        """
        if log_decay is None:
            return (q @ k.mT).tril() @ v, q, k.new_ones(1, 1, 1), k.mT, v
        scores, q, k, kept = under_decay(q, k, log_decay, bounded)
        return scores @ v, q, kept.mT, k.mT, v

    def step(state: Tensor, own: Tensor, q: Tensor, kept: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return torch.baddbmm(state * kept, k, v), torch.baddbmm(own, q, state)

    return in_chunks(inside, step, (q * scale, k, v, log_decay), start, chunk, final)


@jit
def recurrence_scores(
    q,
    k,
    g,
    scores,
    CHANNELS: tl.constexpr,
    heads,
    length,
    C: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    DECAY: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """What each query of one chunk reads of each value, under a decay a row."""
    at, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.arange(0, ROWS)
    total = tl.zeros([ROWS, ROWS], tl.float32)
    for start in range(0, C, CHANNELS):
        key = start + tl.arange(0, CHANNELS)
        q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        total += product(q_tile, tl.trans(k_tile), PRECISION, WIDEN)
    total *= decays_between(chunk_logs(g, at, heads, chunk, length, tl.arange(0, 1), DECAY, C, ROWS), False, PRECISION)
    scores += (at * tl.num_programs(1) + chunk) * (ROWS * ROWS)
    tl.store(scores + place[:, None] * ROWS + place[None, :], total.to(scores.dtype.element_ty))


@jit
def recurrence_scores_by_channel(
    q,
    k,
    g,
    scores,
    q_read,
    k_left,
    kept,
    CHANNELS: tl.constexpr,
    heads,
    length,
    C: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    DECAY: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The same under a decay a channel; and queries and keys under the decays before and after them, and those of the
    whole chunk. Rows of a block meet over the border in its middle, those behind it and those before it each under the
    decays between them and the border; blocks have 2, 4, 8, .. rows.
    """
    at, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.arange(0, ROWS)
    same = tl.zeros([ROWS], tl.float32)
    total = tl.zeros([ROWS, ROWS], tl.float32)
    for start in range(0, C, CHANNELS):
        key = start + tl.arange(0, CHANNELS)
        q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        same += tl.sum(q_tile.to(tl.float32) * k_tile.to(tl.float32), 1)
        sums = exact_sums(chunk_logs(g, at, heads, chunk, length, key, DECAY, C, ROWS))
        span = 1
        while span < ROWS:
            behind, parted = borders(span, ROWS)
            met = tl.where(behind, q_tile, k_tile) * decays_to_border(sums, span, PRECISION)
            met = met.to(q_tile.dtype)
            total += tl.where(parted, product(met, tl.trans(met), PRECISION, WIDEN), 0.0)
            span *= 2
        up_to, after, whole = chunk_decays(g, at, heads, chunk, length, key, DECAY, C, ROWS)
        chunk_store(q_read, at, heads, chunk, length, key, q_tile * up_to, C, ROWS)
        chunk_store(k_left, at, heads, chunk, length, key, k_tile * after, C, ROWS)
        tl.store(kept + (at * tl.num_programs(1) + chunk) * C + key, whole, mask=key < C)
    total = tl.where(
        place[:, None] > place[None, :], total, tl.where(place[:, None] == place[None, :], same[:, None], 0.0)
    )
    scores += (at * tl.num_programs(1) + chunk) * (ROWS * ROWS)
    tl.store(scores + place[:, None] * ROWS + place[None, :], total.to(scores.dtype.element_ty))


@jit
def recurrence_states(
    k,
    v,
    g,
    kept,
    states,
    start,
    each,
    REVERSE: tl.constexpr,
    CHANNELS: tl.constexpr,
    VALUES: tl.constexpr,
    heads,
    length,
    C: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    DECAY: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Some keys and values of the states before every part of `each` chunks, from a start where there is one. In REVERSE
    the slopes of the states after every part, where k are the queries and v the slopes of the outputs, from that of the
    last state, in whose place that of the first is put.
    """
    at, count = tl.program_id(0).to(tl.int64), tl.cdiv(length, ROWS)
    key = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    value = tl.program_id(2) * VALUES + tl.arange(0, VALUES)
    state = tl.zeros([CHANNELS, VALUES], tl.float32)
    if start is not None:
        state += state_load(start, at, key, value, C, D).to(tl.float32)
    for step in range(0, count):
        chunk = count - 1 - step if REVERSE else step
        if step % each == 0:
            places, here = state_places(states, at * tl.cdiv(count, each) + chunk // each, key, value, C, D)
            tl.store(places, state.to(states.dtype.element_ty), mask=here)
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        v_tile = chunk_load(v, at, heads, chunk, length, value, D, ROWS)
        up_to, after, whole = decays_left(g, kept, at, heads, chunk, length, key, DECAY, C, ROWS)
        v_tile = (v_tile * (up_to if REVERSE else after)).to(k_tile.dtype)
        state = state * whole[:, None] + product(tl.trans(k_tile), v_tile, PRECISION, WIDEN)
    if REVERSE:
        if start is not None:
            places, here = state_places(start, at, key, value, C, D)
            tl.store(places, state.to(start.dtype.element_ty), mask=here)


@jit
def recurrence_forward(
    q,
    k,
    v,
    g,
    kept,
    scores,
    states,
    out,
    last,
    scale,
    each,
    CHANNELS: tl.constexpr,
    VALUES: tl.constexpr,
    heads,
    length,
    C: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    DECAY: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Some columns of the outputs of a part of the sequence, chunk after chunk, and of the last state; the state stays in
    registers.
    """
    at, part = tl.program_id(0).to(tl.int64), tl.program_id(2)
    key = tl.arange(0, CHANNELS)
    value = tl.program_id(1) * VALUES + tl.arange(0, VALUES)
    in_chunk = tl.arange(0, ROWS)[:, None] * ROWS + tl.arange(0, ROWS)[None, :]
    state = tl.zeros([CHANNELS, VALUES], tl.float32)
    if states is not None:
        state += state_load(states, at * tl.num_programs(2) + part, key, value, C, D).to(tl.float32)
    for chunk in range(part * each, tl.minimum((part + 1) * each, tl.cdiv(length, ROWS))):
        q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        v_tile = chunk_load(v, at, heads, chunk, length, value, D, ROWS)
        up_to, after, whole = decays_left(g, kept, at, heads, chunk, length, key, DECAY, C, ROWS)
        y = read_state(q_tile, state, PRECISION, WIDEN) * up_to
        y += product(
            tl.load(scores + (at * tl.cdiv(length, ROWS) + chunk) * (ROWS * ROWS) + in_chunk), v_tile, PRECISION, WIDEN
        )
        chunk_store(out, at, heads, chunk, length, value, y * scale, D, ROWS)
        v_tile = (v_tile * after).to(k_tile.dtype)
        state = state * whole[:, None] + product(tl.trans(k_tile), v_tile, PRECISION, WIDEN)
    if last is not None:
        if part == tl.num_programs(2) - 1:
            places, here = state_places(last, at, key, value, C, D)
            tl.store(places, state.to(last.dtype.element_ty), mask=here)


@jit
def recurrence_backward_values(
    grad,
    k,
    g,
    kept,
    scores,
    grad_states,
    grad_v,
    scale,
    CHANNELS: tl.constexpr,
    VALUES: tl.constexpr,
    heads,
    length,
    C: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    DECAY: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The slopes of some columns of the values of one chunk: its own queries have read them, and later ones the state."""
    at, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    value = tl.program_id(2) * VALUES + tl.arange(0, VALUES)
    number = at * tl.num_programs(1) + chunk
    grad_tile = chunk_load(grad, at, heads, chunk, length, value, D, ROWS)
    turned = tl.arange(0, ROWS)[:, None] + tl.arange(0, ROWS)[None, :] * ROWS
    total = product(tl.load(scores + number * (ROWS * ROWS) + turned), grad_tile, PRECISION, WIDEN)
    for start in range(0, C, CHANNELS):
        key = start + tl.arange(0, CHANNELS)
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        up_to, after, whole = decays_left(g, kept, at, heads, chunk, length, key, DECAY, C, ROWS)
        grad_state = state_load(grad_states, number, key, value, C, D)
        total += read_state(k_tile, grad_state, PRECISION, WIDEN) * after
    chunk_store(grad_v, at, heads, chunk, length, value, total * scale, D, ROWS)


@jit
def recurrence_backward_keys(
    grad,
    q,
    k,
    v,
    g,
    states,
    grad_states,
    grad_q,
    grad_k,
    grad_g,
    scale,
    CHANNELS: tl.constexpr,
    VALUES: tl.constexpr,
    heads,
    length,
    C: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    DECAY: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The slopes of some columns of the queries and keys of one chunk, and of the logarithms of their decays."""
    at, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    key, number = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS), at * tl.num_programs(1) + chunk
    weights, turned = tl.zeros([ROWS, ROWS], tl.float32), tl.zeros([ROWS, ROWS], tl.float32)
    q_sum, k_sum = tl.zeros([ROWS, CHANNELS], tl.float32), tl.zeros([ROWS, CHANNELS], tl.float32)
    kept_sum = tl.zeros([CHANNELS], tl.float32)
    for start in range(0, D, VALUES):
        value = start + tl.arange(0, VALUES)
        v_tile = chunk_load(v, at, heads, chunk, length, value, D, ROWS)
        grad_tile = chunk_load(grad, at, heads, chunk, length, value, D, ROWS)
        state = state_load(states, number, key, value, C, D)
        grad_state = state_load(grad_states, number, key, value, C, D)
        weights += product(grad_tile, tl.trans(v_tile), PRECISION, WIDEN)
        turned += product(v_tile, tl.trans(grad_tile), PRECISION, WIDEN)
        q_sum += read_state(grad_tile, tl.trans(state), PRECISION, WIDEN)
        k_sum += read_state(v_tile, tl.trans(grad_state), PRECISION, WIDEN)
        kept_sum += tl.sum(state.to(tl.float32) * grad_state.to(tl.float32), 1)
    q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
    k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
    log = chunk_logs(g, at, heads, chunk, length, key, DECAY, C, ROWS)
    q_inner, k_inner, slope = inner_slopes(weights, turned, q_tile, k_tile, log, DECAY, PRECISION, WIDEN)
    up_to, after, whole = chunk_decays(g, at, heads, chunk, length, key, DECAY, C, ROWS)
    q_sum, k_sum = q_sum * up_to, k_sum * after
    chunk_store(grad_q, at, heads, chunk, length, key, (q_sum + q_inner) * scale, C, ROWS)
    chunk_store(grad_k, at, heads, chunk, length, key, (k_sum + k_inner) * scale, C, ROWS)
    if DECAY > 0:
        q_slope, k_slope = per_decay(q_tile * q_sum, DECAY), per_decay(k_tile * k_sum, DECAY)
        kept_sum = (kept_sum if DECAY == 2 else tl.sum(kept_sum)) * whole
        slope = tl.cumsum(q_slope + slope, 0, reverse=True) + (tl.cumsum(k_slope, 0) - k_slope) + kept_sum[None, :]
        if DECAY == 2:
            chunk_store(grad_g, at, heads, chunk, length, key, slope * scale, C, ROWS)
        else:
            part = tl.program_id(2) + tl.arange(0, 1)
            chunk_store(grad_g, at, heads, chunk, length, part, slope * scale, (C + CHANNELS - 1) // CHANNELS, ROWS)


def recurrence_tiles(part: str, k: Tensor, v: Tensor, decay: int) -> dict[str, int]:
    """The shape of tiles: what a program holds fits into registers. Forward that is all keys of a state."""
    channels, values, half = tile(k.shape[-1]), tile(v.shape[-1]), k.dtype != torch.float32
    kernel, sizes = f"linear_recurrence.{part}", dict(c=channels, d=values, decays=channels if decay == 2 else 1)
    if part != "forward":
        some = min(channels, 32 if half and decay < 2 else 16)
        return tile_shape(kernel, k, sizes, CHANNELS=some, VALUES=min(values, 32 if half else 16), num_warps=4)
    most, stages = 32 if k.dtype == torch.bfloat16 or channels <= 64 else 16, 1 if k.dtype == torch.float16 else 2
    shape = tile_shape(
        kernel, k, sizes, VALUES=min(values, most), num_warps=4 if channels <= 128 else 8, num_stages=stages
    )
    return dict(CHANNELS=channels, **shape)


def recurrence_prepared(q: Tensor, k: Tensor, g: Tensor | None, call: dict[str, Any]) -> tuple[Any, ...]:
    """Queries and keys, under a decay a channel, what is kept of the states, and the scores of all chunks."""
    scores = k.new_empty(k.shape[0] * k.shape[1], triton.cdiv(k.shape[2], call["ROWS"]), call["ROWS"], call["ROWS"])
    channels = tile(k.shape[-1])
    sizes = dict(c=channels, decays=channels if call["DECAY"] == 2 else 1)
    tiles = tile_shape("linear_recurrence.scores", k, sizes, CHANNELS=min(channels, 32), num_warps=4)
    if call["DECAY"] == 2:
        kept = scores.new_empty(*scores.shape[:2], k.shape[-1], dtype=torch.float32)
        q_read, k_left = rows_of(q, q.shape[-1]), rows_of(k, k.shape[-1])
        given = laid(q), laid(k), laid(g), scores, laid(q_read), laid(k_left), kept
        recurrence_scores_by_channel[scores.shape[:2]](*given, **tiles, **call)
        return q_read, k_left, kept, scores
    recurrence_scores[scores.shape[:2]](laid(q), laid(k), laid(g), scores, **tiles, **call)
    return q, k, None, scores


def recurrence_kept(
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    kept: Tensor | None,
    start: Tensor | None,
    each: int,
    reverse: bool,
    call: dict[str, Any],
) -> Tensor:
    """The states before parts of `each` chunks, from a start; or in reverse their slopes after them, from that of the last
    state, in whose place that of the first is put.
    """
    tiles = recurrence_tiles("states", k, v, call["DECAY"])
    states = states_of(k, v, triton.cdiv(triton.cdiv(k.shape[2], call["ROWS"]), each))
    pieces = triton.cdiv(k.shape[-1], tiles["CHANNELS"]), triton.cdiv(v.shape[-1], tiles["VALUES"])
    grid = k.shape[0] * k.shape[1], *pieces
    recurrence_states[grid](laid(k), laid(v), laid(g), kept, states, start, each, REVERSE=reverse, **tiles, **call)
    return states


@operation
def recur_in_chunks(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, start: Tensor | None, scale: float, final: bool
) -> tuple[Tensor, Tensor]:
    """The outputs [b, heads, t, d] for q, k [b, heads, t, c], v [b, heads, t, d], g [b, heads, t, c] or [.., t, 1], and a start
    [b, heads, c, d]; and the last state, in the dtype of the start, where it is `final`.
    """
    call = chunk_call(k, v, g)
    tiles = recurrence_tiles("forward", k, v, call["DECAY"])
    chunks, pieces = triton.cdiv(k.shape[2], call["ROWS"]), triton.cdiv(v.shape[-1], tiles["VALUES"])
    several = k.shape[0] * k.shape[1] * pieces
    each = triton.cdiv(chunks, min(chunks, triton.cdiv(RECURRENCE_PROGRAMS, several)))
    q, k, kept, scores = recurrence_prepared(q, k, g, call)
    states = recurrence_kept(k, v, g, kept, start, each, False, call) if each < chunks else start
    out, last = rows_of(v, v.shape[-1]), last_state_of(k, v, start, final)
    grid = k.shape[0] * k.shape[1], pieces, triton.cdiv(chunks, each)
    recurrence_forward[grid](
        laid(q),
        laid(k),
        laid(v),
        laid(g),
        kept,
        scores,
        states,
        laid(out),
        last if final else None,
        scale,
        each,
        **tiles,
        **call,
    )
    return out, last


@recur_in_chunks.register_fake
def recur_in_chunks_like(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, start: Tensor | None, scale: float, final: bool
) -> tuple[Tensor, Tensor]:
    return rows_of(v, v.shape[-1]), last_state_of(k, v, start, final)


@operation
def recur_in_chunks_backward(
    grad: Tensor,
    grad_last: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    start: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, g and the start: the states are made again, and from the end their slopes."""
    call = chunk_call(k, v, g)
    tiles = recurrence_tiles("backward", k, v, call["DECAY"])
    chunks, pieces = triton.cdiv(k.shape[2], call["ROWS"]), triton.cdiv(k.shape[-1], tiles["CHANNELS"])
    grad_q, grad_k, grad_v, grad_g, grad_start = recur_in_chunks_backward_like(
        grad, grad_last, q, k, v, g, start, scale
    )
    slope = None if start is None else torch.zeros_like(start, dtype=torch.float32)
    slope = slope if grad_last is None else (grad_last.float() / scale).contiguous()
    slopes = g.new_empty(*k.shape[:3], pieces, dtype=torch.float32) if call["DECAY"] == 1 else grad_g
    q_read, k_left, kept, scores = recurrence_prepared(q, k, g, call)
    states = recurrence_kept(k_left, v, g, kept, start, 1, False, call)
    grad_states = recurrence_kept(q_read, grad, g, kept, slope, 1, True, call)
    if start is not None:
        grad_start.copy_(slope * scale)
    grid = k.shape[0] * k.shape[1], chunks
    recurrence_backward_values[*grid, triton.cdiv(v.shape[-1], tiles["VALUES"])](
        laid(grad), laid(k_left), laid(g), kept, scores, grad_states, laid(grad_v), scale, **tiles, **call
    )
    recurrence_backward_keys[*grid, pieces](
        laid(grad),
        laid(q),
        laid(k),
        laid(v),
        laid(g),
        states,
        grad_states,
        laid(grad_q),
        laid(grad_k),
        laid(slopes),
        scale,
        **tiles,
        **call,
    )
    grad_g = slopes.sum(-1, keepdim=True).to(g.dtype) if call["DECAY"] == 1 else grad_g
    return grad_q, grad_k, grad_v, grad_g, grad_start


@recur_in_chunks_backward.register_fake
def recur_in_chunks_backward_like(
    grad: Tensor,
    grad_last: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    start: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad_g = q.new_empty(0) if g is None else rows_of(g, g.shape[-1])
    grad_start = q.new_empty(0) if start is None else torch.empty_like(start)
    return rows_of(q, q.shape[-1]), rows_of(k, k.shape[-1]), rows_of(v, v.shape[-1]), grad_g, grad_start


def recur_in_chunks_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.scale, ctx.final = inputs[5:]


def recur_in_chunks_gradients(ctx: Any, grad: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    given = ctx.saved_tensors
    grads = recur_in_chunks_backward(grad, grad_last if ctx.final else None, *given, ctx.scale)
    return *(None if x is None else made for x, made in zip(given, grads, strict=True)), None, None


recur_in_chunks.register_autograd(recur_in_chunks_gradients, setup_context=recur_in_chunks_keep)


def triton_linear_recurrence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    chunk: int = 32,
    bounded: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`linear_recurrence` by kernels, which choose their own chunks and take any decay."""
    wide = k.shape[-1] > (64 if alike(q, k, v)[0].dtype == torch.float32 else 256)
    if not runs(q, k, v, log_decay, start) or wide or not k.numel() or not scale:
        return linear_recurrence(q, k, v, log_decay, scale, chunk, bounded, start, final)
    kind, length = v.dtype, k.shape[-2]
    given = [x for x in (*alike(q, k, v), log_decay) if x is not None]
    lead = torch.broadcast_shapes(*(x.shape[:-2] for x in (*given, *([] if start is None else [start]))))
    laid_out = [with_heads(lead, length, x) for x in given]
    first = None if start is None else with_heads(lead, k.shape[-1], start).contiguous()
    out, last = recur_in_chunks(*laid_out, *([None] if log_decay is None else []), first, scale, final)
    out = out.reshape(*lead, length, v.shape[-1]).to(kind)
    return (out, last.reshape(*lead, *last.shape[-2:]).to(kind if start is None else start.dtype)) if final else out


class Gla(nn.Module):
    """S_t = diag(a_t) S_(t-1) + k_t v_t^T, a_t = sigmoid(low rank of x_t)^(1 / slow) for each key channel
    (Yang et al., Gated Linear Attention, ICML 2024).
    """

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(16, 8, bias=False)
        self.k_proj = nn.Linear(16, 8, bias=False)
        self.v_proj = nn.Linear(16, 16, bias=False)
        self.g_proj = nn.Linear(16, 16, bias=False)
        self.gk_down = nn.Linear(16, 4, bias=False)
        self.gk_up = nn.Linear(4, 8)
        self.norm = nn.RMSNorm(8, eps=1e-6)
        self.o_proj = nn.Linear(16, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q_proj(x).unflatten(-1, (2, 4))
        k = self.k_proj(x).unflatten(-1, (2, 4))
        v = self.v_proj(x).unflatten(-1, (2, 8))
        decay = self.gk_up(self.gk_down(x)).unflatten(-1, (2, 4))
        log_decay = fused_neg_softplus_neg_div(decay, 1.0)
        o = triton_linear_recurrence(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), log_decay=log_decay.transpose(1, 2), scale=0.5
        )
        g_proj = self.g_proj(x).unflatten(-1, (2, 8))
        g_proj = fused_silu_rms_norm_mul(g_proj, o.transpose(1, 2), self.norm.weight, 1e-6)
        return self.o_proj(g_proj.flatten(2))


class Swiglu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 24, bias=False)
        self.up = nn.Linear(16, 24, bias=False)
        self.down = nn.Linear(24, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(fused_silu_mul(self.gate(x), self.up(x)))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(16, eps=1e-6)
        self.attn = Gla()
        self.norm2 = nn.RMSNorm(16, eps=1e-6)
        self.mlp = Swiglu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        add, norm2 = fused_add_rms_norm(x, self.attn(self.norm1(x)), self.norm2.weight, 1e-6)
        return add + self.mlp(norm2)


class GlaLm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 16)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.RMSNorm(16, eps=1e-6)
        self.head = nn.Linear(16, 32, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.head(x)

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
