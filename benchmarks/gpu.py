"""Kernels on this GPU: their numbers against float64, and their time against the best that is there, in one run.

    python benchmarks/gpu.py [--kernels linear_recurrence ...] [--write benchmarks/results/h200.md]

A case is a program and the sizes at which it is timed, in bfloat16. Its rivals are the PyTorch form, the same through
`torch.compile`, and what others offer for it: SDPA, flex_attention, flash-linear-attention, where they are installed.
A ratio is (rival / kernel) of the median time: above 1, the kernel is faster. The share is that of the time in which
inputs and outputs could be copied once (three times for both passes) at the speed of a copy on this device.

Values and gradients are first compared with the PyTorch form in float64, at small sizes; the program ends with 1 if
one of them differs by more than the dtype allows, and with 2 where there is no GPU.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from report import machine, publish, table
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import archlang  # noqa: E402
from archlang.testing.networks import random_inputs  # noqa: E402

Run = Callable[..., Any]
Rival = Callable[..., Run | None]  # from the inputs, None where it is not installed or does not serve
ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # of the largest value


@dataclass(frozen=True, slots=True)
class Case:
    """A program for one kernel, the sizes at which it is timed, smaller ones for its numbers, and rivals."""

    kernel: str
    name: str
    program: str
    sizes: Mapping[str, int]
    small: Mapping[str, int]
    settings: Mapping[str, Any] = field(default_factory=dict)
    few: Mapping[str, Any] = field(default_factory=dict)  # settings where the numbers are compared
    rivals: Mapping[str, Rival] = field(default_factory=dict)
    uses: str = ""  # what the program takes from elsewhere

    def network(self, small: bool = False) -> Any:
        return archlang.loads(f"{self.uses}model net{self.program}").net(**(self.few if small else self.settings))


# ---- what others offer
def sdpa_in_windows(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Run:
    """Windows of 7 x 7 cut out, SDPA with the bias, and put together."""

    def cut(x: Tensor) -> Tensor:
        b, h, w, heads, c = x.shape
        cells = x.view(b, h // 7, 7, w // 7, 7, heads, c).permute(0, 1, 3, 5, 2, 4, 6)
        return cells.reshape(-1, heads, 49, c)

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        b, h, w, heads, c = q.shape
        y = F.scaled_dot_product_attention(cut(q), cut(k), cut(v), attn_mask=bias)
        return y.view(b, h // 7, w // 7, heads, 7, 7, c).permute(0, 1, 4, 2, 5, 3, 6).reshape(q.shape)

    return run


def flex_near(q: Tensor, k: Tensor, v: Tensor) -> Run:
    """flex_attention over the last 256 positions, compiled."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length = q.shape[1]
    seen = lambda b, h, i, j: (i >= j) & (i - j < 256)  # noqa: E731
    mask, core = create_block_mask(seen, None, None, length, length, device=q.device), torch.compile(flex_attention)
    return lambda q, k, v: core(*(x.transpose(1, 2) for x in (q, k, v)), block_mask=mask).transpose(1, 2)


def _fla(name: str, **fixed: Any) -> Rival:
    """A function of flash-linear-attention."""

    def rival(*inputs: Tensor) -> Run | None:
        try:
            from fla import ops
        except ImportError:
            return None
        function = getattr(ops, name)
        return lambda *given: function(*given, **fixed)[0]

    return rival


QKV = "input q: [b, t, heads, c]\n  input k: [b, t, heads, c]\n  input v: [b, t, heads, c]"
LONG = {"b": 4, "t": 8192, "heads": 16, "c": 128}
SHORT = {"b": 2, "t": 100, "heads": 2, "c": 32}
CASES = [
    Case(
        "window_attention",
        "windows of 7 x 7 with a bias",
        """ {
  input q: [b, h, w, heads, c]
  input k: [b, h, w, heads, c]
  input v: [b, h, w, heads, c]
  input bias: [heads, query = 49, key = 49]
  output y = attend(q, k, v, bias = bias, over = windows(7))
}""",
        {"b": 128, "h": 56, "w": 56, "heads": 3, "c": 32},
        {"b": 2, "h": 14, "w": 7, "heads": 2, "c": 32},
        rivals={"SDPA": sdpa_in_windows},
    ),
    Case(
        "near_attention",
        "the last 256 positions",
        f" {{\n  {QKV}\n  output y = attend(q, k, v, over = causal & sliding(256))\n}}",
        {"b": 4, "t": 8192, "heads": 16, "c": 64},
        SHORT,
        rivals={"flex_attention": flex_near},
    ),
    Case(
        "near_attention",
        "documents of 90, sigmoids under a cap",
        f" {{\n  {QKV}\n  doc = cast(floor(index(t = t) / 90), int)\n"
        "  output y = attend(q, k, v, score = sigmoid, cap = 30, segments = doc, over = causal & sliding(256))\n}",
        {"b": 4, "t": 8192, "heads": 16, "c": 64},
        SHORT,
    ),
    Case(
        "decode_attention",
        "a query and 8192 keys, 4 heads share them",
        """ {
  input q: [b, heads, group = 4, c]
  input k: [b, m: space, heads, c]
  input v: [b, m: space, heads, c]
  output y = attend(q, k, v, cap = 30, sink = 0.5)
}""",
        {"b": 8, "m": 8192, "heads": 8, "c": 128},
        {"b": 2, "m": 300, "heads": 2, "c": 32},
    ),
    Case(
        "linear_recurrence",
        "GLA",
        f" {{\n  {QKV}\n  input gate: [b, t, heads, c]\n"
        "  output y = linear_recurrence(q, k, v, log_decay = -softplus(gate) / 16, scale = 0.088388)\n}",
        LONG,
        SHORT,
        rivals={"fla": lambda *_: _gla()},
    ),
    Case(
        "delta_rule",
        "DeltaNet",
        f" {{\n  {QKV}\n  input beta: [b, t, heads]\n"
        "  output y = linear_recurrence(q, l2_norm(k), v, beta = sigmoid(beta))\n}",
        LONG,
        SHORT,
        rivals={"fla": lambda *_: _delta()},
    ),
    Case(
        "delta_rule",
        "Kimi Delta Attention",
        f" {{\n  {QKV}\n  input beta: [b, t, heads]\n  input gate: [b, t, heads, c]\n"
        "  output y = linear_recurrence(q, l2_norm(k), v, beta = sigmoid(beta), log_decay = -softplus(gate) / 16)\n}",
        LONG,
        SHORT,
    ),
    Case(
        "recurrence_steps",
        "Gated DeltaNet, one position",
        f" {{\n  {QKV.replace('t,', 't = 1,')}\n  input beta: [b, t = 1, heads]\n  input gate: [b, t = 1, heads]\n"
        "  input start: [b, heads, c, c_value = c]\n"
        "  o, S = linear_recurrence(q, k, v, beta = sigmoid(beta), log_decay = -softplus(gate),\n"
        "    start = start, final = true)\n"
        "  output y = o\n  output state = S\n}",
        {"b": 64, "heads": 16, "c": 128},
        {"b": 2, "heads": 2, "c": 32},
    ),
    Case(
        "selective_scan",
        "Mamba, one position",
        "(dim: int) {\n  input u: [b, t = 1, c = dim]\n  input dt: [b, t = 1, c = dim]\n"
        "  input write: [b, t = 1, state = 16]\n  input read: [b, t = 1, state = 16]\n"
        "  input start: [b, c = dim, state = 16]\n  param a: [c = dim, state = 16] = -1\n"
        "  o, h = selective_scan(u, softplus(dt), a, write, read, start = start, final = true)\n"
        "  output y = o\n  output states = h\n}",
        {"b": 64},
        {"b": 2},
        settings={"dim": 4096},
        few={"dim": 40},
    ),
    Case(
        "group_rational",
        "rational activations in 8 groups",
        "(dim: int) {\n  input x: [b, n, c = dim]\n  output y = x -> rational(8) as act\n}",
        {"b": 64, "n": 196},
        {"b": 2, "n": 17},
        settings={"dim": 3072},
        few={"dim": 48},
    ),
    Case(
        "basis_curve",
        "cubic splines",
        "(dim: int) {\n  input x: [b, n, c = dim]\n  param weight: [c = dim, term = 8] = 0.1\n"
        "  output y = dot(x -> bspline as basis, weight, on = term)\n}",
        {"b": 64, "n": 196},
        {"b": 2, "n": 17},
        settings={"dim": 768},
        few={"dim": 20},
    ),
    Case(
        "basis_linear",
        "cubic splines",
        "(dim: int) {\n  input x: [b, n, c = dim]\n"
        "  output y = x -> bspline as basis -> linear([c = dim], on = [c, term], bias = false) as curves\n}",
        {"b": 64, "n": 196},
        {"b": 2, "n": 17},
        settings={"dim": 384},
        few={"dim": 20},
    ),
    Case(
        "grouped_linear",
        "64 experts of SwiGLU, 6 a token",  # drawn inputs are whole numbers below 4: the digits of an expert
        "(dim: int, hidden: int, top: int) {\n  input x: [b, t, c = dim]\n  input weight: [b, t, route = top]\n"
        "  input digits: int[b, t, route = top, digit = 3]\n"
        "  index = digits[digit = 0] + 4 * digits[digit = 1] + 16 * digits[digit = 2]\n"
        "  experts = [swiglu(hidden) for e in range(64)]\n"
        "  output y = mixture(x, index, weight, layers = experts, on = route) as experts\n}",
        {"b": 4, "t": 4096},
        {"b": 2, "t": 17},
        settings={"dim": 2048, "hidden": 1408, "top": 6},
        few={"dim": 48, "hidden": 40, "top": 2},
        uses="use std.ffn: swiglu\n",
    ),
    Case(
        "linear_cross_entropy",
        "32,000 classes",
        "(dim: int) {\n  input x: [b, t, c = dim]\n  input next: int[b, t]\n"
        "  output y = cross_entropy(x -> linear(32000, bias = false) as head, next)\n}",
        {"b": 4, "t": 2048},
        {"b": 2, "t": 17},
        settings={"dim": 2048},
        few={"dim": 48},
    ),
    Case(
        "causal_conv",
        "4 taps and silu",
        "(dim: int) {\n  input x: [b, t, c = dim]\n  output y = x -> depthwise(4) as conv -> silu\n}",
        {"b": 4, "t": 4096},
        {"b": 2, "t": 33},
        settings={"dim": 4096},
        few={"dim": 40},
    ),
    Case(
        "wide_depthwise",
        "7 x 7 of each channel",
        "(dim: int) {\n  input x: [b, h, w, c = dim]\n  output y = x -> depthwise(7) as conv\n}",
        {"b": 64, "h": 28, "w": 28},
        {"b": 1, "h": 9, "w": 14},
        settings={"dim": 384},
        few={"dim": 20},
    ),
    Case(
        "scan",
        "IndRNN",
        "(dim: int) {\n  input x: [b, t, c = dim]\n  param weight: [c = dim] = 0.5\n"
        "  output y = scan t carry h: [b, c = dim] = 0 {\n    h = relu(x + weight * h)\n    yield h\n  }\n}",
        {"b": 16, "t": 2048},
        {"b": 2, "t": 70},
        settings={"dim": 2048},
        few={"dim": 48},
    ),
    Case(
        "chain",
        "residual, rms_norm and gate",
        "(dim: int) {\n  input x: [b, t, c = dim]\n  input h: [b, t, c = dim]\n  input gate: [b, t, c = dim]\n"
        "  output y = silu(gate) * ((x + h) -> rms_norm as norm)\n}",
        {"b": 8, "t": 4096},
        {"b": 2, "t": 17},
        settings={"dim": 2048},
        few={"dim": 48},
    ),
]


def _gla() -> Run | None:
    function = _fla("chunk_gla")()
    return function and (lambda q, k, v, gate: function(q, k, v, -F.softplus(gate) / 16))


def _delta() -> Run | None:
    function = _fla("chunk_delta_rule", scale=1.0)()
    return function and (lambda q, k, v, beta: function(q, F.normalize(k, dim=-1), v, beta.sigmoid()))


# ---- numbers
def errors(case: Case, device: str) -> Iterator[tuple[str, torch.dtype, float]]:
    """The largest error of a value and of a gradient, relative to the largest of each, by dtype."""
    network = case.network(small=True)
    plain, fused = (network.module(seed=0, target=target) for target in ("torch", "triton"))
    random = torch.Generator().manual_seed(2)
    for ours, theirs in zip(fused.parameters(), plain.parameters(), strict=True):  # some start as nothing
        ours.data += torch.randn(ours.shape, generator=random) / 8
        theirs.data.copy_(ours.data)
    plain, fused = plain.to(device), fused.to(device)
    for kind in ALLOWED:
        given = [single(x, kind).to(device) for x in random_inputs(network, case.small).values()]
        wide = [single(x, torch.float64) for x in given]
        meant, found = results(plain.to(kind).double(), wide), results(fused.to(kind), given)
        for what, a, b in zip(("values", "gradients"), found, meant, strict=True):
            pairs = zip(a, b, strict=True)
            yield what, kind, max(float((x - y).abs().max() / y.abs().max().clamp(min=0.1)) for x, y in pairs)


def single(x: Tensor, kind: torch.dtype) -> Tensor:
    """Numbers in a dtype, and places and classes as they are."""
    return x.to(kind) if x.is_floating_point() else x


def results(module: torch.nn.Module, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs, and the gradients of inputs and weights for one fixed slope of them, in float64."""
    given = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
    made, leaves, random = (
        listed(module(*given)),
        [x for x in given if x.requires_grad],
        torch.Generator().manual_seed(1),
    )
    slopes = [torch.randn(y.shape, generator=random, dtype=torch.float64).to(y) for y in made]
    grads = torch.autograd.grad(made, [*leaves, *module.parameters()], slopes)
    return [y.detach().double() for y in made], [g.double() for g in grads]


def listed(made: Any) -> list[Tensor]:
    """What a network gives: one tensor, or several."""
    return [made] if isinstance(made, Tensor) else list(made)


# ---- time
def milliseconds(run: Run, inputs: Sequence[Tensor], leaves: Sequence[Tensor], train: bool) -> float:
    """The median of a call, with caches flushed before each."""
    from triton.testing import do_bench

    with torch.set_grad_enabled(train):
        slopes = [torch.randn_like(y) for y in listed(run(*inputs))] if train else []
        once = (
            (lambda: torch.autograd.grad(listed(run(*inputs)), leaves, slopes, allow_unused=True))
            if train
            else (lambda: run(*inputs))
        )
        return float(do_bench(once, quantiles=[0.5]))


def copy_speed() -> float:
    """Bytes a millisecond that a copy reads and writes."""
    x = torch.empty(2**28, device="cuda", dtype=torch.int32)
    return 2 * x.nbytes / milliseconds(lambda x: x.clone(), [x], [], False)


def runs(case: Case, inputs: Sequence[Tensor]) -> tuple[dict[str, Run], list[Tensor]]:
    """What is timed, the kernel first, and the weights, which all forms share."""
    network = case.network()
    fused, plain = (network.module(seed=0, target=target).cuda().bfloat16() for target in ("triton", "torch"))
    plain.load_state_dict(fused.state_dict())
    for name, weight in fused.named_parameters():
        owner, _, leaf = name.rpartition(".")
        setattr(plain.get_submodule(owner), leaf, weight)
    others = {name: rival(*inputs) for name, rival in case.rivals.items()}
    found = {"kernel": fused, "PyTorch": plain, "torch.compile": torch.compile(plain)}
    return {**found, **{name: run for name, run in others.items() if run}}, list(fused.parameters())


def rows(case: Case, speed: float) -> Iterator[list[str]]:
    """A row for the forward pass and one for both, each with the best rival."""
    network = case.network()
    made = [single(x, torch.bfloat16).cuda() for x in random_inputs(network, case.sizes).values()]
    inputs = [x.requires_grad_(x.is_floating_point()) for x in made]
    found, weights = runs(case, inputs)
    moved = sum(x.nbytes for x in (*inputs, *listed(found["kernel"](*inputs))))
    for train in (False, True):
        times, leaves = {}, [x for x in inputs if x.requires_grad]
        for name, run in found.items():
            own = [*leaves, *weights] if name in ("kernel", "PyTorch", "torch.compile") else leaves
            times[name] = milliseconds(run, inputs, own, train)
        least = moved * (3 if train else 1) / speed
        ratios = [f"{times[name] / times['kernel']:.2f}" if name in times else "-" for name in RIVALS]
        share = f"{100 * least / times['kernel']:.0f} %"
        yield [case.kernel, case.name, "both" if train else "forward", f"{times['kernel']:.3f}", *ratios, share]


RIVALS = ("PyTorch", "torch.compile", "SDPA", "flex_attention", "fla")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kernels = sorted({case.kernel for case in CASES})
    parser.add_argument("--kernels", nargs="+", default=kernels, choices=kernels)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py needs a CUDA GPU, and torch finds none here", file=sys.stderr)
        return 2
    chosen, wrong, lines = [case for case in CASES if case.kernel in given.kernels], False, []
    for case in chosen:
        for what, kind, error in errors(case, "cuda"):
            wrong |= not error <= ALLOWED[kind]
            lines.append([case.kernel, case.name, what, str(kind).removeprefix("torch."), f"{error:.1e}"])
    numbers = table(["kernel", "case", "what", "dtype", "error"], lines)
    head = ["kernel", "case", "pass", "ms", *(f"{rival} / kernel" for rival in RIVALS), "share"]
    speed = copy_speed()
    timed = table(head, [row for case in chosen for row in rows(case, speed)])
    about = f"{torch.cuda.get_device_name()}, {machine('torch', 'triton')}, bfloat16, copies at {speed / 1e9:.2f} TB/s"
    publish(f"{about}\n\n{numbers}\n\n{timed}", given.write)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
