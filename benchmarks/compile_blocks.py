"""Time to the first result with torch.compile: a whole network, and the blocks of it that repeat.

    python benchmarks/compile_blocks.py [--models maxvit] [--purpose inference] [--repeats 1] [--write FILE]

Each measurement is a process of its own with an empty cache of compiled code. CPU is that of all processes, those that
compile C++ too: on a busy machine it says more than the clock.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import machine, publish, table

ROOT = Path(__file__).parent.parent
MODELS = {"maxvit": "tiny", "swin": "tiny", "convnext": "tiny"}
WAYS = ("eager", "blocks", "whole")


def first(model: str, way: str, purpose: Any) -> None:
    """Prints the seconds, and the CPU, that the first result of a fresh module takes."""
    import torch

    sys.path.insert(0, str(ROOT))
    import archlang

    torch.set_num_threads(2)
    network = archlang.load(ROOT / f"examples/{model}.arch").architecture(None, MODELS[model])
    module = network.module(seed=0, purpose=purpose).eval()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected, start, before = module(x), time.perf_counter(), cpu()
        if way == "blocks":
            module.compile_blocks()
        elif way == "whole":
            module.compile()
        torch.testing.assert_close(module(x), expected, rtol=1e-3, atol=1e-3)
    print(time.perf_counter() - start, cpu() - before)


def cpu() -> float:
    """Seconds of this process and of all that it has started and that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used)


def measure(model: str, way: str, purpose: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        # compiling in this process and its direct children, so that their time is counted
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        command = [sys.executable, __file__, "--first", model, way, purpose]
        seconds, used = subprocess.check_output(command, text=True, env=environment).splitlines()[-1].split()
        return float(seconds), float(used)


def rows(model: str, purpose: str, repeats: int) -> list[list[object]]:
    found = {way: [measure(model, way, purpose) for _ in range(repeats)] for way in WAYS}
    clock, used = ({way: statistics.median(run[i] for run in runs) for way, runs in found.items()} for i in (0, 1))
    return [
        [model, way, f"{clock[way]:.1f} s", f"{used[way]:.1f} s", f"x{used['whole'] / used[way]:.1f}"] for way in WAYS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["maxvit"], choices=list(MODELS))
    parser.add_argument("--purpose", default="training", choices=["training", "inference"], help="what is compiled")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--first", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.first:
        first(*given.first)
        return
    found = [row for model in given.models for row in rows(model, given.purpose, given.repeats)]
    publish(
        f"{machine('torch')}\n\n{table(['network', 'compiled', 'clock', 'CPU', 'whole / this'], found)}", given.write
    )


if __name__ == "__main__":
    main()
