"""The networks that archlang writes, and timm's, on this CPU, in every way in which people run them: one run.

    python benchmarks/cpu_models.py [--models swin convnext] [--batches 1 8] [--ways inference onnxruntime] [--train]
                                    [--tuned tuning.json] [--kept rows.json] [--write benchmarks/results/cpu_models.md]

Each way lives in a process of its own, with the same weights, allocator settings and threads, so that none warms,
starves or falsifies another. A round visits them in random order: one call that is not counted, then a few that are.
The ratio is the median over rounds of (timm eager / this way): above 1, it is faster. `--train` takes a forward and
backward pass in their place. With `--kept`, what a run measured is kept as it goes, network by network, and a run that
is started again goes on from there. `--cpu` counts CPU time, with one thread: for a machine that does other work too.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from math import prod
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
WAYS = {
    "timm": "timm, eager",
    "compiled": "timm, torch.compile",
    "frozen": "timm, torch.compile and freezing",
    "onnxruntime": "timm, exported to ONNX Runtime",
    "archlang": "archlang, eager",
    "inference": "archlang --for inference, eager",
    "blocks": "archlang --for inference, compile_blocks()",
    "expected": "archlang --for inference --tuned on an empty record, eager",
    "tuned": "archlang --for inference --tuned, eager",
    "tuned_blocks": "archlang --for inference --tuned, compile_blocks()",
    "tuned_compiled": "archlang --for inference --tuned, torch.compile",
}
EMPTY = '{"archlang tune": 1}'  # what `archlang tune --seconds 0` writes: the model of costs alone chooses
FOR_TRAINING = ("timm", "compiled", "archlang")
ROUNDS = 5
NEAR = 1e-3  # relative to the largest number: how far the results of two ways may differ
# Without these, glibc gives large blocks back at every free, and page faults are measured along with the network.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
Run = Callable[[Any], Any]


class Runner:
    """A network, run in one way, in a process of its own."""

    def __init__(self, net: str, way: str, batch: int, options: argparse.Namespace) -> None:
        stub = str(ROOT / "tests/peers/torchvision_stub")  # after site-packages: a real torchvision goes first
        environment = os.environ | ALLOCATOR | {"OMP_NUM_THREADS": str(options.threads), "TORCHVISION_STUB": stub}
        what, clock = "train" if options.train else "forward", "cpu" if options.cpu else "clock"
        how = [net, way, str(batch), what, str(options.tuned or ""), clock]
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", *how],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        made = self._answer()
        self.result, self.first = made["result"], made["first"]
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


# ---- the child
def serve(net: str, way: str, batch: int, train: bool, tuned: str, clock: Callable[[], float]) -> None:
    """For each number on stdin, one call that is not counted and that many that are."""
    import torch

    image = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    step = make(net, way, image, train, tuned)
    run = backward(step) if train else step
    with torch.set_grad_enabled(train):
        start = time.perf_counter()
        result = run(image).detach().flatten()[:8].tolist()
        print(json.dumps({"result": result, "first": time.perf_counter() - start}), flush=True)
        for line in sys.stdin:
            run(image)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            seconds = [timed(run, image, clock) for _ in range(int(line))]
            faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / int(line)
            print(json.dumps({"seconds": seconds, "faults": faults}), flush=True)


def backward(step: Run) -> Run:
    """A forward and a backward pass; gradients are written anew, as after `zero_grad`."""

    def run(image: Any) -> Any:
        y = step(image)
        y.square().mean().backward()
        if isinstance(step, __import__("torch").nn.Module):
            step.zero_grad()
        return y

    return run


def timed(run: Run, image: object, clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    run(image)
    return clock() - start


def make(net: str, way: str, image: Any, train: bool, tuned: str) -> Run:
    """A network in one way, with the weights that timm's has from the seed 0."""
    import torch

    sys.path.append(os.environ["TORCHVISION_STUB"])
    import timm

    torch.manual_seed(0)
    file, variant, peer = NETS[net]
    theirs = timm.create_model(peer).train(False)
    if way == "timm":
        return theirs  # type: ignore[no-any-return]
    if way == "onnxruntime":
        return exported(theirs, image)
    if way in ("compiled", "frozen"):
        return compiled(theirs, way == "frozen")
    sys.path.insert(0, str(ROOT))
    import archlang

    purpose = "training" if way == "archlang" else "inference"
    record = Path(tuned).read_text(encoding="utf-8") if way.startswith("tuned") else EMPTY if way == "expected" else ""
    ours = archlang.load(file).architecture(variant=variant).module(seed=0, purpose=purpose, tuned=record).eval()
    archlang.load_weights(ours, theirs.state_dict(), map="timm")
    if way.endswith("blocks"):
        ours.compile_blocks()
    return compiled(ours, False) if way.endswith("compiled") else ours


def compiled(module: Any, freeze: bool) -> Run:
    import torch
    from torch._inductor import config

    config.freezing = freeze
    made: Run = torch.compile(module)
    return made


def exported(module: Any, image: Any) -> Run:
    """With as many threads as torch, which do not spin while others run."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as folder:
        torch.onnx.export(module, (image,), f"{folder}/net.onnx", dynamo=False)
        session = onnxruntime.InferenceSession(f"{folder}/net.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


# ---- the parent
def rows(options: argparse.Namespace) -> list[list[str]]:
    """A row for each network, batch and way; those that are kept are not measured again."""
    kept: dict[str, list[list[str]]] = {}
    if options.kept and options.kept.exists():
        kept = json.loads(options.kept.read_text())
    found = []
    for net in options.models:
        for batch in options.batches:
            how = f"{'train' if options.train else 'forward'} {options.tuned} {options.threads} {options.cpu}"
            about = " ".join([net, str(batch), how, *options.ways])
            kept[about] = kept.get(about) or compare(net, batch, options)
            found += kept[about]
            if options.kept:
                options.kept.write_text(json.dumps(kept, indent=1))
    return found


def compare(net: str, batch: int, options: argparse.Namespace) -> list[list[str]]:
    """A row for each way."""
    runners = {way: Runner(net, way, batch, options) for way in ("timm", *(w for w in options.ways if w != "timm"))}
    meant = runners["timm"].result
    for way, runner in runners.items():
        if max(abs(a - b) for a, b in zip(meant, runner.result, strict=True)) > NEAR * max(map(abs, meant)):
            raise SystemExit(f"{net}: {way} computes {runner.result}, and timm {meant}: not the same network")
    for _ in range(ROUNDS):
        for runner in random.sample(list(runners.values()), len(runners)):
            runner.visit(6 if batch == 1 else 3)
    for runner in runners.values():
        runner.stop()
    made = [row(net, batch, way, runner, runners["timm"]) for way, runner in runners.items()]
    for cells in made:  # the table follows when all is measured
        print(*cells, sep="  ", file=sys.stderr, flush=True)
    return made


def row(net: str, batch: int, way: str, runner: Runner, timm: Runner) -> list[str]:
    ratios = sorted(a / b for a, b in zip(timm.seconds, runner.seconds, strict=True))
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    time_ = f"{statistics.median(runner.seconds) * 1e3:.1f} ms"
    return [
        net,
        str(batch),
        way,
        time_,
        f"{statistics.median(ratios):.2f}",
        spread,
        f"{runner.first:.1f} s",
        f"{runner.faults:.0f}",
    ]


def means(rows: list[list[str]], ways: list[str]) -> list[list[str]]:
    """The geometric mean of the ratios of each way, over all networks and batches."""
    found = {way: [float(r[4]) for r in rows if r[2] == way] for way in ways}
    return [[way, WAYS[way], f"{prod(ratios) ** (1 / len(ratios)):.2f}"] for way, ratios in found.items() if ratios]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="N")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=None, metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--train", action="store_true", help="a forward and backward pass")
    parser.add_argument("--tuned", type=Path, metavar="FILE", help="a record of `archlang tune`")
    parser.add_argument("--threads", type=int, default=None, help="of each way (default 2; 1 with --cpu)")
    parser.add_argument("--cpu", action="store_true", help="CPU time of one thread in place of the clock")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="keep what is measured, and go on from what is there")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the table as Markdown")
    parser.add_argument("--serve", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        net, way, batch, mode, tuned, clock = options.serve
        counter = time.process_time if clock == "cpu" else time.perf_counter
        serve(net, way, int(batch), mode == "train", tuned, counter)
        return
    options.threads = options.threads or (1 if options.cpu else 2)
    options.ways = options.ways or usable(options)
    found = rows(options)
    head = ["network", "batch", "way", "time", "timm / this", "over rounds", "first call", "page faults a call"]
    what = "forward and backward" if options.train else "forward"
    what += f", {'CPU time, ' if options.cpu else ''}{options.threads} thread{'s' * (options.threads > 1)}"
    note = f"{what}, float32, {machine('torch', 'timm')}"
    mean = table(["way", "is", "geometric mean of timm / this"], means(found, ["timm", *options.ways]))
    publish(f"{table(head, found)}\n\n{mean}\n\n{note}", options.write)


def usable(options: argparse.Namespace) -> list[str]:
    """The ways that this environment has what they need for."""
    absent = {"onnxruntime"} if find_spec("onnxruntime") is None or find_spec("onnx") is None else set()
    absent |= set() if options.tuned else {way for way in WAYS if way.startswith("tuned")}
    return [way for way in WAYS if way not in absent and (way in FOR_TRAINING or not options.train)]


if __name__ == "__main__":
    main()
