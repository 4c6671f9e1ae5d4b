"""KAT: Kolmogorov-Arnold Transformer (Yang and Wang, ICLR 2025): a ViT whose MLPs learn their activations."""
# Made by archlang 0.1.0 from kat.arch (sha256 7ac0c33e816d1a51): kat/tiny classes=5 depth=2 dim=16 drop_path=0 groups=4 heads=2 patch=8 resolution=32

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


def polynomial(coefficients: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """sum over i of coefficients[group, i] x^i, for x [.., group, c]"""
    *lower, value = coefficients[..., None].unbind(1)
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value.expand_as(x)


class RationalFunction(torch.autograd.Function):
    """y = P(x) / Q(x) with P = sum a_i x^i for x [.., group, c], and Q = 1 + sum |b_j x^j|, or with `whole`
    Q = 1 + |sum b_j x^j|, j from 1. The slope of |b| at 0 is taken as 1, so that a b of 0 can be learned.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, whole: bool) -> Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.whole = whole
        wide, a, b = (value.to(torch.promote_types(x.dtype, torch.float32)) for value in (x, a, b))
        z, b = (wide, b) if whole else (wide.abs(), b.abs())
        return (polynomial(a, wide) / (1 + (z * polynomial(b, z)).abs())).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        x, a, b = (value.to(torch.promote_types(grad.dtype, torch.float32)) for value in given)
        z, c = (x, b) if ctx.whole else (x.abs(), b.abs())
        inner = z * polynomial(c, z)
        grad_p = grad / (1 + inner.abs())
        grad_q = -grad_p * polynomial(a, x) / (1 + inner.abs())
        if ctx.whole:
            grad_q = torch.where(inner < 0, -grad_q, grad_q)
        slope_p = polynomial(a[:, 1:] * torch.arange(1, a.shape[1], device=a.device), x)
        slope_q = polynomial(c * torch.arange(1, c.shape[1] + 1, device=a.device), z)
        grad_x = grad_p * slope_p + grad_q * (slope_q if ctx.whole else slope_q * x.sign())
        over = [*range(x.ndim - 2), x.ndim - 1]
        grad_a, grad_b = [grad_p.sum(over)], []
        for _ in range(a.shape[1] - 1):
            grad_p = grad_p * x
            grad_a.append(grad_p.sum(over))
        for _ in range(b.shape[1]):
            grad_q = grad_q * z
            grad_b.append(grad_q.sum(over))
        signs = 1 if ctx.whole else torch.where(b < 0, -1, 1)
        grads = grad_x, torch.stack(grad_a, 1), torch.stack(grad_b, 1) * signs
        return *(made.to(value.dtype) for made, value in zip(grads, given, strict=True)), None


class GroupRational(nn.Module):
    """y = P(x) / Q(x), with a P for all channels, or for each group of them, and a Q for each group."""

    def __init__(
        self,
        groups: int,
        numerator: Sequence[float],
        denominator: Sequence[float],
        shared: bool = True,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.groups, self.whole = groups, whole
        self.numerator = nn.Parameter(torch.tensor([numerator] * (1 if shared else groups)))
        self.denominator = nn.Parameter(torch.tensor([denominator] * groups))

    def forward(self, x: Tensor) -> Tensor:
        numerator = self.numerator.expand(self.groups, -1)
        grouped = x.reshape(*x.shape[:-1], self.groups, -1)
        y: Tensor = RationalFunction.apply(grouped, numerator, self.denominator, self.whole)  # type: ignore[no-untyped-call]
        return y.reshape(x.shape)


RATIONAL_PARTS = 1024  # so many programs sum the slopes of coefficients


@jit
def rational_load(x, row, column, rows, channels, WIDTH: tl.constexpr):
    """Rows of the channels of one group, and where they are."""
    here = (row < rows)[:, None] & (column < WIDTH)[None, :]
    at = row.to(tl.int64)[:, None] * channels + tl.program_id(1) * WIDTH + column[None, :]
    return tl.load(x + at, mask=here, other=0.0).to(tl.float32), at, here


@jit
def rational_forward(
    x, a, b, y, rows, channels, WIDTH: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """y = P / Q of some rows of one group."""
    group = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    value, at, here = rational_load(x, row, column, rows, channels, WIDTH)
    z = value if WHOLE else tl.abs(value)
    p, q = value * 0.0, value * 0.0
    p = p * value + tl.load(a + group * 6 + 5)
    p = p * value + tl.load(a + group * 6 + 4)
    p = p * value + tl.load(a + group * 6 + 3)
    p = p * value + tl.load(a + group * 6 + 2)
    p = p * value + tl.load(a + group * 6 + 1)
    p = p * value + tl.load(a + group * 6 + 0)
    slope = tl.load(b + group * 4 + 3)
    q = (q + (slope if WHOLE else tl.abs(slope))) * z
    slope = tl.load(b + group * 4 + 2)
    q = (q + (slope if WHOLE else tl.abs(slope))) * z
    slope = tl.load(b + group * 4 + 1)
    q = (q + (slope if WHOLE else tl.abs(slope))) * z
    slope = tl.load(b + group * 4 + 0)
    q = (q + (slope if WHOLE else tl.abs(slope))) * z
    tl.store(y + at, (p / (1.0 + tl.abs(q))).to(y.dtype.element_ty), mask=here)


@jit
def rational_backward(
    grad,
    x,
    a,
    b,
    grad_x,
    grad_ab,
    rows,
    channels,
    each,
    WIDTH: tl.constexpr,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The slope of some rows of one group; those of its coefficients are summed over the rows, and stored as one part."""
    part, group = tl.program_id(0), tl.program_id(1)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    a_0 = tl.load(a + group * 6 + 0)
    sum_a_0 = tl.zeros([ROWS, COLUMNS], tl.float32)
    a_1 = tl.load(a + group * 6 + 1)
    sum_a_1 = tl.zeros([ROWS, COLUMNS], tl.float32)
    a_2 = tl.load(a + group * 6 + 2)
    sum_a_2 = tl.zeros([ROWS, COLUMNS], tl.float32)
    a_3 = tl.load(a + group * 6 + 3)
    sum_a_3 = tl.zeros([ROWS, COLUMNS], tl.float32)
    a_4 = tl.load(a + group * 6 + 4)
    sum_a_4 = tl.zeros([ROWS, COLUMNS], tl.float32)
    a_5 = tl.load(a + group * 6 + 5)
    sum_a_5 = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_0 = tl.load(b + group * 4 + 0)
    c_0 = b_0 if WHOLE else tl.abs(b_0)
    sum_b_0 = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_1 = tl.load(b + group * 4 + 1)
    c_1 = b_1 if WHOLE else tl.abs(b_1)
    sum_b_1 = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_2 = tl.load(b + group * 4 + 2)
    c_2 = b_2 if WHOLE else tl.abs(b_2)
    sum_b_2 = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_3 = tl.load(b + group * 4 + 3)
    c_3 = b_3 if WHOLE else tl.abs(b_3)
    sum_b_3 = tl.zeros([ROWS, COLUMNS], tl.float32)
    for step in range(part * each, (part + 1) * each):
        row = step * ROWS + tl.arange(0, ROWS)
        value, at, here = rational_load(x, row, column, rows, channels, WIDTH)
        slope = tl.load(grad + at, mask=here, other=0.0).to(tl.float32)
        z = value if WHOLE else tl.abs(value)
        p, p_slope = value * 0.0, value * 0.0
        p_slope, p = p_slope * value + p, p * value + a_5
        p_slope, p = p_slope * value + p, p * value + a_4
        p_slope, p = p_slope * value + p, p * value + a_3
        p_slope, p = p_slope * value + p, p * value + a_2
        p_slope, p = p_slope * value + p, p * value + a_1
        p_slope, p = p_slope * value + p, p * value + a_0
        q, q_slope = z * 0.0, z * 0.0
        q_slope, q = q_slope * z + q, q * z + c_3
        q_slope, q = q_slope * z + q, q * z + c_2
        q_slope, q = q_slope * z + q, q * z + c_1
        q_slope, q = q_slope * z + q, q * z + c_0
        q_slope, q = q_slope * z + q, q * z
        slope_p = slope / (1.0 + tl.abs(q))
        slope_q = -slope_p * p / (1.0 + tl.abs(q))
        if WHOLE:
            slope_q = tl.where(q < 0, -slope_q, slope_q)
        else:
            q_slope = tl.where(value < 0, -q_slope, tl.where(value > 0, q_slope, 0.0))
        made = slope_p * p_slope + slope_q * q_slope
        tl.store(grad_x + at, made.to(grad_x.dtype.element_ty), mask=here)
        sum_a_0 += slope_p
        slope_p *= value
        sum_a_1 += slope_p
        slope_p *= value
        sum_a_2 += slope_p
        slope_p *= value
        sum_a_3 += slope_p
        slope_p *= value
        sum_a_4 += slope_p
        slope_p *= value
        sum_a_5 += slope_p
        slope_q *= z
        sum_b_0 += slope_q
        slope_q *= z
        sum_b_1 += slope_q
        slope_q *= z
        sum_b_2 += slope_q
        slope_q *= z
        sum_b_3 += slope_q
    grad_ab += ((part * tl.num_programs(2) + tl.program_id(2)) * tl.num_programs(1) + group) * 10
    tl.store(grad_ab + 0, tl.sum(sum_a_0))
    tl.store(grad_ab + 1, tl.sum(sum_a_1))
    tl.store(grad_ab + 2, tl.sum(sum_a_2))
    tl.store(grad_ab + 3, tl.sum(sum_a_3))
    tl.store(grad_ab + 4, tl.sum(sum_a_4))
    tl.store(grad_ab + 5, tl.sum(sum_a_5))
    tl.store(grad_ab + 6, tl.sum(sum_b_0) * (tl.where(b_0 < 0, -1.0, 1.0) if not WHOLE else 1.0))
    tl.store(grad_ab + 7, tl.sum(sum_b_1) * (tl.where(b_1 < 0, -1.0, 1.0) if not WHOLE else 1.0))
    tl.store(grad_ab + 8, tl.sum(sum_b_2) * (tl.where(b_2 < 0, -1.0, 1.0) if not WHOLE else 1.0))
    tl.store(grad_ab + 9, tl.sum(sum_b_3) * (tl.where(b_3 < 0, -1.0, 1.0) if not WHOLE else 1.0))


def rational_call(part: str, x: Tensor, a: Tensor, whole: bool) -> dict[str, Any]:
    """What both kernels are told: counts, and the shape of a tile, which has 512 numbers."""
    width = x.shape[-1] // a.shape[0]
    columns = min(tile(width, 1), 128)
    return dict(
        rows=x.numel() // x.shape[-1],
        channels=x.shape[-1],
        WIDTH=width,
        WHOLE=whole,
        **tile_shape(f"group_rational.{part}", x, dict(c=width), ROWS=512 // columns, COLUMNS=columns, num_warps=4),
    )


@operation
def rational(x: Tensor, a: Tensor, b: Tensor, whole: bool) -> Tensor:
    """P / Q of x [.., c] for coefficients [groups, powers]."""
    x, a, b = x.contiguous(), a.contiguous(), b.contiguous()
    call, y = rational_call("forward", x, a, whole), torch.empty_like(x)
    grid = triton.cdiv(call["rows"], call["ROWS"]), a.shape[0], triton.cdiv(call["WIDTH"], call["COLUMNS"])
    rational_forward[grid](x, a, b, y, **call)
    return y


@rational.register_fake
def rational_like(x: Tensor, a: Tensor, b: Tensor, whole: bool) -> Tensor:
    return x.new_empty(x.shape)


@operation
def rational_gradients(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, whole: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x and the coefficients; torch adds what the programs have summed."""
    grad, x, a, b = grad.contiguous(), x.contiguous(), a.contiguous(), b.contiguous()
    call, grad_x = rational_call("backward", x, a, whole), torch.empty_like(x)
    tiles, pieces = triton.cdiv(call["rows"], call["ROWS"]), triton.cdiv(call["WIDTH"], call["COLUMNS"])
    each = triton.cdiv(tiles, max(1, RATIONAL_PARTS // (a.shape[0] * pieces)))
    parts = triton.cdiv(tiles, each)
    grad_ab = x.new_empty(parts, pieces, a.shape[0], a.shape[1] + b.shape[1], dtype=torch.float32)
    rational_backward[parts, a.shape[0], pieces](grad, x, a, b, grad_x, grad_ab, each=each, **call)
    grad_ab = grad_ab.sum((0, 1))
    grad_a, grad_b = grad_ab[:, : a.shape[1]], grad_ab[:, a.shape[1] :]
    return grad_x, grad_a.to(a.dtype, copy=True).contiguous(), grad_b.to(b.dtype, copy=True).contiguous()


@rational_gradients.register_fake
def rational_gradients_like(
    grad: Tensor, x: Tensor, a: Tensor, b: Tensor, whole: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), a.new_empty(a.shape), b.new_empty(b.shape)


def rational_keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.whole = inputs[3]


def rational_slopes(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *rational_gradients(grad, *ctx.saved_tensors, ctx.whole), None


rational.register_autograd(rational_slopes, setup_context=rational_keep)


class TritonGroupRational(GroupRational):
    """`GroupRational` by kernels."""

    def forward(self, x: Tensor) -> Tensor:
        if not runs(x, self.numerator, self.denominator) or not x.numel():
            return super().forward(x)
        return rational(x, self.numerator.expand(self.groups, -1), self.denominator, self.whole)


class Patchify(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 16, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 8))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(o.transpose(1, 2).flatten(2))


class GrKan(nn.Module):
    """The MLP of KAT (Yang and Wang, ICLR 2025): a rational activation before each linear map.
    They start as the identity and as gelu, and the weights with the variance 1 / (fan in E[f(z)^2]), z normal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.act1 = TritonGroupRational(4, (0.0, 1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))
        self.fc1 = nn.Linear(16, 64)
        self.fc1.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(64, 16), nonlinearity="linear"))
        self.act2 = TritonGroupRational(
            4, (-0.0012994, 0.5, 0.408071, 0.1063724, 0.0084293, 0.0), (0.0, 0.2127448, 0.0, 0.0)
        )
        self.fc2 = nn.Linear(64, 16)
        self.fc2.weight = nn.Parameter(
            nn.init.kaiming_normal_(torch.empty(16, 64), nonlinearity="linear") * 1.535187284991639
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act2(self.fc1(self.act1(x))))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(16, eps=1e-6)
        self.attn = SelfAttention()
        self.norm2 = nn.LayerNorm(16, eps=1e-6)
        self.mlp = GrKan()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stochastic_depth = self.attn(self.norm1(x))
        add, norm2 = fused_add_layer_norm(x, stochastic_depth, self.norm2.weight, self.norm2.bias, 1e-6)
        return add + self.mlp(norm2)


class Kat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(16) * 1e-6)
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(17, 16), std=0.02))
        self.patch_embed = Patchify()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        b = image.shape[0]
        x = self.patch_embed(image).transpose(1, 2)
        x = torch.cat((self.cls_token[None].expand(b, -1, -1), x), 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
