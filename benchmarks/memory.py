"""Estimated against allocated: the peak of memory of every example in inference and training, on the CPU.

    python -m benchmarks.memory [NAME...]

The examples run small, with as many samples as make some megabytes. What is allocated is every allocation that torch's
profiler records, inside of kernels too (`archlang.testing.memory`), with two threads. Convolutions lay channels in
blocks of 8, as the estimate has it; with AVX-512 they are of 16, which doubles what a narrow one holds on the way.
"""

import os
import sys
from pathlib import Path

import torch

import archlang
from archlang.testing.memory import inference_peak, training_peak
from archlang.testing.networks import random_inputs
from tests.toys import Toy, all_toys

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # asked when the first convolution runs
ENOUGH = 1_500_000  # bytes
EXAMPLES = Path(__file__).parent.parent / "examples"


def row(toy: Toy) -> tuple[float, float]:
    """Measure one example, print it, and return the two ratios."""
    network = archlang.load(EXAMPLES / f"{toy.file}.arch").architecture(toy.model, toy.variant, toy.settings)
    sizes = dict(toy.sizes[0]) | ({"t": 64} if "t" in toy.sizes[0] else {})
    growing = [*sizes] if "e" in sizes else [next(name for name in ("b", *sizes) if name in sizes)]  # graphs in all
    while network.memory.at(sizes).training < ENOUGH:  # type: ignore[operator]
        sizes |= {name: 2 * sizes[name] for name in growing}
    module, estimate = network.module(seed=0), network.memory.at(sizes)
    given = [x.float() if x.is_floating_point() else x for x in random_inputs(network, sizes).values()]
    measured = inference_peak(module, given), training_peak(module, given)
    meant = int(estimate.inference), int(estimate.training)  # type: ignore[arg-type]
    ratios = meant[0] / measured[0], meant[1] / measured[1]
    pairs = "  ".join(f"{a / 2**20:8.2f} {b / 2**20:8.2f} {a / b:5.2f}" for a, b in zip(meant, measured, strict=True))
    print(f"{toy.name:22} {pairs}", flush=True)
    return ratios


def main(names: list[str]) -> None:
    torch.set_num_threads(2)
    print(f"{'MiB':22} {'inference: estimate, allocated, ratio':24}  training: estimate, allocated, ratio")
    ratios = [ratio for toy in all_toys() if not names or toy.name in names for ratio in row(toy)]
    off = max(abs(ratio - 1) for ratio in ratios)
    print(f"\n{len(ratios) // 2} networks; the largest error is {off:.0%}, {sum(abs(r - 1) < 0.05 for r in ratios)} of"
          f" {len(ratios)} are within 5 %")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
