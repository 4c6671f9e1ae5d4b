"""Attention to a domain on this CPU against attention to all with a mask, in one run.

    python benchmarks/cpu_domains.py [--domains windows] [--lengths 2048] [--train] [--threads 2] [--write FILE]

The rival is `F.scaled_dot_product_attention` with the domain as a bool mask of all pairs, made beforehand. Rounds visit
both in random order after one call that is not counted; the ratio is the median over rounds of (masked / archlang).
Sparsity is pairs over pairs that are seen: what the ratio would be if a pair cost the same everywhere. One thread by
default: on a machine with other work, threads wait for one another, most of all between short operations.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from cpu_mixers import ALLOCATOR, Case, measure
from report import machine, publish, table
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from archlang.emit import load  # noqa: E402
from archlang.emit.torch import class_name, emit  # noqa: E402
from archlang.primitives.attention import Attend  # noqa: E402
from archlang.primitives.domain import Axial, Domain, Windows  # noqa: E402
from archlang.primitives.near import Chunks, Neighborhood, Radius, Sliding  # noqa: E402
from archlang.shapes import TensorType, axis  # noqa: E402
from archlang.testing.laws import single  # noqa: E402

HEADS, CHANNELS = 4, 64


def square(length: int) -> dict[str, int]:
    """A map of so many positions, a power of two, once or twice as wide as high."""
    height = 1 << (length.bit_length() - 1) // 2
    return {"h": height, "w": length // height}


DOMAINS: dict[str, tuple[Domain, Callable[[int], dict[str, int]]]] = {
    "sliding": (Sliding(n=256), lambda n: {"t": n}),
    "chunks": (Chunks(size=256), lambda n: {"n": n}),
    "radius": (Radius(r=64), lambda n: {"n": n}),
    "neighborhood": (Neighborhood(size=7), square),
    "neighborhood 13": (Neighborhood(size=13), square),
    "windows": (Windows(size=8), square),
    "windows 16": (Windows(size=16), square),
    "axial": (Axial(on=("h",)), square),
}


def seen(domain: Domain, type_: TensorType, space: dict[str, int]) -> torch.Tensor:
    """bool[query, key] over all pairs of positions."""
    axes = tuple(type_[name] for name in space)
    mask = torch.ones(1, 1, dtype=torch.bool)
    for own in axes:
        i = torch.arange(space[own.name])
        along = domain.sees(axes, own, i[:, None], i)
        mask = (mask[:, None, :, None] & along[:, None]).flatten(0, 1).flatten(1)
    return mask


def case(name: str, length: int) -> tuple[Case, float]:
    """The domain over so many positions, and its sparsity."""
    domain, shape = DOMAINS[name]
    space = shape(length)
    type_ = TensorType(tuple(axis(n, size) for n, size in {"b": 1, **space, "heads": HEADS, "c": CHANNELS}.items()))
    graph, _ = single(Attend(over=domain), [type_] * 3)
    module, mask = load(emit(graph), class_name(graph))(), seen(domain, type_, space)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, *space.values(), HEADS, CHANNELS, generator=generator).requires_grad_() for _ in range(3))

    def masked() -> torch.Tensor:
        laid = (x.flatten(1, -3).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(*laid, mask)

    return Case(lambda: module(q, k, v), {"masked": masked}, [q, k, v]), mask.numel() / int(mask.sum())


def row(name: str, length: int, train: bool) -> list[object]:
    made, sparsity = case(name, length)
    found = measure(made, train)
    ratio = statistics.median(a / b for a, b in zip(found["masked"], found["archlang"], strict=True))
    spent = (f"{statistics.median(found[side]) * 1e3:.1f}" for side in ("archlang", "masked"))
    return [str(DOMAINS[name][0]), length, *spent, f"x{ratio:.1f}", f"x{sparsity:.1f}", f"{sparsity / ratio:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=list(DOMAINS), choices=list(DOMAINS))
    parser.add_argument("--lengths", nargs="+", type=int, default=[2048, 8192])
    parser.add_argument("--train", action="store_true", help="forward and backward")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = [row(name, length, given.train) for name in given.domains for length in given.lengths]
    head = ["domain", "positions", "ms", "masked, ms", "masked / archlang", "sparsity", "short of it by"]
    publish(f"{machine('torch')}, {'training' if given.train else 'forward'}\n\n{table(head, found)}", given.write)


if __name__ == "__main__":
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)
    main()
