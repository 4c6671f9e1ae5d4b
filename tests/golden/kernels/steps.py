# Made by archlang 0.1.0 from steps.arch (sha256 82c53c3722bbbce3): net

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


def recurrence_steps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None = None,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """S_t = (I - beta_t k_t k_t^T) (exp(log_decay_t) * S_{t-1}) + beta_t k_t v_t^T, o_t = scale * q_t S_t with
    q, k: [.., t, c], v: [.., t, d], beta: [.., t, 1] and log_decay: [.., t, c, d], where c and d may be 1; from S_0 =
    `start` [.., c, d], or from 0; with `final` also the last S, in the dtype of `start`.
    """
    length, dtype = q.shape[-2], torch.promote_types(q.dtype, torch.float32)
    queries, keys, values = (q * scale).to(dtype)[..., None, :], k.to(dtype)[..., None], v.to(dtype)[..., None, :]
    decay = None if log_decay is None else log_decay.to(dtype).exp().expand(*log_decay.shape[:-3], length, -1, -1)
    zero = values.new_zeros(k.shape[-1], v.shape[-1])
    state, kind = (zero, v.dtype) if start is None else (start.to(dtype), start.dtype)
    given = (state, queries[..., 0], keys[..., 0], values[..., 0], beta, None if decay is None else decay[..., 0])
    state = state.expand(*torch.broadcast_shapes(*(x.shape[:-2] for x in given if x is not None)), *zero.shape)
    outputs = []
    for t in range(length):
        if decay is not None:
            state = state * decay[..., t, :, :]
        key, value = keys[..., t, :, :], values[..., t, :, :]
        if beta is not None:
            value = (value - key.mT @ state) * beta[..., t, :, None]
        state = torch.addcmul(state, key, value)
        outputs.append(queries[..., t, :, :] @ state)
    y = torch.cat(outputs, -2).to(v.dtype)
    return (y, state.to(kind)) if final else y


STEP_PROGRAMS = 264  # two for each processor of a large GPU: states are cut into columns until there are so many


@jit
def step_load(x, at, heads, row, column, WIDTH: tl.constexpr):
    """One row of one head of x, a tensor with its strides; 0 beyond it."""
    places = x[0] + at // heads * x[1] + at % heads * x[2] + row * x[3] + column
    return tl.load(places, mask=column < WIDTH, other=0.0).to(tl.float32)


@jit
def step_decay(g, at, heads, row, key, value, C: tl.constexpr, D: tl.constexpr, DECAY: tl.constexpr):
    """What is kept of each pair of channels: one number where DECAY is 1, one a key where it is 2, else one a pair."""
    places = g[0] + at // heads * g[1] + at % heads * g[2] + row * g[3]
    if DECAY == 1:
        log = tl.load(places + tl.zeros([1, 1], tl.int32))
    elif DECAY == 2:
        log = tl.load(places + key * g[4], mask=key < C, other=0.0)[:, None]
    else:
        here = (key < C)[:, None] & (value < D)[None, :]
        log = tl.load(places + key[:, None] * g[4] + value[None, :] * g[5], mask=here, other=0.0)
    return tl.exp(log.to(tl.float32))


@jit
def step_forward(
    q,
    k,
    v,
    b,
    g,
    start,
    out,
    last,
    scale,
    heads,
    length,
    C: tl.constexpr,
    D: tl.constexpr,
    DECAY: tl.constexpr,
    CHANNELS: tl.constexpr,
    VALUES: tl.constexpr,
):
    """Some columns of the outputs of one head and of its last state, from a start where there is one."""
    at, key = tl.program_id(0).to(tl.int64), tl.arange(0, CHANNELS)
    value = tl.program_id(1) * VALUES + tl.arange(0, VALUES)
    state = tl.zeros([CHANNELS, VALUES], tl.float32)
    if start is not None:
        state += state_load(start, at, key, value, C, D).to(tl.float32)
    for row in range(0, length):
        read, write = step_load(q, at, heads, row, key, C)[:, None], step_load(k, at, heads, row, key, C)[:, None]
        new = step_load(v, at, heads, row, value, D)
        if DECAY > 0:
            state *= step_decay(g, at, heads, row, key, value, C, D, DECAY)
        if b is not None:
            new = (new - tl.sum(state * write, 0)) * step_load(b, at, heads, row, tl.zeros([1], tl.int32), 1)
        state += write * new[None, :]
        y = tl.sum(state * read, 0) * scale
        places = out[0] + at // heads * out[1] + at % heads * out[2] + row * out[3] + value
        tl.store(places, y.to(out[0].dtype.element_ty), mask=value < D)
    if last is not None:
        places, here = state_places(last, at, key, value, C, D)
        tl.store(places, state.to(last.dtype.element_ty), mask=here)


def step_call(k: Tensor, v: Tensor, g: Tensor | None) -> dict[str, Any]:
    """What the kernel is told; columns are as many as registers hold, and fewer where states are."""
    decay = 0 if g is None else 3 if g.shape[-1] > 1 else 2 if g.shape[-2] > 1 else 1
    channels, values = tile(k.shape[-1], 1), tile(v.shape[-1], 1)
    values = min(values, 32, max(4, 4096 // channels))
    while values > 8 and k.shape[0] * k.shape[1] * triton.cdiv(v.shape[-1], values) < STEP_PROGRAMS:
        values //= 2
    shape = dict(CHANNELS=channels, VALUES=values, num_warps=4 if channels * values > 512 else 1)
    return dict(heads=k.shape[1], length=k.shape[2], C=k.shape[-1], D=v.shape[-1], DECAY=decay, **shape)


@operation
def recur_by_steps(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor | None, g: Tensor | None, start: Tensor | None, scale: float, final: bool
) -> tuple[Tensor, Tensor]:
    """The outputs [b, heads, t, d] for q, k [b, heads, t, c], v [b, heads, t, d], b [b, heads, t, 1], g [b, heads, t, c or 1, d or 1]
    and a start [b, heads, c, d]; and the last state, in the dtype of the start, where it is `final`.
    """
    call, out, last = step_call(k, v, g), rows_of(v, v.shape[-1]), last_state_of(k, v, start, final)
    if call["DECAY"] == 3:
        g = g.expand(*g.shape[:3], k.shape[-1], v.shape[-1])
    decay = None if g is None else (g, *g.stride())
    grid = k.shape[0] * k.shape[1], triton.cdiv(v.shape[-1], call["VALUES"])
    step_forward[grid](
        laid(q), laid(k), laid(v), laid(b), decay, start, laid(out), last if final else None, scale, **call
    )
    return out, last


@recur_by_steps.register_fake
def recur_by_steps_like(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor | None, g: Tensor | None, start: Tensor | None, scale: float, final: bool
) -> tuple[Tensor, Tensor]:
    return rows_of(v, v.shape[-1]), last_state_of(k, v, start, final)


def recur_by_steps_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.scale, ctx.final = inputs[6:]


def recur_by_steps_gradients(ctx: Any, grad: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    """Those of the PyTorch form in float32: a step that writes a token asks for none."""
    pairs = list(zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False))
    kept = [None if x is None else x.detach().float().requires_grad_(needed) for x, needed in pairs]
    q, k, v, b, g, start = kept
    with torch.enable_grad():
        made = recurrence_steps(q, k, v, b, g, ctx.scale, start, final=ctx.final)
        slopes = (grad.float(), grad_last.float()) if ctx.final else (grad.float(),)
        leaves = [x for x in kept if x is not None and x.requires_grad]
        grads = iter(torch.autograd.grad(made, leaves, slopes, allow_unused=True, materialize_grads=True))
    found = [next(grads).to(x.dtype) if needed else None for x, needed in pairs]
    return *found, None, None


recur_by_steps.register_autograd(recur_by_steps_gradients, setup_context=recur_by_steps_keep)


def triton_recurrence_steps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None = None,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`recurrence_steps` by a kernel."""
    if not runs(q, k, v, beta, log_decay, start) or k.shape[-1] > 1024 or not k.numel() * v.numel():
        return recurrence_steps(q, k, v, beta, log_decay, scale, start, final)
    kind, length, q, k, v = v.dtype, k.shape[-2], *map(dense, alike(q, k, v))
    rows = [x for x in (q, k, v, beta, None if log_decay is None else log_decay[..., 0]) if x is not None]
    lead = torch.broadcast_shapes(*(x.shape[:-2] for x in (*rows, *([] if start is None else [start]))))
    q, k, v = (with_heads(lead, length, x) for x in (q, k, v))
    beta = None if beta is None else with_heads(lead, length, beta)
    if log_decay is not None:
        log_decay = with_heads(lead, length, log_decay.flatten(-2)).unflatten(-1, log_decay.shape[-2:])
    first = None if start is None else with_heads(lead, k.shape[-1], start).contiguous()
    out, last = recur_by_steps(q, k, v, beta, log_decay, first, scale, final)
    out = out.reshape(*lead, length, v.shape[-1]).to(kind)
    return (out, last.reshape(*lead, *last.shape[-2:]).to(kind if start is None else start.dtype)) if final else out


class Net(nn.Module):
    def forward(self, x: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.ndim != 4 or x.shape[1:] != (1, 2, 4):
            raise ValueError(f"x must be [b, t = 1, heads = 2, c = 4], and is {list(x.shape)}")
        if before.ndim != 4 or before.shape[1:] != (2, 4, 4):
            raise ValueError(f"before must be float32[b, heads = 2, c = 4, c_value = 4], and is {list(before.shape)}")
        b = x.shape[0]
        if before.shape[0] != b:
            raise ValueError(f"axis b of before must be b = {b}, and is {before.shape[0]}")
        beta = torch.sigmoid(x.sum(-1))
        decay = torch.sigmoid(x)
        y, after = triton_recurrence_steps(
            x.transpose(1, 2),
            x.transpose(1, 2),
            x.transpose(1, 2),
            beta=beta.transpose(1, 2)[:, :, :, None],
            log_decay=decay.clamp(min=1e-30).log().transpose(1, 2)[:, :, :, :, None],
            start=before,
            final=True,
        )
        return y.transpose(1, 2), after

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
