# Made by archlang 0.1.0 from curves.arch (sha256 c8e9f05c5b387067): net

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cox_de_boor(x: Tensor, grid: Tensor, order: int) -> Tensor:
    """[.., dim] -> [.., dim, knots - order - 1]: the B-splines of a degree on the knots `grid` [dim, knots], from those
    of lower degrees.
    """
    x = x[..., None]
    y = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for d in range(1, order + 1):
        rise = (x - grid[:, : -d - 1]) / (grid[:, d:-1] - grid[:, : -d - 1])
        fall = (grid[:, d + 1 :] - x) / (grid[:, d + 1 :] - grid[:, 1:-d])
        y = rise * y[..., :-1] + fall * y[..., 1:]
    return y


class BSpline(nn.Module):
    """[.., dim] -> [.., dim, grid + order]: the B-splines of each channel"""

    grid: Tensor

    def __init__(self, dim: int, grid: int = 5, order: int = 3, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.order = order
        knots = torch.arange(-order, grid + order + 1) * ((high - low) / grid) + low
        self.register_buffer("grid", knots.expand(dim, -1).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return cox_de_boor(x, self.grid, self.order)

    @torch.no_grad()
    def move_grid(self, x: Tensor, weight: Tensor, uniform: float = 0.02, margin: float = 0.01) -> Tensor:
        """Lay the grid around the data x [.., dim], in equal parts but for a `uniform` share of even intervals, and
        return the weight [units, dim, splines] that by least squares keeps the curves of `weight` at the data.
        """
        x = x.flatten(0, -2)
        splines = self(x).transpose(0, 1)
        curves = splines @ weight.reshape(len(weight), x.shape[1], -1).permute(1, 2, 0)
        intervals = self.grid.shape[1] - 2 * self.order - 1
        places = torch.linspace(0, len(x) - 1, intervals + 1, device=x.device).round().long()
        low, high = x.amin(0) - margin, x.amax(0) + margin
        step = ((high - low) / intervals)[:, None]
        even = low[:, None] + step * torch.arange(intervals + 1, device=x.device)
        knots = uniform * even + (1 - uniform) * x.sort(0).values[places].T
        outside = step * torch.arange(1, self.order + 1, device=x.device)
        self.grid.copy_(torch.cat((knots[:, :1] - outside.flip(1), knots, knots[:, -1:] + outside), 1))
        fitted: Tensor = torch.linalg.pinv(self(x).transpose(0, 1)) @ curves
        return fitted.permute(2, 0, 1).reshape(weight.shape)


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


@jit
def basis_at(x, k, column, knots, low, step, wide, C, COUNT, KIND: tl.constexpr, ORDER: tl.constexpr):
    """The function k of a tile of numbers, and its slope."""
    if ORDER == 3:  # splines of lower degrees, by Cox and de Boor
        place = knots + column * (COUNT + 4) + k
        knot_0 = tl.load(place + 0, mask=column < C, other=0.0).to(tl.float32)[None, :]
        knot_1 = tl.load(place + 1, mask=column < C, other=1.0).to(tl.float32)[None, :]
        knot_2 = tl.load(place + 2, mask=column < C, other=2.0).to(tl.float32)[None, :]
        knot_3 = tl.load(place + 3, mask=column < C, other=3.0).to(tl.float32)[None, :]
        knot_4 = tl.load(place + 4, mask=column < C, other=4.0).to(tl.float32)[None, :]
        part_0 = tl.where((x >= knot_0) & (x < knot_1), 1.0, 0.0)
        part_1 = tl.where((x >= knot_1) & (x < knot_2), 1.0, 0.0)
        part_2 = tl.where((x >= knot_2) & (x < knot_3), 1.0, 0.0)
        part_3 = tl.where((x >= knot_3) & (x < knot_4), 1.0, 0.0)
        part_0 = (x - knot_0) / (knot_1 - knot_0) * part_0 + (knot_2 - x) / (knot_2 - knot_1) * part_1
        part_1 = (x - knot_1) / (knot_2 - knot_1) * part_1 + (knot_3 - x) / (knot_3 - knot_2) * part_2
        part_2 = (x - knot_2) / (knot_3 - knot_2) * part_2 + (knot_4 - x) / (knot_4 - knot_3) * part_3
        part_0 = (x - knot_0) / (knot_2 - knot_0) * part_0 + (knot_3 - x) / (knot_3 - knot_1) * part_1
        part_1 = (x - knot_1) / (knot_3 - knot_1) * part_1 + (knot_4 - x) / (knot_4 - knot_2) * part_2
        slope = 3.0 * (part_0 / (knot_3 - knot_0) - part_1 / (knot_4 - knot_1))
        part_0 = (x - knot_0) / (knot_3 - knot_0) * part_0 + (knot_4 - x) / (knot_4 - knot_1) * part_1
        value = part_0
    return value, slope


@jit
def basis_tile(x, row, column, rows, C):
    """Some numbers of some rows, and which are there."""
    here = (row < rows)[:, None] & (column < C)[None, :]
    return here, tl.load(x + row.to(tl.int64)[:, None] * C + column[None, :], mask=here, other=0.0)


def basis_given(basis: Callable[..., Tensor], given: Sequence[Any]) -> tuple[Tensor | None, list[float], int]:
    """What kernels are told of a basis: the knots of splines; where bumps lie and how wide they are; the degree."""
    knots, numbers, order = None, [0.0, 0.0, 0.0], -1
    if basis is cox_de_boor:
        knots, order = given[0].contiguous(), given[1]
    return knots, numbers, order


def basis_linear(x: Tensor, weight: Tensor, basis: Callable[..., Tensor], *given: Any) -> Tensor:
    """y[.., u] = sum over c and k of weight[u, (c, k)] basis(x[.., c])[k]; `given` goes to the basis."""
    return F.linear(basis(x, *given).flatten(-2), weight)


BASIS_PROGRAMS = 264  # rows are cut into parts until so many sum the slopes of weights


@jit
def basis_forward(
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
    units,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SOME: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """A tile of y: channels pass by some at a time, and for these one function after another."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    unit = tl.program_id(1) * SOME + tl.arange(0, SOME)
    total = tl.zeros([ROWS, SOME], tl.float32)
    for start in range(0, C, CHANNELS):
        column = start + tl.arange(0, CHANNELS)
        here, numbers = basis_tile(x, row, column, rows, C)
        for k in range(0, COUNT):
            value, _ = basis_at(numbers.to(tl.float32), k, column, knots, low, step, wide, C, COUNT, KIND, ORDER)
            places = weight + (tl.cast(k, tl.int64) * C + column)[:, None] * units + unit[None, :]
            shares = tl.load(places, mask=(column < C)[:, None] & (unit < units)[None, :], other=0.0)
            value = tl.where(here, value, 0.0).to(numbers.dtype)
            total += product(value, shares, PRECISION, WIDEN)
    there = (row < rows)[:, None] & (unit < units)[None, :]
    tl.store(y + row.to(tl.int64)[:, None] * units + unit[None, :], total.to(y.dtype.element_ty), mask=there)


@jit
def basis_backward_inputs(
    grad,
    x,
    weight,
    grad_x,
    knots,
    low,
    step,
    wide,
    C,
    COUNT,
    KIND: tl.constexpr,
    ORDER: tl.constexpr,
    rows,
    units,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SOME: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The slopes of a tile of x: those of all functions, one after another."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    here, numbers = basis_tile(x, row, column, rows, C)
    total = tl.zeros([ROWS, CHANNELS], tl.float32)
    for k in range(0, COUNT):
        part = tl.zeros([ROWS, CHANNELS], tl.float32)
        for start in range(0, units, SOME):
            unit = start + tl.arange(0, SOME)
            there, slopes = basis_tile(grad, row, unit, rows, units)
            places = weight + (tl.cast(k, tl.int64) * C + column)[None, :] * units + unit[:, None]
            shares = tl.load(places, mask=(unit < units)[:, None] & (column < C)[None, :], other=0.0)
            part += product(slopes, shares, PRECISION, WIDEN)
        _, slope = basis_at(numbers.to(tl.float32), k, column, knots, low, step, wide, C, COUNT, KIND, ORDER)
        total += slope * part
    tl.store(grad_x + row.to(tl.int64)[:, None] * C + column[None, :], total.to(grad_x.dtype.element_ty), mask=here)


@jit
def basis_backward_weights(
    grad,
    x,
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
    units,
    each,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SOME: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The slopes of the weights of one function in a tile of channels and units, summed over some of the rows."""
    pieces = tl.cdiv(units, SOME)
    column = tl.program_id(0) // pieces * CHANNELS + tl.arange(0, CHANNELS)
    unit = tl.program_id(0) % pieces * SOME + tl.arange(0, SOME)
    k, part = tl.program_id(1), tl.program_id(2)
    total = tl.zeros([CHANNELS, SOME], tl.float32)
    for turn in range(part * each, (part + 1) * each):
        row = turn * ROWS + tl.arange(0, ROWS)
        here, numbers = basis_tile(x, row, column, rows, C)
        there, slopes = basis_tile(grad, row, unit, rows, units)
        value, _ = basis_at(numbers.to(tl.float32), k, column, knots, low, step, wide, C, COUNT, KIND, ORDER)
        value = tl.where(here, value, 0.0).to(numbers.dtype)
        total += product(tl.trans(value), slopes, PRECISION, WIDEN)
    places = sums + ((part.to(tl.int64) * COUNT + k) * C + column)[:, None] * units + unit[None, :]
    tl.store(places, total, mask=(column < C)[:, None] & (unit < units)[None, :])


def basis_call(part: str, x: Tensor, weight: Tensor, numbers: Sequence[float], kind: str, order: int) -> dict[str, Any]:
    """What every kernel of a call is told: the basis, sizes, and the shape of tiles."""
    half, (count, _, units) = x.dtype != torch.float32, weight.shape
    some = min(tile(units), 128 if half else 32)
    sizes = dict(c=x.shape[1], functions=count, units=units)
    tiles = dict(
        ROWS=64 if half else 32,
        CHANNELS=min(tile(x.shape[1]), 16 if order > 1 else 32),
        SOME=some,
        num_warps=8 if half else 4,
        num_stages=1,
    )
    low, step, wide = numbers
    basis = dict(low=low, step=step, wide=wide, C=x.shape[1], COUNT=count, KIND=kind, ORDER=order)
    return dict(
        **basis, rows=x.shape[0], units=units, **tile_shape(f"basis_linear.{part}", x, sizes, **tiles), **math_of(x)
    )


@operation
def sum_curves(
    x: Tensor, weight: Tensor, knots: Tensor | None, numbers: Sequence[float], kind: str, order: int
) -> Tensor:
    """y [rows, units] for x [rows, channels] and weight [functions, channels, units]."""
    call, y = basis_call("forward", x, weight, numbers, kind, order), x.new_empty(x.shape[0], weight.shape[2])
    grid = triton.cdiv(x.shape[0], call["ROWS"]), triton.cdiv(weight.shape[2], call["SOME"])
    basis_forward[grid](x, weight, y, knots, **call)
    return y


@sum_curves.register_fake
def sum_curves_like(
    x: Tensor, weight: Tensor, knots: Tensor | None, numbers: Sequence[float], kind: str, order: int
) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[2])


@operation
def sum_curves_backward(
    grad: Tensor, x: Tensor, weight: Tensor, knots: Tensor | None, numbers: Sequence[float], kind: str, order: int
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the weight; torch adds what programs have summed."""
    call, grad, grad_x = basis_call("backward", x, weight, numbers, kind, order), grad.contiguous(), torch.empty_like(x)
    steps, pieces = triton.cdiv(x.shape[0], call["ROWS"]), triton.cdiv(x.shape[1], call["CHANNELS"])
    basis_backward_inputs[steps, pieces](grad, x, weight, grad_x, knots, **call)
    pieces *= triton.cdiv(weight.shape[2], call["SOME"])
    each = triton.cdiv(steps, max(1, BASIS_PROGRAMS // (pieces * weight.shape[0])))
    sums = weight.new_empty(triton.cdiv(steps, each), *weight.shape, dtype=torch.float32)
    basis_backward_weights[pieces, weight.shape[0], sums.shape[0]](grad, x, sums, knots, each=each, **call)
    return grad_x, sums.sum(0).to(weight.dtype)


@sum_curves_backward.register_fake
def sum_curves_backward_like(
    grad: Tensor, x: Tensor, weight: Tensor, knots: Tensor | None, numbers: Sequence[float], kind: str, order: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


def sum_curves_keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.given = inputs[3:]


def sum_curves_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *sum_curves_backward(grad, *ctx.saved_tensors, *ctx.given), None, None, None, None


sum_curves.register_autograd(sum_curves_gradients, setup_context=sum_curves_keep)


def triton_basis_linear(x: Tensor, weight: Tensor, basis: Callable[..., Tensor], *given: Any) -> Tensor:
    """`basis_linear` by kernels."""
    if not runs(x, weight) or not x.numel():
        return basis_linear(x, weight, basis, *given)
    knots, numbers, order = basis_given(basis, given)
    rows, weight = alike(x.reshape(-1, x.shape[-1]), weight)
    turned = weight.unflatten(1, (x.shape[-1], -1)).permute(2, 1, 0).contiguous()
    y = sum_curves(rows.contiguous(), turned, knots, numbers, basis.__name__, order)
    return y.view(*x.shape[:-1], weight.shape[0])


class Kan(nn.Module):
    """y_u = sum over c of f_uc(x_c), f_uc(z) = base_uc act(z) + sum over k of spline_uck g_k(z)
    (Liu et al., ICLR 2025). The values of the basis g are features, of which one linear map makes all sums.

    With `scaled`, each curve has a factor of its own. FastKAN: `basis = layer_norm -> rbf, bias = true`.
    FasterKAN: `basis = layer_norm -> rswaf, base = none`.
    Chebyshev KAN: `basis = tanh -> chebyshev, base = none`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.basis = BSpline(4)
        self.spline = nn.Linear(32, 5, bias=False)
        self.spline.weight = nn.Parameter(nn.init.uniform_(torch.empty(5, 32), -0.01, 0.01))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return triton_basis_linear(x, self.spline.weight, cox_de_boor, self.basis.grid, 3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Kan()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2 or x.shape[1] != 4:
            raise ValueError(f"x must be [b, c = 4], and is {list(x.shape)}")
        return self.layer(x)

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
