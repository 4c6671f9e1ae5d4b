# Made by archlang 0.1.0 from deltas.arch (sha256 7d68a2d3a250565d): net

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
def fused_add_add_forward(
    by_head_in,
    by_channel_in,
    linear_recurrence_in,
    y_out,
    by_head_steps,
    by_channel_steps,
    linear_recurrence_steps,
    inner,
    rows,
    width,
    tiles,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """add, add: a tile of rows."""
    row = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    here = (row < rows)[:, None] & (column < width)[None, :]
    by_head = chain_load(by_head_in, by_head_steps, row, inner, column, here)
    by_channel = chain_load(by_channel_in, by_channel_steps, row, inner, column, here)
    linear_recurrence = chain_load(linear_recurrence_in, linear_recurrence_steps, row, inner, column, here)
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(y_out + at, (by_head + by_channel + linear_recurrence).to(y_out.dtype.element_ty), mask=here)


@jit
def fused_add_add_backward(
    grad_y_in,
    by_head_in,
    by_channel_in,
    linear_recurrence_in,
    grad_by_head_out,
    grad_by_channel_out,
    grad_linear_recurrence_out,
    grad_y_steps,
    by_head_steps,
    by_channel_steps,
    linear_recurrence_steps,
    inner,
    rows,
    width,
    tiles,
    each,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The slopes of add, add: of one tile of rows after another."""
    part = tl.program_id(0) // tiles
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    for step in range(part * each, (part + 1) * each):
        row = step * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < width)[None, :]
        grad_y = chain_load(grad_y_in, grad_y_steps, row, inner, column, here)
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        tl.store(grad_by_head_out + at, grad_y.to(grad_by_head_out.dtype.element_ty), mask=here)
        tl.store(grad_by_channel_out + at, grad_y.to(grad_by_channel_out.dtype.element_ty), mask=here)
        tl.store(grad_linear_recurrence_out + at, grad_y.to(grad_linear_recurrence_out.dtype.element_ty), mask=here)


@operation
def fused_add_add_step(by_head: Tensor, by_channel: Tensor, linear_recurrence: Tensor) -> Tensor:
    """add, add of rows [.., c]."""
    rows, inner, steps = chain_rows([dense(by_head), dense(by_channel), dense(linear_recurrence)])
    y = fused_add_add_like(by_head, by_channel, linear_recurrence)
    call = chain_call("fused_add_add.forward", by_head, False)
    grid = (call["tiles"] * triton.cdiv(call["rows"], call["ROWS"]),)
    fused_add_add_forward[grid](*rows, y, *steps, inner, **call)
    return y


@fused_add_add_step.register_fake
def fused_add_add_like(by_head: Tensor, by_channel: Tensor, linear_recurrence: Tensor) -> Tensor:
    kind = chain_kind(by_head, by_channel, linear_recurrence)
    return by_head.new_empty(by_head.shape, dtype=kind)


@operation
def fused_add_add_slopes(
    grad_y: Tensor, by_head: Tensor, by_channel: Tensor, linear_recurrence: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of all inputs."""
    given = [dense(grad_y), dense(by_head), dense(by_channel), dense(linear_recurrence)]
    rows, inner, steps = chain_rows(given)
    made = list(fused_add_add_slopes_like(grad_y, by_head, by_channel, linear_recurrence))
    call = chain_call("fused_add_add.backward", by_head, False)
    count = triton.cdiv(call["rows"], call["ROWS"])
    each, parts = 1, count
    grid = (call["tiles"] * parts,)
    fused_add_add_backward[grid](*rows, *made, *steps, inner, each=each, **call)
    return tuple(made)


@fused_add_add_slopes.register_fake
def fused_add_add_slopes_like(
    grad_y: Tensor, by_head: Tensor, by_channel: Tensor, linear_recurrence: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (by_head, by_channel, linear_recurrence))


def fused_add_add_keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.given = inputs[3:]


def fused_add_add_gradients(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return fused_add_add_slopes(grad_y, *ctx.saved_tensors, *ctx.given)


fused_add_add_step.register_autograd(fused_add_add_gradients, setup_context=fused_add_add_keep)


def fused_add_add_plain(by_head: Tensor, by_channel: Tensor, linear_recurrence: Tensor) -> Tensor:
    """add, add in PyTorch."""
    return by_head + by_channel + linear_recurrence


def fused_add_add(by_head: Tensor, by_channel: Tensor, linear_recurrence: Tensor) -> Tensor:
    """add, add in one kernel."""
    if not runs(by_head, by_channel, linear_recurrence) or not by_head.numel():
        return fused_add_add_plain(by_head, by_channel, linear_recurrence)
    [by_head, by_channel, linear_recurrence], back = chain_flat(by_head, by_channel, linear_recurrence)
    return back(fused_add_add_step(by_head, by_channel, linear_recurrence))


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


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    chunk: int = 32,
    bounded: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """S_t = (I - beta_t k_t k_t^T) exp(log_decay_t) S_{t-1} + beta_t k_t v_t^T, o_t = scale * q_t S_t with
    q, k: [.., t, c], v: [.., t, d], beta: [.., t, 1] and log_decay: [.., t, c] or [.., t, 1]; from S_0 =
    `start` [.., c, d], or from 0; with `final` also the last S, in the dtype of `start`.

    Inside a chunk a triangular system gives what every position writes (the UT transform of Yang et al., NeurIPS 2024);
    the state passes from one chunk to the next. `bounded`: the decays of a chunk together are not below exp(-120).
    """

    def inside(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None = None) -> tuple[Tensor, ...]:
        """The weights of what is written and what the queries read the state with; what is kept of it; the keys to
        write with; what takes back of a state, and what is written besides.
        """
        if log_decay is None:
            scores, overlap, read, left, kept = (q @ k.mT).tril(), k @ k.mT, k, k, k.new_ones(1, 1, 1)
        else:
            scores, q, left, kept = under_decay(q, k, log_decay, bounded)
            overlap, read, *_ = under_decay(k, k, log_decay, bounded)
        system, one = (overlap * beta).tril(-1), torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)
        inverse = torch.linalg.solve_triangular(system, one.expand_as(system), upper=False, unitriangular=True)
        inverse = inverse * beta.mT
        return scores, q, kept.mT, left.mT, inverse @ read, inverse @ v

    def step(
        state: Tensor, scores: Tensor, q: Tensor, kept: Tensor, k: Tensor, taken: Tensor, new: Tensor
    ) -> tuple[Tensor, Tensor]:
        new = torch.baddbmm(new, taken, state, alpha=-1)
        return torch.baddbmm(state * kept, k, new), torch.baddbmm(scores @ new, q, state)

    return in_chunks(inside, step, (q * scale, k, v, beta, log_decay), start, chunk, final)


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


@jit
def unit_inverse(lower, ROWS: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """(1 + lower)^-1 of a matrix below the diagonal: blocks of 1, 2, 4, .. rows are inverted, and two of them make one of
    twice the size. Nothing cancels that does not in substitution.
    """
    row = tl.arange(0, ROWS)
    inverse = tl.where(row[:, None] == row[None, :], 1.0, tl.zeros([ROWS, ROWS], tl.float32))
    span = 1
    while span < ROWS:
        behind, parted = borders(span, ROWS)
        between = product(inverse, tl.where(parted, lower, 0.0), PRECISION, WIDEN)
        inverse -= product(between, inverse, PRECISION, WIDEN)
        span *= 2
    return inverse


@jit
def delta_scores(
    q,
    k,
    b,
    g,
    scores,
    inverses,
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
    """Of one chunk: what queries read of what is written, and the inverse of the system that gives what is written."""
    at, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.arange(0, ROWS)
    total, overlap = tl.zeros([ROWS, ROWS], tl.float32), tl.zeros([ROWS, ROWS], tl.float32)
    for start in range(0, C, CHANNELS):
        key = start + tl.arange(0, CHANNELS)
        q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        total += product(q_tile, tl.trans(k_tile), PRECISION, WIDEN)
        overlap += product(k_tile, tl.trans(k_tile), PRECISION, WIDEN)
    decays = decays_between(chunk_logs(g, at, heads, chunk, length, tl.arange(0, 1), DECAY, C, ROWS), False, PRECISION)
    strength = chunk_load(b, at, heads, chunk, length, tl.arange(0, 1), 1, ROWS).to(tl.float32)
    lower = tl.where(place[:, None] > place[None, :], overlap * decays * strength, 0.0)
    places = (at * tl.num_programs(1) + chunk) * (ROWS * ROWS) + place[:, None] * ROWS + place[None, :]
    tl.store(scores + places, (total * decays).to(scores.dtype.element_ty))
    tl.store(inverses + places, unit_inverse(lower, ROWS, PRECISION, WIDEN).to(inverses.dtype.element_ty))


@jit
def delta_scores_by_channel(
    q,
    k,
    b,
    g,
    scores,
    inverses,
    q_read,
    k_read,
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
    """The same under a decay a channel, over the borders of blocks of 2, 4, 8, .. rows; and queries and keys under the
    decays before them, keys under those after them, and the decays of the whole chunk.
    """
    at, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.arange(0, ROWS)
    below, same = place[:, None] > place[None, :], tl.zeros([ROWS], tl.float32)
    total, overlap = tl.zeros([ROWS, ROWS], tl.float32), tl.zeros([ROWS, ROWS], tl.float32)
    for start in range(0, C, CHANNELS):
        key = start + tl.arange(0, CHANNELS)
        q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        same += tl.sum(q_tile.to(tl.float32) * k_tile.to(tl.float32), 1)
        sums = exact_sums(chunk_logs(g, at, heads, chunk, length, key, DECAY, C, ROWS))
        span = 1
        while span < ROWS:
            behind, parted = borders(span, ROWS)
            decay = decays_to_border(sums, span, PRECISION)
            met, k_met = (q_tile * decay).to(q_tile.dtype), (k_tile * decay).to(k_tile.dtype)
            total += tl.where(parted & below, product(met, tl.trans(k_met), PRECISION, WIDEN), 0.0)
            overlap += tl.where(parted & below, product(k_met, tl.trans(k_met), PRECISION, WIDEN), 0.0)
            span *= 2
        up_to, after, whole = chunk_decays(g, at, heads, chunk, length, key, DECAY, C, ROWS)
        chunk_store(q_read, at, heads, chunk, length, key, q_tile * up_to, C, ROWS)
        chunk_store(k_read, at, heads, chunk, length, key, k_tile * up_to, C, ROWS)
        chunk_store(k_left, at, heads, chunk, length, key, k_tile * after, C, ROWS)
        tl.store(kept + (at * tl.num_programs(1) + chunk) * C + key, whole, mask=key < C)
    total += tl.where(place[:, None] == place[None, :], same[:, None], 0.0)
    strength = chunk_load(b, at, heads, chunk, length, tl.arange(0, 1), 1, ROWS).to(tl.float32)
    places = (at * tl.num_programs(1) + chunk) * (ROWS * ROWS) + place[:, None] * ROWS + place[None, :]
    tl.store(scores + places, total.to(scores.dtype.element_ty))
    tl.store(inverses + places, unit_inverse(overlap * strength, ROWS, PRECISION, WIDEN).to(inverses.dtype.element_ty))


@jit
def delta_forward(
    q,
    k,
    v,
    b,
    g,
    k_left,
    kept,
    scores,
    inverses,
    start,
    out,
    last,
    states,
    rest,
    new,
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
    """Some columns of the outputs, chunk after chunk, and of the last state; the state stays in registers. Where there is
    room for the states instead, these, what is left of the values, and what is written.
    """
    at, count = tl.program_id(0).to(tl.int64), tl.cdiv(length, ROWS)
    key, value = tl.arange(0, CHANNELS), tl.program_id(1) * VALUES + tl.arange(0, VALUES)
    in_chunk = tl.arange(0, ROWS)[:, None] * ROWS + tl.arange(0, ROWS)[None, :]
    state = tl.zeros([CHANNELS, VALUES], tl.float32)
    if start is not None:
        state += state_load(start, at, key, value, C, D).to(tl.float32)
    for chunk in range(0, count):
        number = at * count + chunk
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        v_tile = chunk_load(v, at, heads, chunk, length, value, D, ROWS)
        strength = chunk_load(b, at, heads, chunk, length, tl.arange(0, 1), 1, ROWS).to(tl.float32)
        up_to, after, whole = decays_left(g, kept, at, heads, chunk, length, key, DECAY, C, ROWS)
        left = v_tile - read_state(k_tile, state, PRECISION, WIDEN) * up_to
        inverse = tl.load(inverses + number * (ROWS * ROWS) + in_chunk)
        written = product(inverse, (left * strength).to(inverse.dtype), PRECISION, WIDEN)
        if states is not None:
            places, here = state_places(states, number, key, value, C, D)
            tl.store(places, state.to(states.dtype.element_ty), mask=here)
            chunk_store(rest, at, heads, chunk, length, value, left, D, ROWS)
            chunk_store(new, at, heads, chunk, length, value, written, D, ROWS)
        else:
            q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
            weights = tl.load(scores + number * (ROWS * ROWS) + in_chunk)
            y = read_state(q_tile, state, PRECISION, WIDEN) * up_to
            y += product(weights, written.to(weights.dtype), PRECISION, WIDEN)
            chunk_store(out, at, heads, chunk, length, value, y * scale, D, ROWS)
        k_tile = k_tile if k_left is None else chunk_load(k_left, at, heads, chunk, length, key, C, ROWS)
        state = state * whole[:, None] + product(tl.trans(k_tile), (written * after).to(k_tile.dtype), PRECISION, WIDEN)
    if last is not None:
        places, here = state_places(last, at, key, value, C, D)
        tl.store(places, state.to(last.dtype.element_ty), mask=here)


@jit
def delta_backward_values(
    grad,
    q,
    k,
    b,
    g,
    k_left,
    kept,
    scores,
    inverses,
    rest,
    grad_last,
    grad_states,
    grad_start,
    grad_new,
    grad_v,
    grad_b,
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
    """From the slope of the last state, and from the last chunk to the first, for some columns of the values: the slopes of
    the states after each chunk and of the start, those of what the system is solved for, of the values and, of these columns, of the strengths.
    """
    at, count = tl.program_id(0).to(tl.int64), tl.cdiv(length, ROWS)
    key, value = tl.arange(0, CHANNELS), tl.program_id(1) * VALUES + tl.arange(0, VALUES)
    turned = tl.arange(0, ROWS)[:, None] + tl.arange(0, ROWS)[None, :] * ROWS
    state = tl.zeros([CHANNELS, VALUES], tl.float32)
    if grad_last is not None:
        state += state_load(grad_last, at, key, value, C, D)
    for step in range(0, count):
        chunk = count - 1 - step
        number = at * count + chunk
        places, here = state_places(grad_states, number, key, value, C, D)
        tl.store(places, state.to(grad_states.dtype.element_ty), mask=here)
        q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
        k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
        grad_tile = chunk_load(grad, at, heads, chunk, length, value, D, ROWS)
        strength = chunk_load(b, at, heads, chunk, length, tl.arange(0, 1), 1, ROWS).to(tl.float32)
        up_to, after, whole = decays_left(g, kept, at, heads, chunk, length, key, DECAY, C, ROWS)
        left_tile = k_tile if k_left is None else chunk_load(k_left, at, heads, chunk, length, key, C, ROWS)
        slope = read_state(left_tile, state, PRECISION, WIDEN) * after
        slope += product(tl.load(scores + number * (ROWS * ROWS) + turned), grad_tile, PRECISION, WIDEN)
        inverse = tl.load(inverses + number * (ROWS * ROWS) + turned)
        slope = product(inverse, slope.to(inverse.dtype), PRECISION, WIDEN)
        chunk_store(grad_new, at, heads, chunk, length, value, slope, D, ROWS)
        left = chunk_load(rest, at, heads, chunk, length, value, D, ROWS)
        part = tl.program_id(1) + tl.arange(0, 1)
        chunk_store(
            grad_b,
            at,
            heads,
            chunk,
            length,
            part,
            tl.sum(slope * left, 1)[:, None] * scale,
            (D + VALUES - 1) // VALUES,
            ROWS,
        )
        slope *= strength
        chunk_store(grad_v, at, heads, chunk, length, value, slope * scale, D, ROWS)
        state = state * whole[:, None] + product(
            tl.trans(q_tile), (grad_tile * up_to).to(q_tile.dtype), PRECISION, WIDEN
        )
        state -= product(tl.trans(k_tile), (slope * up_to).to(k_tile.dtype), PRECISION, WIDEN)
    if grad_start is not None:
        places, here = state_places(grad_start, at, key, value, C, D)
        tl.store(places, (state * scale).to(grad_start.dtype.element_ty), mask=here)


@jit
def delta_backward_keys(
    grad,
    q,
    k,
    b,
    g,
    states,
    grad_states,
    new,
    grad_new,
    grad_q,
    grad_k,
    grad_b,
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
    """The slopes of some columns of the queries and keys of one chunk and, of these columns, those of the strengths and
    the logarithms of decays.
    """
    at, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place, key = tl.arange(0, ROWS), tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    number = at * tl.num_programs(1) + chunk
    read, read_turned = tl.zeros([ROWS, ROWS], tl.float32), tl.zeros([ROWS, ROWS], tl.float32)
    solved, solved_turned = tl.zeros([ROWS, ROWS], tl.float32), tl.zeros([ROWS, ROWS], tl.float32)
    q_sum, k_sum = tl.zeros([ROWS, CHANNELS], tl.float32), tl.zeros([ROWS, CHANNELS], tl.float32)
    left_sum, kept_sum = tl.zeros([ROWS, CHANNELS], tl.float32), tl.zeros([CHANNELS], tl.float32)
    for start in range(0, D, VALUES):
        value = start + tl.arange(0, VALUES)
        grad_tile = chunk_load(grad, at, heads, chunk, length, value, D, ROWS)
        written = chunk_load(new, at, heads, chunk, length, value, D, ROWS)
        slope = chunk_load(grad_new, at, heads, chunk, length, value, D, ROWS)
        state = state_load(states, number, key, value, C, D)
        grad_state = state_load(grad_states, number, key, value, C, D)
        read += product(grad_tile, tl.trans(written), PRECISION, WIDEN)
        read_turned += product(written, tl.trans(grad_tile), PRECISION, WIDEN)
        solved += product(slope, tl.trans(written), PRECISION, WIDEN)
        solved_turned += product(written, tl.trans(slope), PRECISION, WIDEN)
        q_sum += read_state(grad_tile, tl.trans(state), PRECISION, WIDEN)
        left_sum += read_state(slope, tl.trans(state), PRECISION, WIDEN)
        k_sum += read_state(written, tl.trans(grad_state), PRECISION, WIDEN)
        kept_sum += tl.sum(state.to(tl.float32) * grad_state.to(tl.float32), 1)
    q_tile = chunk_load(q, at, heads, chunk, length, key, C, ROWS)
    k_tile = chunk_load(k, at, heads, chunk, length, key, C, ROWS)
    strength = chunk_load(b, at, heads, chunk, length, tl.arange(0, 1), 1, ROWS).to(tl.float32)
    log = chunk_logs(g, at, heads, chunk, length, key, DECAY, C, ROWS)
    q_inner, k_inner, slope = inner_slopes(read, read_turned, q_tile, k_tile, log, DECAY, PRECISION, WIDEN)
    solved = tl.where(place[:, None] > place[None, :], solved, 0.0)
    solved_turned = tl.where(place[:, None] < place[None, :], solved_turned, 0.0)
    solver = (k_tile * strength).to(k_tile.dtype)
    k_later, k_earlier, taken = inner_slopes(solved, solved_turned, solver, k_tile, log, DECAY, PRECISION, WIDEN)
    up_to, after, whole = chunk_decays(g, at, heads, chunk, length, key, DECAY, C, ROWS)
    q_sum, k_sum, left_sum = q_sum * up_to, k_sum * after, left_sum * up_to * strength
    chunk_store(grad_q, at, heads, chunk, length, key, (q_sum + q_inner) * scale, C, ROWS)
    chunk_store(
        grad_k,
        at,
        heads,
        chunk,
        length,
        key,
        (k_sum + k_inner - left_sum - k_later * strength - k_earlier) * scale,
        C,
        ROWS,
    )
    part = tl.program_id(2) + tl.arange(0, 1)
    chunk_store(
        grad_b,
        at,
        heads,
        chunk,
        length,
        part,
        tl.sum(k_tile * k_later, 1)[:, None] * -scale,
        (C + CHANNELS - 1) // CHANNELS,
        ROWS,
    )
    if DECAY > 0:
        slope += per_decay(q_tile * q_sum - k_tile * left_sum, DECAY) - taken
        later = per_decay(k_tile * k_sum, DECAY)
        kept_sum = (kept_sum if DECAY == 2 else tl.sum(kept_sum)) * whole
        slope = tl.cumsum(slope, 0, reverse=True) + (tl.cumsum(later, 0) - later) + kept_sum[None, :]
        column, count = (key, C) if DECAY == 2 else (part, (C + CHANNELS - 1) // CHANNELS)
        chunk_store(grad_g, at, heads, chunk, length, column, slope * scale, count, ROWS)


def delta_call(k: Tensor, v: Tensor, g: Tensor | None) -> dict[str, Any]:
    """What every kernel of a call is told."""
    call = chunk_call(k, v, g)
    return {**call, "ROWS": min(call["ROWS"], 16 if k.dtype == torch.float32 else 32)}


def delta_tiles(part: str, k: Tensor, v: Tensor, decay: int) -> dict[str, int]:
    """The shape of tiles: what a program holds fits into registers. All keys of a state or, for the slopes of keys, some."""
    channels, values, most = tile(k.shape[-1]), tile(v.shape[-1]), 32 if k.dtype == torch.bfloat16 else 16
    kernel, sizes = f"delta_rule.{part}", dict(c=channels, d=values, decays=channels if decay == 2 else 1)
    if part == "keys":
        most = 16 if decay == 2 else most
        return tile_shape(
            kernel, k, sizes, CHANNELS=min(channels, most), VALUES=min(values, most), num_warps=4, num_stages=most // 16
        )
    values, warps = (16, 8) if channels > 128 else (min(values, most), 4)
    stages = 1 if k.dtype == torch.float16 and decay == 2 else 2
    return dict(CHANNELS=channels, **tile_shape(kernel, k, sizes, VALUES=values, num_warps=warps, num_stages=stages))


def delta_prepared(q: Tensor, k: Tensor, b: Tensor, g: Tensor | None, call: dict[str, Any]) -> tuple[Any, ...]:
    """Queries and keys as a state is read with them; strengths and decays, keys as a state is written with and what is kept of it, and the scores and inverses of all chunks."""
    rows, channels = call["ROWS"], tile(k.shape[-1])
    scores = k.new_empty(k.shape[0] * k.shape[1], triton.cdiv(k.shape[2], rows), rows, rows)
    inverses, given = torch.empty_like(scores), (laid(q), laid(k), laid(b), laid(g))
    sizes = dict(c=channels, decays=channels if call["DECAY"] == 2 else 1)
    tiles = tile_shape("delta_rule.scores", k, sizes, CHANNELS=min(channels, 32), num_warps=4)
    if call["DECAY"] == 2:
        kept = scores.new_empty(*scores.shape[:2], k.shape[-1], dtype=torch.float32)
        q_read, k_read, k_left = (laid(rows_of(x, x.shape[-1])) for x in (q, k, k))
        delta_scores_by_channel[scores.shape[:2]](
            *given, scores, inverses, q_read, k_read, k_left, kept, **tiles, **call
        )
        return (q_read, k_read), (*given[2:], k_left, kept, scores, inverses)
    delta_scores[scores.shape[:2]](*given, scores, inverses, **tiles, **call)
    return given[:2], (*given[2:], None, None, scores, inverses)


@operation
def write_in_chunks(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor | None, start: Tensor | None, scale: float, final: bool
) -> tuple[Tensor, Tensor]:
    """The outputs [b, heads, t, d] for q, k [b, heads, t, c], v [b, heads, t, d], b [b, heads, t, 1], g [.., t, c] or [.., t, 1], and a start
    [b, heads, c, d]; and the last state, in the dtype of the start, where it is `final`.
    """
    call = delta_call(k, v, g)
    tiles = delta_tiles("forward", k, v, call["DECAY"])
    read, solved = delta_prepared(q, k, b, g, call)
    out, last = rows_of(v, v.shape[-1]), last_state_of(k, v, start, final)
    grid = k.shape[0] * k.shape[1], triton.cdiv(v.shape[-1], tiles["VALUES"])
    delta_forward[grid](
        *read, laid(v), *solved, start, laid(out), last if final else None, None, None, None, scale, **tiles, **call
    )
    return out, last


@write_in_chunks.register_fake
def write_in_chunks_like(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor | None, start: Tensor | None, scale: float, final: bool
) -> tuple[Tensor, Tensor]:
    return rows_of(v, v.shape[-1]), last_state_of(k, v, start, final)


@operation
def write_in_chunks_backward(
    grad: Tensor,
    grad_last: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    g: Tensor | None,
    start: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, b, g and the start: the states are made again, and from the end their slopes."""
    call = delta_call(k, v, g)
    tiles, some = (delta_tiles(part, k, v, call["DECAY"]) for part in ("values", "keys"))
    read, solved = delta_prepared(q, k, b, g, call)
    grid = k.shape[0] * k.shape[1], triton.cdiv(v.shape[-1], tiles["VALUES"])
    chunks = triton.cdiv(k.shape[2], call["ROWS"])
    pieces = triton.cdiv(k.shape[-1], some["CHANNELS"])
    states, grad_states = states_of(k, v, chunks), states_of(k, v, chunks)
    rest, new, grad_new, grad_v = (rows_of(v, v.shape[-1]) for _ in range(4))
    grad_q, grad_k = rows_of(q, q.shape[-1]), rows_of(k, k.shape[-1])
    decays = k.shape[-1] if call["DECAY"] == 2 else pieces
    slopes = [k.new_empty(*k.shape[:3], count, dtype=torch.float32) for count in (grid[1], pieces, decays)]
    after = None if grad_last is None else (grad_last.float() / scale).contiguous()
    grad_start = None if start is None else torch.empty_like(start)
    delta_forward[grid](
        *read, laid(v), *solved, start, None, None, states, laid(rest), laid(new), scale, **tiles, **call
    )
    delta_backward_values[grid](
        laid(grad),
        *read,
        *solved,
        laid(rest),
        after,
        grad_states,
        grad_start,
        laid(grad_new),
        laid(grad_v),
        laid(slopes[0]),
        scale,
        **tiles,
        **call,
    )
    made = laid(grad_q), laid(grad_k), laid(slopes[1]), laid(slopes[2])
    delta_backward_keys[grid[0], chunks, pieces](
        laid(grad),
        laid(q),
        laid(k),
        *solved[:2],
        states,
        grad_states,
        laid(new),
        laid(grad_new),
        *made,
        scale,
        **some,
        **call,
    )
    grad_b = (slopes[0].sum(-1, keepdim=True) + slopes[1].sum(-1, keepdim=True)).to(b.dtype)
    grad_g = slopes[2] if call["DECAY"] == 2 else slopes[2].sum(-1, keepdim=True)
    grad_g = q.new_empty(0) if g is None else grad_g.to(g.dtype)
    return grad_q, grad_k, grad_v, grad_b, grad_g, q.new_empty(0) if grad_start is None else grad_start


@write_in_chunks_backward.register_fake
def write_in_chunks_backward_like(
    grad: Tensor,
    grad_last: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    g: Tensor | None,
    start: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad_b = b.new_empty(*k.shape[:3], 1)
    grad_g = q.new_empty(0) if g is None else g.new_empty(*k.shape[:3], g.shape[-1])
    grad_q, grad_k, grad_v = (rows_of(x, x.shape[-1]) for x in (q, k, v))
    return grad_q, grad_k, grad_v, grad_b, grad_g, q.new_empty(0) if start is None else torch.empty_like(start)


def write_in_chunks_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.scale, ctx.final = inputs[6:]


def write_in_chunks_gradients(ctx: Any, grad: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    given = ctx.saved_tensors
    grads = write_in_chunks_backward(grad, grad_last if ctx.final else None, *given, ctx.scale)
    return *(None if x is None else made for x, made in zip(given, grads, strict=True)), None, None


write_in_chunks.register_autograd(write_in_chunks_gradients, setup_context=write_in_chunks_keep)


def triton_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    chunk: int = 32,
    bounded: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`delta_rule` by kernels, which choose their own chunks."""
    wide = k.shape[-1] > (64 if alike(q, k, v)[0].dtype == torch.float32 else 256)
    if not runs(q, k, v, beta, log_decay, start) or wide or not k.numel() or not scale:
        return delta_rule(q, k, v, beta, log_decay, scale, chunk, bounded, start, final)
    kind, length = v.dtype, k.shape[-2]
    given = [x for x in (*alike(q, k, v), beta, log_decay) if x is not None]
    lead = torch.broadcast_shapes(*(x.shape[:-2] for x in (*given, *([] if start is None else [start]))))
    every = [with_heads(lead, length, x) for x in given]
    first = None if start is None else with_heads(lead, k.shape[-1], start).contiguous()
    out, last = write_in_chunks(*every, *([None] if log_decay is None else []), first, scale, final)
    out = out.reshape(*lead, length, v.shape[-1]).to(kind)
    return (out, last.reshape(*lead, *last.shape[-2:]).to(kind if start is None else start.dtype)) if final else out


class Net(nn.Module):
    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        beta: torch.Tensor,
        head: torch.Tensor,
        channel: torch.Tensor,
    ) -> torch.Tensor:
        if q.ndim != 4:
            raise ValueError(f"q must be [b, t, heads, c], and is {list(q.shape)}")
        if k.ndim != 4:
            raise ValueError(f"k must be [b, t, heads, c], and is {list(k.shape)}")
        if v.ndim != 4:
            raise ValueError(f"v must be [b, t, heads, c = d], and is {list(v.shape)}")
        if beta.ndim != 3:
            raise ValueError(f"beta must be [b, t, heads], and is {list(beta.shape)}")
        if head.ndim != 3:
            raise ValueError(f"head must be [b, t, heads], and is {list(head.shape)}")
        if channel.ndim != 4:
            raise ValueError(f"channel must be [b, t, heads, c], and is {list(channel.shape)}")
        b, t, heads, c = q.shape
        if k.shape[0] != b:
            raise ValueError(f"axis b of k must be b = {b}, and is {k.shape[0]}")
        if k.shape[1] != t:
            raise ValueError(f"axis t of k must be t = {t}, and is {k.shape[1]}")
        if k.shape[2] != heads:
            raise ValueError(f"axis heads of k must be heads = {heads}, and is {k.shape[2]}")
        if k.shape[3] != c:
            raise ValueError(f"axis c of k must be c = {c}, and is {k.shape[3]}")
        if v.shape[0] != b:
            raise ValueError(f"axis b of v must be b = {b}, and is {v.shape[0]}")
        if v.shape[1] != t:
            raise ValueError(f"axis t of v must be t = {t}, and is {v.shape[1]}")
        if v.shape[2] != heads:
            raise ValueError(f"axis heads of v must be heads = {heads}, and is {v.shape[2]}")
        if beta.shape[0] != b:
            raise ValueError(f"axis b of beta must be b = {b}, and is {beta.shape[0]}")
        if beta.shape[1] != t:
            raise ValueError(f"axis t of beta must be t = {t}, and is {beta.shape[1]}")
        if beta.shape[2] != heads:
            raise ValueError(f"axis heads of beta must be heads = {heads}, and is {beta.shape[2]}")
        if head.shape[0] != b:
            raise ValueError(f"axis b of head must be b = {b}, and is {head.shape[0]}")
        if head.shape[1] != t:
            raise ValueError(f"axis t of head must be t = {t}, and is {head.shape[1]}")
        if head.shape[2] != heads:
            raise ValueError(f"axis heads of head must be heads = {heads}, and is {head.shape[2]}")
        if channel.shape[0] != b:
            raise ValueError(f"axis b of channel must be b = {b}, and is {channel.shape[0]}")
        if channel.shape[1] != t:
            raise ValueError(f"axis t of channel must be t = {t}, and is {channel.shape[1]}")
        if channel.shape[2] != heads:
            raise ValueError(f"axis heads of channel must be heads = {heads}, and is {channel.shape[2]}")
        if channel.shape[3] != c:
            raise ValueError(f"axis c of channel must be c = {c}, and is {channel.shape[3]}")
        by_head = triton_delta_rule(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            beta=beta.transpose(1, 2)[:, :, :, None],
            log_decay=head.transpose(1, 2)[:, :, :, None],
        )
        by_channel = triton_delta_rule(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            beta=beta.transpose(1, 2)[:, :, :, None],
            log_decay=channel.transpose(1, 2),
        )
        y = triton_delta_rule(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), beta=beta.transpose(1, 2)[:, :, :, None]
        )
        return fused_add_add(by_head, by_channel, y).transpose(1, 2)

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
