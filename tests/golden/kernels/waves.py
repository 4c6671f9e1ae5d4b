# Made by archlang 0.1.0 from waves.arch (sha256 55775e1d4886ca80): net

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
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


def fourier(x: torch.Tensor, waves: int) -> torch.Tensor:
    """[..] -> [.., 2 * waves]: cos x, cos 2 x, .., sin x, sin 2 x, .."""
    angles = x[..., None] * torch.arange(1, waves + 1, device=x.device)
    return torch.cat((angles.cos(), angles.sin()), -1)


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


@jit
def turned(angle):
    """cos and sin, by their series around the nearest quarter of a turn: the numbers of torch want a stack for angles that
    have no digits left. pi / 2 is taken in parts of 8 bits, whose products with a number of quarters are exact.
    """
    quarters = tl.floor(angle * 0.6366197723675814 + 0.5)
    x = angle - quarters * 1.5703125 - quarters * 0.0004825592041015625 - quarters * 1.2675907950567314e-06
    y = x * x
    odd = x * (1.0 + y * (-1.0 / 6.0 + y * (1.0 / 120.0 + y * (-1.0 / 5040.0 + y / 362880.0))))
    even = 1.0 + y * (-0.5 + y * (1.0 / 24.0 + y * (-1.0 / 720.0 + y * (1.0 / 40320.0 - y / 3628800.0))))
    quarter = quarters.to(tl.int32) & 3
    swapped = (quarter & 1) != 0
    cosine, sine = tl.where(swapped, odd, even), tl.where(swapped, even, odd)
    return tl.where((quarter == 1) | (quarter == 2), -cosine, cosine), tl.where(quarter >= 2, -sine, sine)


@jit
def basis_at(x, k, column, knots, low, step, wide, C, COUNT, KIND: tl.constexpr, ORDER: tl.constexpr):
    """The function k of a tile of numbers, and its slope."""
    if KIND == "fourier":
        waves = COUNT // 2
        often = (k % waves + 1) * 1.0
        even, odd = turned(often * x)
        value = tl.where(k < waves, even, odd)
        slope = often * tl.where(k < waves, -odd, even)
    return value, slope


@jit
def basis_tile(x, row, column, rows, C):
    """Some numbers of some rows, and which are there."""
    here = (row < rows)[:, None] & (column < C)[None, :]
    return here, tl.load(x + row.to(tl.int64)[:, None] * C + column[None, :], mask=here, other=0.0)


def basis_given(basis: Callable[..., Tensor], given: Sequence[Any]) -> tuple[Tensor | None, list[float], int]:
    """What kernels are told of a basis: the knots of splines; where bumps lie and how wide they are; the degree."""
    knots, numbers, order = None, [0.0, 0.0, 0.0], -1
    return knots, numbers, order


def basis_curve(x: Tensor, weight: Tensor, basis: Callable[..., Tensor], *given: Any) -> Tensor:
    """y[.., c] = sum over k of weight[c, k] basis(x[.., c])[k]; `given` goes to the basis."""
    return (basis(x, *given) * weight).sum(-1)


CURVE_PARTS = 512  # so many programs sum the slopes of a weight


@jit
def curve_forward(
    x,
    weight,
    y,
    knots,
    low,
    step,
    wide,
    C,
    COUNT,
    KIND: tl.constexpr,
    ORDER: tl.constexpr,
    rows,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """A tile of y."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    here, numbers = basis_tile(x, row, column, rows, C)
    total = tl.zeros([ROWS, CHANNELS], tl.float32)
    for k in range(0, COUNT):
        value, _ = basis_at(numbers.to(tl.float32), k, column, knots, low, step, wide, C, COUNT, KIND, ORDER)
        share = tl.load(weight + column * COUNT + k, mask=column < C, other=0.0).to(tl.float32)
        total += share[None, :] * value
    tl.store(y + row.to(tl.int64)[:, None] * C + column[None, :], total.to(y.dtype.element_ty), mask=here)


@jit
def curve_backward(
    grad,
    x,
    weight,
    grad_x,
    sums,
    knots,
    low,
    step,
    wide,
    C,
    COUNT,
    KIND: tl.constexpr,
    ORDER: tl.constexpr,
    rows,
    each,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The slopes of one tile of x after another, then those of the weights of each function, summed over these."""
    part = tl.program_id(0)
    column = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    for turn in range(part * each, (part + 1) * each):
        row = turn * ROWS + tl.arange(0, ROWS)
        here, numbers = basis_tile(x, row, column, rows, C)
        there, slopes = basis_tile(grad, row, column, rows, C)
        total = tl.zeros([ROWS, CHANNELS], tl.float32)
        for k in range(0, COUNT):
            _, slope = basis_at(numbers.to(tl.float32), k, column, knots, low, step, wide, C, COUNT, KIND, ORDER)
            share = tl.load(weight + column * COUNT + k, mask=column < C, other=0.0).to(tl.float32)
            total += share[None, :] * slope
        total *= slopes.to(tl.float32)
        tl.store(grad_x + row.to(tl.int64)[:, None] * C + column[None, :], total.to(grad_x.dtype.element_ty), mask=here)
    for k in range(0, COUNT):
        total = tl.zeros([ROWS, CHANNELS], tl.float32)
        for turn in range(part * each, (part + 1) * each):
            row = turn * ROWS + tl.arange(0, ROWS)
            here, numbers = basis_tile(x, row, column, rows, C)
            there, slopes = basis_tile(grad, row, column, rows, C)
            value, _ = basis_at(numbers.to(tl.float32), k, column, knots, low, step, wide, C, COUNT, KIND, ORDER)
            total += value * slopes.to(tl.float32)
        places = sums + (part.to(tl.int64) * C + column) * COUNT + k
        tl.store(places, tl.sum(total, 0), mask=column < C)


def curve_call(part: str, x: Tensor, weight: Tensor, numbers: Sequence[float], kind: str, order: int) -> dict[str, Any]:
    """What every kernel of a call is told: the basis, sizes, and the shape of a tile, which has 1024 numbers."""
    low, step, wide = numbers
    channels = min(tile(x.shape[1], 1), 128)
    basis = dict(low=low, step=step, wide=wide, C=x.shape[1], COUNT=weight.shape[1], KIND=kind, ORDER=order)
    rows = max(1, min(tile(x.shape[0], 1), 1024 // channels))
    sizes = dict(c=x.shape[1], functions=weight.shape[1])
    return dict(
        **basis,
        rows=x.shape[0],
        **tile_shape(f"basis_curve.{part}", x, sizes, ROWS=rows, CHANNELS=channels, num_warps=4),
    )


@operation
def draw_curves(
    x: Tensor, weight: Tensor, knots: Tensor | None, numbers: Sequence[float], kind: str, order: int
) -> Tensor:
    """y [rows, channels] for x [rows, channels] and weight [channels, functions]."""
    call, y = curve_call("forward", x, weight, numbers, kind, order), torch.empty_like(x)
    grid = triton.cdiv(x.shape[0], call["ROWS"]), triton.cdiv(x.shape[1], call["CHANNELS"])
    curve_forward[grid](x, weight, y, knots, **call)
    return y


@draw_curves.register_fake
def draw_curves_like(
    x: Tensor, weight: Tensor, knots: Tensor | None, numbers: Sequence[float], kind: str, order: int
) -> Tensor:
    return torch.empty_like(x)


@operation
def draw_curves_backward(
    grad: Tensor, x: Tensor, weight: Tensor, knots: Tensor | None, numbers: Sequence[float], kind: str, order: int
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the weight; torch adds what programs have summed."""
    call, grad_x = curve_call("backward", x, weight, numbers, kind, order), torch.empty_like(x)
    turns = triton.cdiv(x.shape[0], call["ROWS"])
    each = triton.cdiv(turns, CURVE_PARTS)
    sums = weight.new_empty(triton.cdiv(turns, each), *weight.shape, dtype=torch.float32)
    grid = sums.shape[0], triton.cdiv(x.shape[1], call["CHANNELS"])
    curve_backward[grid](grad.contiguous(), x, weight, grad_x, sums, knots, each=each, **call)
    return grad_x, sums.sum(0).to(weight.dtype)


@draw_curves_backward.register_fake
def draw_curves_backward_like(
    grad: Tensor, x: Tensor, weight: Tensor, knots: Tensor | None, numbers: Sequence[float], kind: str, order: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


def draw_curves_keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.given = inputs[3:]


def draw_curves_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *draw_curves_backward(grad, *ctx.saved_tensors, *ctx.given), None, None, None, None


draw_curves.register_autograd(draw_curves_gradients, setup_context=draw_curves_keep)


def triton_basis_curve(x: Tensor, weight: Tensor, basis: Callable[..., Tensor], *given: Any) -> Tensor:
    """`basis_curve` by kernels."""
    if not runs(x, weight) or not x.numel():
        return basis_curve(x, weight, basis, *given)
    knots, numbers, order = basis_given(basis, given)
    rows, weight = alike(x.reshape(-1, x.shape[-1]), weight)
    y = draw_curves(rows.contiguous(), weight.contiguous(), knots, numbers, basis.__name__, order)
    return y.view(x.shape)


class LearnedActivation(nn.Module):
    """y_c = sum over k of weight_ck g_k(x_c): one curve for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(4, 6), -0.01, 0.01))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return triton_basis_curve(x, self.weight, fourier, 3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = LearnedActivation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2 or x.shape[1] != 4:
            raise ValueError(f"x must be [b, c = 4], and is {list(x.shape)}")
        return self.act(x)

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
