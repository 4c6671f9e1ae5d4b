"""The networks that archlang writes against timm's, eager, on this CPU: equal networks, one run.

    python benchmarks/cpu_models.py [--models swin convnext] [--batches 1 8] [--write benchmarks/results/cpu_models.md]

Each network lives in a process of its own, with the same allocator settings and threads, so that none warms or
starves the other. A round visits them in random order: one call that is not counted, then a few that are. The
ratio is the median over rounds of (timm / archlang): above 1, archlang is faster.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import machine, publish, table

ROOT = Path(__file__).parent.parent
NETS = {  # ours, timm's
    "maxvit": ("examples/maxvit.arch", "tiny", "maxvit_tiny_tf_224"),
    "swin": ("examples/swin.arch", "tiny", "swin_tiny_patch4_window7_224"),
    "convnext": ("examples/convnext.arch", "tiny", "convnext_tiny"),
    "mobilenet": ("examples/mobilenet_v2.arch", None, "mobilenetv2_100"),
    "vit": ("examples/vit.arch", "small", "vit_small_patch16_224"),
}
ROUNDS = 5
# Without these, glibc gives large blocks back at every free, and page faults are measured along with the network.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


class Runner:
    """A network in a process of its own."""

    def __init__(self, net: str, origin: str, batch: int, threads: int) -> None:
        stub = str(ROOT / "tests/peers/torchvision_stub")  # after site-packages: a real torchvision goes first
        environment = os.environ | ALLOCATOR | {"OMP_NUM_THREADS": str(threads), "TORCHVISION_STUB": stub}
        command = [sys.executable, __file__, "--serve", net, origin, str(batch)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.params = self._answer()["params"]
        self.seconds: list[float] = []
        self.faults = 0.0

    def visit(self, calls: int) -> None:
        assert self.process.stdin is not None
        print(calls, file=self.process.stdin, flush=True)
        answer = self._answer()
        self.seconds.append(statistics.median(answer["seconds"]))
        self.faults = answer["faults"]

    def stop(self) -> None:
        self.process.communicate("")

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} stopped")
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve(net: str, origin: str, batch: int) -> None:
    """The child: for each number on stdin, one call that is not counted and that many that are."""
    import torch

    module = make(net, origin)
    image = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    print(json.dumps({"params": sum(p.numel() for p in module.parameters())}), flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            module(image)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            seconds = [timed(module, image) for _ in range(int(line))]
            faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / int(line)
            print(json.dumps({"seconds": seconds, "faults": faults}), flush=True)


def timed(module: Callable[[Any], Any], image: object) -> float:
    start = time.perf_counter()
    module(image)
    return time.perf_counter() - start


def make(net: str, origin: str) -> Any:
    file, variant, peer = NETS[net]
    if origin == "timm":
        sys.path.append(os.environ["TORCHVISION_STUB"])
        import timm

        return timm.create_model(peer).eval()
    sys.path.insert(0, str(ROOT))
    import archlang

    return archlang.load(file).architecture(variant=variant).module(seed=0).eval()


def compare(net: str, batch: int, threads: int) -> list[str]:
    runners = {origin: Runner(net, origin, batch, threads) for origin in ("timm", "archlang")}
    theirs, ours = runners["timm"], runners["archlang"]
    if theirs.params != ours.params:
        raise SystemExit(f"{net}: {ours.params} parameters against {theirs.params}: not the same network")
    for _ in range(ROUNDS):
        for runner in random.sample(list(runners.values()), 2):
            runner.visit(6 if batch == 1 else 3)
    for runner in runners.values():
        runner.stop()
    ratios = sorted(a / b for a, b in zip(theirs.seconds, ours.seconds, strict=True))
    times = [f"{statistics.median(runner.seconds) * 1e3:.1f} ms" for runner in (theirs, ours)]
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    faults = f"{theirs.faults:.0f}, {ours.faults:.0f}"
    return [net, str(batch), *times, f"{statistics.median(ratios):.2f}", spread, faults]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="N")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the table as Markdown")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], options.serve[1], int(options.serve[2]))
        return
    rows = [compare(net, batch, options.threads) for net in options.models for batch in options.batches]
    head = ["network", "batch", "timm", "archlang", "timm / archlang", "over rounds", "page faults a call"]
    note = f"{options.threads} threads, float32, eager, {machine('torch', 'timm')}"
    publish(f"{table(head, rows)}\n\n{note}", options.write)


if __name__ == "__main__":
    main()
