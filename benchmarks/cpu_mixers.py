"""Token mixers on this CPU: what archlang emits against one step after another and against what others run, in one run.

    python benchmarks/cpu_mixers.py [--mixers gla delta] [--lengths 2048 8192] [--train] [--write FILE]

A case is a function and its rivals, all on the same tensors. Rounds visit them in random order after one call that is
not counted; a ratio is the median over rounds of (rival / archlang): above 1, archlang is faster. Growth is time and
peak memory per position at 65,536 positions over those at 8,192: 1.0 is linear.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from report import machine, publish, table
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import archlang  # noqa: E402
from archlang.helpers.delta_rule import delta_rule  # noqa: E402
from archlang.helpers.linear_recurrence import linear_recurrence  # noqa: E402
from archlang.testing.memory import peak  # noqa: E402

Run = Callable[[], Tensor]
# Without these, glibc gives large blocks back at every free, and page faults are measured along with the mixer.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
ROUNDS, LONG = 5, (8192, 65536)
RIVALS = ("loop", "steps", "fla", "transformers")


@dataclass(frozen=True, slots=True)
class Case:
    """A mixer at one length: what archlang runs, what others run, and the leaves that have gradients."""

    ours: Run
    rivals: dict[str, Run]
    leaves: list[Tensor]


def loop(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None = None) -> Tensor:
    """One position after another, as it is written down: each takes its part of the tensors, which in the backward pass
    is a tensor of the whole length for every position.
    """
    state, outputs = q.new_zeros(*q.shape[:-2], q.shape[-1], v.shape[-1]), []
    for t in range(q.shape[-2]):
        query, key, value = q[..., t, None, :], k[..., t, :, None], v[..., t, None, :]
        state = state if log_decay is None else state * log_decay[..., t, :, None].exp()
        value = value if beta is None else (value - key.mT @ state) * beta[..., t, :, None]
        state = state + key * value
        outputs.append(query @ state)
    return torch.cat(outputs, -2)


def steps(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None = None) -> Tensor:
    """The same, without indexing in the loop."""
    state, outputs = q.new_zeros(*q.shape[:-2], q.shape[-1], v.shape[-1]), []
    decays = [None] * q.shape[-2] if log_decay is None else log_decay.exp()[..., None].unbind(-3)
    strengths = [None] * q.shape[-2] if beta is None else beta[..., None].unbind(-3)
    columns = (x.unbind(-3) for x in (q[..., None, :], k[..., None], v[..., None, :]))
    for query, key, value, decay, strength in zip(*columns, decays, strengths, strict=True):
        state = state if decay is None else state * decay
        value = value if strength is None else (value - key.mT @ state) * strength
        state = torch.addcmul(state, key, value)
        outputs.append(query @ state)
    return torch.cat(outputs, -2)


def recurrence(
    heads: int, keys: int, values: int, gate: int, delta: bool, peer: str = "", bounded: bool = False
) -> Callable[[int], Case]:
    """`linear_recurrence` with a decay of so many channels, and fla's function for chunks if there is one; `bounded` as
    the compiler has it where the text of a gate bounds the decay from below.
    """

    def case(length: int) -> Case:
        generator = torch.Generator().manual_seed(0)
        q, k, v = (torch.randn(1, heads, length, n, generator=generator) for n in (keys, keys, values))
        k = F.normalize(k, dim=-1)
        log_decay = F.logsigmoid(torch.randn(1, heads, length, gate, generator=generator)) / 16 if gate else None
        beta = torch.rand(1, heads, length, 1, generator=generator) if delta else None
        leaves = [x.requires_grad_() for x in (q, k, v, log_decay, beta) if x is not None]
        rivals: dict[str, Run] = {
            "loop": lambda: loop(q, k, v, log_decay, beta),
            "steps": lambda: steps(q, k, v, log_decay, beta),
        }
        if peer:
            rivals["fla"] = lambda: FLA[peer](q, k, v, log_decay, beta)
        if beta is not None:
            return Case(lambda: delta_rule(q, k, v, beta, log_decay, bounded=bounded), rivals, leaves)
        return Case(lambda: linear_recurrence(q, k, v, log_decay, bounded=bounded), rivals, leaves)

    return case


def _simple_gla(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: None) -> Tensor:
    from fla.ops.simple_gla.naive import naive_chunk_simple_gla as peer

    return peer(*(x.transpose(1, 2) for x in (q, k, v, log_decay[..., 0])), scale=1.0)[0]


def _delta(q: Tensor, k: Tensor, v: Tensor, log_decay: None, beta: Tensor) -> Tensor:
    from fla.ops.delta_rule.naive import delta_rule_chunkwise as peer

    return peer(q, k, v, beta[..., 0])[0]


def _gated_delta(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> Tensor:
    from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule as peer

    return peer(*(x.transpose(1, 2) for x in (q, k, v, log_decay[..., 0], beta[..., 0])))[0]


def mixer(name: str, config: str) -> Callable[[int], Case]:
    """The mixer of an example against the one of transformers, with the same weights, at the size of 130M weights."""

    def case(length: int) -> Case:
        import transformers

        network = archlang.load(ROOT / f"examples/{name}.arch").architecture(
            variant=f"{name}_130m", settings={"vocab": 64, "depth": 1}
        )
        sizes = {"vocab_size": 64, "hidden_size": 768, "num_hidden_layers": 1, "use_cache": False}
        more = {"state_size": 128, "num_heads": 24, "n_groups": 1} if name == "mamba2" else {"use_mambapy": False}
        peer = transformers.AutoModelForCausalLM.from_config(getattr(transformers, config)(**sizes, **more)).eval()
        module = network.module(seed=0).eval()
        peer.load_state_dict(network.map("transformers").save(module.state_dict()), strict=False)
        ours, theirs = module.layers[0].mixer, peer.backbone.layers[0].mixer
        x = torch.randn(1, length, 768, generator=torch.Generator().manual_seed(0), requires_grad=True)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
        return Case(lambda: ours(x), {"transformers": lambda: theirs(x)}, [x])

    return case


FLA: dict[str, Callable[..., Tensor]] = {"simple_gla": _simple_gla, "delta": _delta, "gated_delta": _gated_delta}
MIXERS: dict[str, Callable[[int], Case]] = {
    "linear attention": recurrence(4, 128, 256, 0, False),
    "simple gla": recurrence(4, 128, 256, 1, False, "simple_gla"),
    "gla": recurrence(4, 128, 256, 128, False),
    "gla, bounded": recurrence(4, 128, 256, 128, False, bounded=True),
    "delta": recurrence(8, 128, 128, 0, True, "delta"),
    "gated delta": recurrence(8, 128, 128, 1, True, "gated_delta"),
    "kda": recurrence(8, 128, 128, 128, True),
    "kda, bounded": recurrence(8, 128, 128, 128, True, bounded=True),
    "mamba": mixer("mamba", "MambaConfig"),
    "mamba2": mixer("mamba2", "Mamba2Config"),
}


# ---- measuring
def seconds(run: Run, leaves: list[Tensor], train: bool) -> float:
    """Of one thread the time that it ran, which other work on the machine changes less than the time that passed."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    with torch.set_grad_enabled(train):
        result = run()
        if train:
            torch.autograd.grad(result.sum(), leaves)
    return clock() - start


def measure(case: Case, train: bool) -> dict[str, list[float]]:
    """Seconds of every runner in every round."""
    runners = {"archlang": case.ours, **case.rivals}
    found: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        seconds(run, case.leaves, train)
    for _ in range(ROUNDS):
        for name in random.sample(list(runners), len(runners)):
            found[name].append(seconds(runners[name], case.leaves, train))
    return found


def rows(names: list[str], lengths: list[int], train: bool) -> Iterator[list[object]]:
    for name in names:
        for length in lengths:
            found = measure(MIXERS[name](length), train)
            mine = found["archlang"]
            yield [
                name,
                length,
                f"{statistics.median(mine) * 1e3:.1f}",
                *(_ratio(found, r, mine) for r in RIVALS),
            ]


def _ratio(found: dict[str, list[float]], rival: str, mine: list[float]) -> str:
    if rival not in found:
        return ""
    return f"x{statistics.median(a / b for a, b in zip(found[rival], mine, strict=True)):.1f}"


def growth(name: str) -> list[object]:
    """Time and peak memory a position at the longer length over the shorter, each in a process of its own."""
    spent = []
    for length in LONG:
        command = [sys.executable, __file__, "--threads", f"{torch.get_num_threads()}", "--serve", name, str(length)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | ALLOCATOR)
        spent.append([float(x) / length for x in done.stdout.split()])
    return [name, *(f"{long / short:.2f}" for short, long in zip(*spent, strict=True))]


def serve(name: str, length: int) -> None:
    """Seconds, and the most bytes that torch allocates, of one call after one that is not counted."""
    case = MIXERS[name](length)
    seconds(case.ours, case.leaves, False)
    print(seconds(case.ours, case.leaves, False), peak(lambda: seconds(case.ours, case.leaves, False)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixers", nargs="+", default=list(MIXERS), choices=list(MIXERS))
    parser.add_argument("--lengths", nargs="+", type=int, default=[2048, 8192])
    parser.add_argument("--train", action="store_true", help="forward and backward")
    parser.add_argument("--growth", action="store_true", help="also grow the sequence to 65,536")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--write", type=Path)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.serve:
        serve(given.serve[0], int(given.serve[1]))
        return
    found = list(rows(given.mixers, given.lengths, given.train))
    text = table(["mixer", "positions", "ms", *(f"{rival} / archlang" for rival in RIVALS)], found)
    if given.growth:
        grown = [growth(name) for name in given.mixers]
        text += "\n\n" + table(["mixer", "time a position, 64k / 8k", "memory a position, 64k / 8k"], grown)
    publish(f"{machine('torch')}, {'training' if given.train else 'forward'}\n\n{text}", given.write)


if __name__ == "__main__":
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)
    main()
