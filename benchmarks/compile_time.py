"""How long the compiler takes: commands on an example, cold and from the cache, its passes alone, and growth over 1k,
10k and 100k nodes.

    python benchmarks/compile_time.py [--write benchmarks/results/compile_time.md]

Every measurement is a process of its own; the table gives the median and the best of its runs and the largest memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from report import machine, publish, table

ROOT = Path(__file__).parent.parent
# As an installed command runs: modules are compiled to .pyc once, and archlang is found from anywhere.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPATH": str(ROOT)}
EXAMPLE = "examples/maxvit.arch"
SIZES = (1_000, 10_000, 100_000)
NODES_A_LAYER = 5  # layer_norm, linear, gelu, linear, sum
CHAIN = """
model chain {{
  input x: [b, c = 64]
  repeat {layers} as layers[i] {{ x = x + (x -> layer_norm as norm -> linear(64) as fc1 -> gelu -> linear(64) as fc2) }}
  output y: [b, c = 64] = x
}}
"""

PASSES = """
import sys, time, archlang
from archlang.passes import Options
size = {"dims": [192, 384, 768, 1536], "depths": [2, 6, 14, 2], "stem": 192}
network = archlang.load(sys.argv[1]).architecture(None, None, size)
start = time.perf_counter()
network.optimised(Options(sys.argv[2]))
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Run:
    seconds: float
    megabytes: float | None


def measure(*arguments: str) -> Run:
    """One `archlang ...` in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "archlang", *arguments]
    child = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"archlang {' '.join(arguments)} failed")
    return Run(seconds, usage.ru_maxrss / 1024)


def loads_torch(*arguments: str) -> bool:
    command = [sys.executable, "-X", "importtime", "-m", "archlang", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    return any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())


def row(name: str, runs: list[Run], limit: str, note: str) -> list[str]:
    seconds = [run.seconds for run in runs]
    known = [run.megabytes for run in runs if run.megabytes is not None]
    memory = f"{max(known):.0f} MB" if known else ""
    return [name, f"{statistics.median(seconds):.2f} s", f"{min(seconds):.2f} s", limit, memory, note]


def commands(folder: Path, repeats: int) -> list[list[str]]:
    cases = [
        ("archlang --version", ["--version"], ""),
        (f"archlang check {EXAMPLE}, cached", ["check", "-q", EXAMPLE], "0.4 s"),
        (f"archlang check {EXAMPLE}", ["check", "-q", "--no-cache", EXAMPLE], ""),
        (f"archlang build {EXAMPLE}, cached", ["build", "-q", EXAMPLE, "-o", str(folder)], "0.25 s"),
        (f"archlang build {EXAMPLE}", ["build", "-q", "--no-cache", EXAMPLE, "-o", str(folder)], "0.5 s"),
    ]
    rows = []
    for name, arguments, limit in cases:
        measure(*arguments)  # fills caches: a first run ever also compiles .pyc files and the grammar's tables
        torch = "torch loaded" if loads_torch(*arguments) else "torch not loaded"
        rows.append(row(name, [measure(*arguments) for _ in range(repeats)], limit, torch))
    return rows


def passes(repeats: int) -> list[list[str]]:
    """The optimiser alone, on MaxViT-XL."""
    rows = []
    for purpose in ("training", "inference"):
        command = [sys.executable, "-c", PASSES, EXAMPLE, purpose]
        seconds = [
            float(subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout)
            for _ in range(repeats)
        ]
        rows.append(row(f"passes of MaxViT-XL, {purpose}", [Run(each, None) for each in seconds], "1 s", ""))
    return rows


def growth(folder: Path, sizes: tuple[int, ...]) -> list[list[str]]:
    rows = []
    for size in sizes:
        file = folder / f"chain{size}.arch"
        file.write_text(CHAIN.format(layers=size // NODES_A_LAYER))
        command = ["build", "-q", "--no-cache", str(file), "-o", str(folder)]
        runs = [measure(*command) for _ in range(3 if size <= 10_000 else 1)]
        each = statistics.median(run.seconds for run in runs) / size * 1e6
        rows.append(row(f"build, {size:,} nodes", runs, "3 s" if size == 10_000 else "", f"{each:.0f} us a node"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="runs of each command (default 9)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the table as Markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = commands(Path(folder), options.repeats) + passes(options.repeats) + growth(Path(folder), SIZES)
    head = ["command", "median", "best", "limit", "memory", ""]
    publish(f"{table(head, rows)}\n\n{machine('lark', 'networkx', 'pydantic')}", options.write)


if __name__ == "__main__":
    main()
