# Made by archlang 0.1.0 from decode.arch (sha256 aa390664e53f2aa3): net

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


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    drop: float = 0.0,
    scale: float | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    logit_mix: Tensor | None = None,
    weight_mix: Tensor | None = None,
) -> Tensor:
    """score(cap * tanh(scale * q k^T / cap) + bias) v over [.., heads, places, c]: softmax where no score is given.
    `mask` is a bool or the bias; `sink` [heads, 1, 1] is one more logit to be divided by; the mixes [heads, heads] are
    applied to logits and weights.
    """
    logits = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if cap is not None:
        logits = cap * (logits / cap).tanh()
    if logit_mix is not None:
        logits = (logits.movedim(-3, -1) @ logit_mix).movedim(-1, -3)
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
    if score is not None:
        weights = score(logits)
    else:
        top = logits.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(logits.dtype).min)
        top = top if sink is None else top.maximum(sink.detach())
        weights = (logits - top).exp()
        total = weights.sum(-1, keepdim=True)
        weights = weights / (total + (total == 0) if sink is None else total + (sink - top).exp())
    if weight_mix is not None:
        weights = (weights.movedim(-3, -1) @ weight_mix).movedim(-1, -3)
    return (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v


def decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Attention of one query a head, q [batch, heads, c], to all of k and v [batch, places, shared, c], each head of
    which serves the queries of several: these are rows of one product. `bias` and `mask` [batch, heads, 1, places] may
    have size 1 along batch and heads; `cap` bounds the scaled products, `sink` [heads, 1, 1] is one more logit to be
    divided by; a `score` stands for softmax.
    """
    group = max(1, q.shape[1] // max(k.shape[2], v.shape[2]))

    def grouped(x: Tensor) -> Tensor:
        """[.., heads, 1, n] -> [.., shared, group, n]"""
        return x if x.shape[-3] == 1 else x.squeeze(-2).unflatten(-2, (-1, group))

    if bias is not None and mask is not None:
        mask = torch.where(mask, bias, float("-inf"))
    seen = bias if mask is None else mask
    out = scored_attention(
        q.unflatten(1, (-1, group)),
        k.transpose(1, 2),
        v.transpose(1, 2),
        seen if seen is None else grouped(seen),
        scale=scale,
        score=score,
        cap=cap,
        sink=sink if sink is None or sink.ndim == 0 else grouped(sink),
    )
    return out.flatten(1, 2)


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


DECODE_PROGRAMS = 512  # at least so many, where there are as many keys


@jit
def decode_attention_part(
    q,
    k,
    v,
    mask,
    value_out,
    top_out,
    total_out,
    scale,
    cap,
    places,
    shared,
    group,
    each,
    q_strides,
    k_strides,
    v_strides,
    mask_strides,
    ROWS: tl.constexpr,
    SOME: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The queries that share a head of keys, against one part of these: the largest logit, and sums from it."""
    at, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    batch, own = at // shared, at % shared
    k += batch * k_strides[0] + own * k_strides[2]
    v += batch * v_strides[0] + own * v_strides[2]
    row = tl.arange(0, ROWS)
    here, head = row < group, own * group + row
    q_tile = map_load(q + batch * q_strides[0], head, q_strides[1], here, C, CHANNELS)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    value = tl.zeros([ROWS, VALUES], tl.float32)
    for start in range(part * each, tl.minimum((part + 1) * each, places), SOME):
        key = start + tl.arange(0, SOME)
        there = key < places
        k_tile = map_load(k, key, k_strides[1], there, C, CHANNELS)
        v_tile = map_load(v, key, v_strides[1], there, D, VALUES)
        seen = here[:, None] & there[None, :]
        logits = product(q_tile, tl.trans(k_tile), PRECISION, WIDEN) * scale
        if cap is not None:
            logits = cap * (2.0 * tl.sigmoid(2.0 * logits / cap) - 1.0)  # tanh
        if mask is not None:
            spot = (
                batch * mask_strides[0] + head[:, None] * mask_strides[1] + key.to(tl.int64)[None, :] * mask_strides[2]
            )
            seen &= tl.load(mask + spot, mask=seen, other=0) != 0
        logits = tl.where(seen, logits, float("-inf"))
        weights, kept, top, total = softmax_weights(logits, top, total)
        value = value * kept[:, None] + product(weights.to(v_tile.dtype), v_tile, PRECISION, WIDEN)
    store, column = (at * group + row) * parts + part, tl.arange(0, VALUES)
    tl.store(top_out + store, top, mask=here)
    tl.store(total_out + store, total, mask=here)
    tl.store(value_out + store[:, None] * D + column[None, :], value, mask=here[:, None] & (column < D)[None, :])


@jit
def decode_attention_sum(
    value_in, top_in, total_in, sink, out, heads, parts, PARTS: tl.constexpr, D: tl.constexpr, VALUES: tl.constexpr
):
    """The parts of one query, from the largest logit of all."""
    at = tl.program_id(0).to(tl.int64)
    part, column = tl.arange(0, PARTS), tl.arange(0, VALUES)
    here = part < parts
    tops = tl.load(top_in + at * parts + part, mask=here, other=float("-inf"))
    top = tl.max(tops, 0)
    if sink is not None:
        top = tl.maximum(top, tl.load(sink + at % heads).to(tl.float32))
    base = tl.where(top == float("-inf"), 0.0, top)  # where nothing is seen
    share = tl.exp(tops - base)
    total = tl.sum(share * tl.load(total_in + at * parts + part, mask=here, other=0.0), 0)
    if sink is not None:  # a key without a value
        total += tl.exp(tl.load(sink + at % heads).to(tl.float32) - base)
    spot = (at * parts + part)[:, None] * D + column[None, :]
    values = tl.load(value_in + spot, mask=here[:, None] & (column < D)[None, :], other=0.0)
    value = tl.sum(share[:, None] * values, 0) / tl.where(total > 0, total, 1.0)
    tl.store(out + at * D + column, value.to(out.dtype.element_ty), mask=column < D)


@operation
def attend_once(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    sink: Tensor | None,
    cap: float,
    scale: float,
) -> Tensor:
    """The output, [batch, heads, c]. There are as many parts as keep a GPU busy, of two tiles at least."""
    (batch, heads, c), (places, shared, d) = q.shape, v.shape[1:]
    half, wide = q.element_size() == 2, max(c, d) > 128
    group = heads // shared
    shipped = dict(SOME=(64 if half else 32) // (1 + wide), num_warps=8 if wide else 4, num_stages=2)
    shape = tile_shape("decode_attention.parts", q, dict(c=c, d=d, group=group), **shipped)
    tiles = triton.cdiv(places, shape["SOME"])
    parts = max(1, min(DECODE_PROGRAMS // (batch * shared), tiles // 2, 64))
    each = triton.cdiv(tiles, parts) * shape["SOME"]
    parts = max(1, triton.cdiv(places, each))
    value, top, total = (q.new_empty(batch, heads, parts, width, dtype=torch.float32) for width in (d, 1, 1))
    out = q.new_empty(batch, heads, d)
    decode_attention_part[batch * shared, parts](
        q,
        k,
        v,
        mask=mask,
        mask_strides=None if mask is None else mask.stride(),
        cap=cap or None,
        value_out=value,
        top_out=top,
        total_out=total,
        scale=scale,
        places=places,
        shared=shared,
        group=group,
        each=each,
        q_strides=q.stride()[:2],
        k_strides=k.stride()[:3],
        v_strides=v.stride()[:3],
        ROWS=tile(group),
        C=c,
        CHANNELS=tile(c),
        D=d,
        VALUES=tile(d),
        **math_of(q),
        **shape,
    )
    decode_attention_sum[(batch * heads,)](
        value, top, total, sink, out, heads, parts, PARTS=tile(parts, 1), D=d, VALUES=tile(d, 1)
    )
    return out


@attend_once.register_fake
def attend_once_like(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    sink: Tensor | None,
    cap: float,
    scale: float,
) -> Tensor:
    return q.new_empty(*q.shape[:2], v.shape[-1])


def attend_once_keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.given = inputs[6:]


def attend_once_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Those of the PyTorch form in float32: a step that writes a token asks for none."""
    pairs = list(zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False))
    kept = [
        x.detach().float().requires_grad_(needed) if x is not None and x.is_floating_point() else x
        for x, needed in pairs
    ]
    leaves = [x for x in kept if x is not None and x.requires_grad]
    q, k, v, bias, mask, sink = kept
    cap, scale = ctx.given
    with torch.enable_grad():
        bias = bias if bias is None else bias[:, :, None]
        mask = mask if mask is None else mask[:, :, None] != 0
        sink = sink if sink is None else sink[:, None, None]
        y = decode_attention(q, k, v, bias, mask, scale, cap or None, sink)
        grads = iter(torch.autograd.grad(y, leaves, grad.float()))
    found = [next(grads).to(x.dtype) if needed else None for x, needed in pairs]
    return *found, *[None] * len(ctx.given)


attend_once.register_autograd(attend_once_gradients, setup_context=attend_once_keep)


def triton_decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """`decode_attention` by kernels."""
    tensors, shared = (q, k, v, bias, sink), max(k.shape[2], v.shape[2])
    channels, group = (128, 32) if alike(q, k, v)[0].dtype == torch.float32 else (256, 64)
    large = max(q.shape[-1], v.shape[-1]) > channels or q.shape[1] > group * shared
    if not runs(*tensors) or large or not q.numel() * k.numel() * v.numel():
        return decode_attention(q, k, v, bias, mask, scale, cap, sink, score)
    q, k, v = (dense(x) for x in alike(q, k, v))
    batch, heads = max(q.shape[0], k.shape[0], v.shape[0]), max(q.shape[1], shared)
    q = q.expand(batch, heads, -1)
    k, v = (x.expand(batch, -1, shared, -1) for x in (k, v))
    if bias is not None:
        bias = bias.expand(batch, heads, 1, k.shape[1]).squeeze(2)
    if mask is not None:
        mask = mask.to(torch.uint8).expand(batch, heads, 1, k.shape[1]).squeeze(2)
    if sink is not None:
        sink = sink.flatten().expand(heads).contiguous()
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return attend_once(q, k, v, bias, mask, sink, cap or 0.0, scale)


class Net(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        if q.ndim != 4 or q.shape[1] != 2 or q.shape[2] != 4:
            raise ValueError(f"q must be [b, heads = 2, group = 4, c], and is {list(q.shape)}")
        if k.ndim != 4 or k.shape[2] != 2:
            raise ValueError(f"k must be [b, m: space, heads = 2, c], and is {list(k.shape)}")
        if there.ndim != 2:
            raise ValueError(f"there must be bool[b, m:space], and is {list(there.shape)}")
        b, _, _, c = q.shape
        m = k.shape[1]
        if k.shape[0] != b:
            raise ValueError(f"axis b of k must be b = {b}, and is {k.shape[0]}")
        if k.shape[3] != c:
            raise ValueError(f"axis c of k must be c = {c}, and is {k.shape[3]}")
        if there.shape[0] != b:
            raise ValueError(f"axis b of there must be b = {b}, and is {there.shape[0]}")
        if there.shape[1] != m:
            raise ValueError(f"axis m of there must be m = {m}, and is {there.shape[1]}")
        y = triton_decode_attention(
            q.flatten(1, 2), k, k, mask=there[:, None, None], cap=2.0, sink=torch.tensor(0.5, device=q.device)
        )
        return y.unflatten(1, (2, 4))

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
