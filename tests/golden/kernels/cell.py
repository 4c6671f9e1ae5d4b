# Made by archlang 0.1.0 from cell.arch (sha256 9619cab2b2451d04): net

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import torch
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


SEQUENTIAL_EVERY = 32  # positions between two carries that are kept for the backward pass


@jit
def sequential_lanes(lanes, width, LANES: tl.constexpr):
    """The elements of a program: which, whether they are there, their rows and columns."""
    lane = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    return lane, lane < lanes, lane // width, lane % width


@jit
def sequential_load(x, steps, row, time, column, here):
    """The numbers at one position; beyond the last lane 1, where functions have no poles."""
    return tl.load(x + row * steps[0] + time * steps[1] + column * steps[2], mask=here, other=1.0).to(tl.float32)


@jit
def sequential_whole(x, lane, here):
    """What is the same at all positions."""
    return tl.load(x + lane, mask=here, other=1.0).to(tl.float32)


@jit
def sequential_slot(number, lanes, lane):
    """Where a carry is kept."""
    return tl.cast(number, tl.int64) * lanes + lane


def sequential_rows(x: Tensor, dim: int) -> Tensor:
    """x as [rows, t, width], where t is the axis `dim`."""
    return x.reshape(prod(x.shape[:dim]), x.shape[dim], prod(x.shape[dim + 1 :]))


def sequential_flat(x: Tensor) -> Tensor:
    """What is the same at all positions, number by number."""
    return x.reshape(-1).contiguous()


def sequential_steps(*tensors: Tensor) -> list[tuple[int, ...]]:
    """How far apart rows, positions and columns lie."""
    return [x.stride() for x in tensors]


def sequential_call(kernel: str, x: Tensor) -> dict[str, Any]:
    """What every kernel of a call is told: counts, how many elements a program has, which one warp holds, and how many
    positions ahead are read: a step takes less time than memory to answer.
    """
    rows, length, width = x.shape
    shape = tile_shape(kernel, x, dict(lanes=rows * width), LANES=64, AHEAD=8)
    return dict(length=length, width=width, lanes=rows * width, EVERY=SEQUENTIAL_EVERY, num_warps=1, **shape)


@jit
def scan_mul_mul_maximum_mul_forward(
    x_in,
    f_in,
    u_in,
    h_start_in,
    h_out_to,
    before_out_to,
    kept,
    s_start,
    number,
    number2,
    x_steps,
    f_steps,
    length,
    width,
    lanes,
    EVERY: tl.constexpr,
    LANES: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """mul, mul, mul, add, tanh, sigmoid, sub, maximum, mul for some elements; the carries before every so many positions are kept."""
    lane, here, row, column = sequential_lanes(lanes, width, LANES)
    at = row * length * width + column
    u = sequential_whole(u_in, lane, here)
    h = sequential_whole(h_start_in, lane, here)
    s = tl.full([LANES], s_start, tl.float32)
    for step in tl.range(0, length, num_stages=AHEAD):
        if step % EVERY == 0:
            tl.store(kept + sequential_slot(step // EVERY * 2 + 0, lanes, lane), h, mask=here)
            tl.store(kept + sequential_slot(step // EVERY * 2 + 1, lanes, lane), s, mask=here)
        time = tl.cast(step, tl.int64)
        x = sequential_load(x_in, x_steps, row, time, column, here)
        f = sequential_load(f_in, f_steps, row, time, column, here)
        h2 = chain_tanh(x + u * h * f)
        tl.store(h_out_to + at + time * width, h2.to(h_out_to.dtype.element_ty), mask=here)
        tl.store(before_out_to + at + time * width, (s * number).to(before_out_to.dtype.element_ty), mask=here)
        next_h = h2
        next_s = tl.sigmoid(f) * tl.maximum(s, h - number2)
        h, s = next_h, next_s


@jit
def scan_mul_mul_maximum_mul_backward(
    grad_h_out_in,
    grad_before_out_in,
    x_in,
    f_in,
    u_in,
    kept,
    walked,
    grad_x_to,
    grad_f_to,
    grad_u_to,
    grad_h_start_to,
    s_start,
    number,
    number2,
    grad_h_out_steps,
    grad_before_out_steps,
    x_steps,
    f_steps,
    length,
    width,
    lanes,
    EVERY: tl.constexpr,
    LANES: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """The slopes of some elements, from the last position to the first: between two positions whose carries are kept, all are made again."""
    lane, here, row, column = sequential_lanes(lanes, width, LANES)
    at = row * length * width + column
    u, sum_u = sequential_whole(u_in, lane, here), tl.zeros([LANES], tl.float32)
    slope_h = tl.zeros([LANES], tl.float32)
    slope_s = tl.zeros([LANES], tl.float32)
    count = tl.cdiv(length, EVERY)
    for part in range(0, count):
        first = (count - 1 - part) * EVERY
        end = tl.minimum(first + EVERY, length)
        h = tl.load(kept + sequential_slot((count - 1 - part) * 2 + 0, lanes, lane), mask=here, other=1.0)
        s = tl.load(kept + sequential_slot((count - 1 - part) * 2 + 1, lanes, lane), mask=here, other=1.0)
        for step in tl.range(first, end, num_stages=AHEAD):
            tl.store(walked + sequential_slot((step - first) * 2 + 0, lanes, lane), h, mask=here)
            tl.store(walked + sequential_slot((step - first) * 2 + 1, lanes, lane), s, mask=here)
            time = tl.cast(step, tl.int64)
            x = sequential_load(x_in, x_steps, row, time, column, here)
            f = sequential_load(f_in, f_steps, row, time, column, here)
            next_h = chain_tanh(x + u * h * f)
            next_s = tl.sigmoid(f) * tl.maximum(s, h - number2)
            h, s = next_h, next_s
        tl.debug_barrier()
        for back in tl.range(0, end - first, num_stages=AHEAD):
            step = end - 1 - back
            time = tl.cast(step, tl.int64)
            h = tl.load(walked + sequential_slot((step - first) * 2 + 0, lanes, lane), mask=here, other=1.0)
            s = tl.load(walked + sequential_slot((step - first) * 2 + 1, lanes, lane), mask=here, other=1.0)
            x = sequential_load(x_in, x_steps, row, time, column, here)
            f = sequential_load(f_in, f_steps, row, time, column, here)
            grad_h_out = sequential_load(grad_h_out_in, grad_h_out_steps, row, time, column, here)
            grad_before_out = sequential_load(grad_before_out_in, grad_before_out_steps, row, time, column, here)
            mul = u * h
            h2 = chain_tanh(x + mul * f)
            sigmoid = tl.sigmoid(f)
            sub = h - number2
            product = slope_s * sigmoid
            where = tl.where(s == sub, 0.5 * product, 0.0)
            product2 = (slope_h + grad_h_out) * (1.0 - h2 * h2)
            product3 = product2 * f
            add = slope_s * tl.maximum(s, sub) * sigmoid * (1.0 - sigmoid) + product2 * mul
            tl.store(grad_x_to + at + time * width, product2.to(grad_x_to.dtype.element_ty), mask=here)
            tl.store(grad_f_to + at + time * width, add.to(grad_f_to.dtype.element_ty), mask=here)
            sum_u += product3 * h
            next_h = tl.where(sub > s, product, where) + product3 * u
            next_s = tl.where(s > sub, product, where) + grad_before_out * number
            slope_h, slope_s = next_h, next_s
        tl.debug_barrier()
    tl.store(grad_u_to + lane, sum_u.to(grad_u_to.dtype.element_ty), mask=here)
    tl.store(grad_h_start_to + lane, slope_h.to(grad_h_start_to.dtype.element_ty), mask=here)


@operation
def scan_mul_mul_maximum_mul_step(
    x: Tensor, f: Tensor, u: Tensor, h_start: Tensor, s_start: float, number: float, number2: float
) -> tuple[Tensor, Tensor, Tensor]:
    """mul, mul, mul, add, tanh, sigmoid, sub, maximum, mul of tensors [rows, t, width] and others [rows * width], and carries that are kept."""
    *made, kept = scan_mul_mul_maximum_mul_like(x, f, u, h_start, s_start, number, number2)
    call = sequential_call("scan_mul_mul_maximum_mul.forward", x)
    steps = sequential_steps(x, f)
    grid = (triton.cdiv(call["lanes"], call["LANES"]),)
    scan_mul_mul_maximum_mul_forward[grid](x, f, u, h_start, *made, kept, s_start, number, number2, *steps, **call)
    return *made, kept


@scan_mul_mul_maximum_mul_step.register_fake
def scan_mul_mul_maximum_mul_like(
    x: Tensor, f: Tensor, u: Tensor, h_start: Tensor, s_start: float, number: float, number2: float
) -> tuple[Tensor, Tensor, Tensor]:
    rows, length, width = x.shape
    made = (x.new_empty(rows, length, width, dtype=chain_kind(x, f, u, h_start)) for _ in range(2))
    kept = x.new_empty(-(-length // SEQUENTIAL_EVERY), 2, rows * width, dtype=torch.float32)
    return *made, kept


@operation
def scan_mul_mul_maximum_mul_slopes(
    grad_h_out: Tensor,
    grad_before_out: Tensor,
    x: Tensor,
    f: Tensor,
    u: Tensor,
    h_start: Tensor,
    kept: Tensor,
    s_start: float,
    number: float,
    number2: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of all inputs."""
    made = scan_mul_mul_maximum_mul_slopes_like(
        grad_h_out, grad_before_out, x, f, u, h_start, kept, s_start, number, number2
    )
    call = sequential_call("scan_mul_mul_maximum_mul.backward", x)
    steps = sequential_steps(grad_h_out, grad_before_out, x, f)
    walked, grid = kept.new_empty(SEQUENTIAL_EVERY, *kept.shape[1:]), (triton.cdiv(call["lanes"], call["LANES"]),)
    scan_mul_mul_maximum_mul_backward[grid](
        grad_h_out, grad_before_out, x, f, u, kept, walked, *made, s_start, number, number2, *steps, **call
    )
    return made


@scan_mul_mul_maximum_mul_slopes.register_fake
def scan_mul_mul_maximum_mul_slopes_like(
    grad_h_out: Tensor,
    grad_before_out: Tensor,
    x: Tensor,
    f: Tensor,
    u: Tensor,
    h_start: Tensor,
    kept: Tensor,
    s_start: float,
    number: float,
    number2: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(given, memory_format=torch.contiguous_format) for given in (x, f, u, h_start))


def scan_mul_mul_maximum_mul_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4], output[-1])
    ctx.given = inputs[4:]


def scan_mul_mul_maximum_mul_gradients(
    ctx: Any, grad_h_out: Tensor, grad_before_out: Tensor, _: Tensor
) -> tuple[Tensor | None, ...]:
    grads = scan_mul_mul_maximum_mul_slopes(grad_h_out, grad_before_out, *ctx.saved_tensors, *ctx.given)
    return *grads, None, None, None


scan_mul_mul_maximum_mul_step.register_autograd(
    scan_mul_mul_maximum_mul_gradients, setup_context=scan_mul_mul_maximum_mul_keep
)


def scan_mul_mul_maximum_mul_plain(
    x: Tensor, f: Tensor, u: Tensor, h_start: Tensor, s_start: float, number: float, number2: float, dim: int
) -> tuple[Tensor, Tensor]:
    """mul, mul, mul, add, tanh, sigmoid, sub, maximum, mul, one position after another, in PyTorch."""
    h = h_start
    s = torch.full_like(x.select(dim, 0), s_start)
    h_out = []
    before_out = []
    for x_t, f_t in zip(x.unbind(dim), f.unbind(dim)):
        before = s * number
        h2 = torch.tanh(x_t + u * h * f_t)
        s2 = torch.sigmoid(f_t) * torch.maximum(s, h - number2)
        h_out.append(h2)
        before_out.append(before)
        next_h = h2
        next_s = s2
        h, s = next_h, next_s
    return torch.stack(h_out, dim), torch.stack(before_out, dim)


def scan_mul_mul_maximum_mul(
    x: Tensor, f: Tensor, u: Tensor, h_start: Tensor, s_start: float, number: float, number2: float, dim: int
) -> tuple[Tensor, Tensor]:
    """mul, mul, mul, add, tanh, sigmoid, sub, maximum, mul, one position after another along the axis `dim`, in one kernel."""
    shape = x.shape
    u = u.expand(shape[:dim] + shape[dim + 1 :])
    h_start = h_start.expand(shape[:dim] + shape[dim + 1 :])
    if not runs(x, f, u, h_start) or not x.numel():
        return scan_mul_mul_maximum_mul_plain(x, f, u, h_start, s_start, number, number2, dim)
    h_out, before_out, _ = scan_mul_mul_maximum_mul_step(
        sequential_rows(x, dim),
        sequential_rows(f, dim),
        sequential_flat(u),
        sequential_flat(h_start),
        s_start,
        number,
        number2,
    )
    return h_out.view(shape), before_out.view(shape)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.full((4,), 0.5))

    def forward(self, x: torch.Tensor, f: torch.Tensor, h0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.ndim != 3 or x.shape[2] != 4:
            raise ValueError(f"x must be [b, t, c = 4], and is {list(x.shape)}")
        if f.ndim != 3 or f.shape[2] != 4:
            raise ValueError(f"f must be [b, t, c = 4], and is {list(f.shape)}")
        if h0.ndim != 2 or h0.shape[1] != 4:
            raise ValueError(f"h0 must be [b, c = 4], and is {list(h0.shape)}")
        b, t, _ = x.shape
        if f.shape[0] != b:
            raise ValueError(f"axis b of f must be b = {b}, and is {f.shape[0]}")
        if f.shape[1] != t:
            raise ValueError(f"axis t of f must be t = {t}, and is {f.shape[1]}")
        if h0.shape[0] != b:
            raise ValueError(f"axis b of h0 must be b = {b}, and is {h0.shape[0]}")
        y, m = scan_mul_mul_maximum_mul(x, f, self.u[None], h0, 0.5, 0.7, 0.2, 1)
        return y, m

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
