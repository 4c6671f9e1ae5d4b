"""Where the time of a network goes on this CPU, by operation of torch: timm's, and what archlang writes for inference.

    python benchmarks/cpu_profile.py [--models maxvit swin] [--batch 1] [--write FILE]

An operation has the time that it spends itself.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
from cpu_models import ALLOCATOR, NETS, ROOT, make
from report import machine, publish, table

SHOWN = 7  # operations of each network
CALLS = 5


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


def rows(net: str, batch: int) -> list[list[object]]:
    image = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    found = []
    for way in ("timm", "inference"):
        spent = shares(make(net, way, image, False, ""), image)
        largest = ", ".join(f"{name} {share:.0%}" for name, share in list(spent.items())[:SHOWN])
        found.append([net, way, largest])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETS, default=["maxvit", "swin", "convnext", "mobilenet"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = [row for net in given.models for row in rows(net, given.batch)]
    note = f"batch {given.batch}, {given.threads} threads, float32, {machine('torch', 'timm')}"
    publish(f"{table(['network', 'way', 'share of the time'], found)}\n\n{note}", given.write)


if __name__ == "__main__":
    if "TORCHVISION_STUB" not in os.environ:
        stub = {"TORCHVISION_STUB": str(ROOT / "tests/peers/torchvision_stub")}
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR | stub)
    main()
