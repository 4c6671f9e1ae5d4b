"""Where the time of a network goes on this CPU, by operation of torch: timm's, and what archlang writes for inference.

    python benchmarks/cpu_profile.py [--models maxvit swin] [--batch 1] [--write FILE]

An operation has the time that it spends itself. `products alone` is the time of a network's multiply-adds at the rate
of the fastest product of matrices that torch has here, in float32: no way of running it takes less.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cpu_models import ALLOCATOR, NETS, ROOT, make, timed
from report import machine, publish, table

sys.path.insert(0, str(ROOT))
import archlang
from archlang.helpers.packed_linear import packed_linear

SHOWN = 7  # operations of each network
CALLS = 5
SIDE = 2048  # of the product whose rate counts


def shares(run: Any, image: torch.Tensor) -> dict[str, float]:
    """The part of the whole that each operation takes, the largest first."""
    with torch.no_grad():
        run(image)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for _ in range(CALLS):
                run(image)
    spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profile.key_averages()}
    whole = sum(spent.values())
    return {name: time / whole for name, time in sorted(spent.items(), key=lambda item: -item[1])}


def rate() -> float:
    """Multiply-adds a second of the fastest product of matrices: torch's own, or oneDNN's on a packed weight."""
    x, weight = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    ways = (lambda x: F.linear(x, weight), lambda x: packed_linear(x, weight))
    with torch.no_grad():
        return SIDE**3 / min(timed(way, x) for _ in range(2 * CALLS) for way in ways)


def floor(net: str, batch: int, run: Any, image: torch.Tensor, fastest: float) -> str:
    """`38 ms of 77`: the network's multiply-adds at that rate, and what the network takes."""
    file, variant, _ = NETS[net]
    seconds = int(archlang.load(ROOT / file).architecture(None, variant).macs) * batch / fastest
    with torch.no_grad():
        taken = statistics.median(timed(run, image) for _ in range(CALLS))
    return f"{seconds * 1e3:.0f} ms of {taken * 1e3:.0f}"


def rows(net: str, batch: int, fastest: float) -> list[list[object]]:
    image = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    found = []
    for way in ("timm", "inference"):
        run = make(net, way, image, False, "")
        spent = shares(run, image)
        largest = ", ".join(f"{name} {share:.0%}" for name, share in list(spent.items())[:SHOWN])
        found.append([net, way, largest, floor(net, batch, run, image, fastest)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETS, default=["maxvit", "swin", "convnext", "mobilenet"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    fastest = rate()
    found = [row for net in given.models for row in rows(net, given.batch, fastest)]
    note = f"batch {given.batch}, {given.threads} threads, float32, {machine('torch', 'timm')}"
    peak = f"fastest product: {2 * fastest / 1e9:.0f} GFLOP/s"
    head = ["network", "way", "share of the time", "products alone"]
    publish(f"{table(head, found)}\n\n{peak}, {note}", given.write)


if __name__ == "__main__":
    if "TORCHVISION_STUB" not in os.environ:
        stub = {"TORCHVISION_STUB": str(ROOT / "tests/peers/torchvision_stub")}
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR | stub)
    main()
