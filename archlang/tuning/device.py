"""What kind of processor this is, as far as the choice of an algorithm depends on it."""

import os
import platform
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

VECTORS = ("amx_tile", "avx512f", "avx2", "asimd")


@cache
def device() -> str:
    """Its maker, family, model and vectors, and how many threads it runs: `AuthenticAMD 25-1 avx2 x2`."""
    about = ""
    with suppress(OSError):
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in about.splitlines())}
    flags = facts.get("flags", facts.get("Features", "")).split()
    vectors = next((name for name in VECTORS if name in flags), "")
    maker = facts.get("vendor_id", facts.get("CPU implementer", platform.machine()))
    kind = "-".join(filter(None, (facts.get("cpu family"), facts.get("model", facts.get("CPU part")))))
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return " ".join(filter(None, (maker, kind, vectors, f"x{threads if threads.isdigit() else _cores()}")))


def kind(device: str) -> str:
    """A device as the model knows it: maker and vectors."""
    words = re.sub(r"\b\d+-\d+\b|\bx\d+$", "", device).split()
    return " ".join(words)


def _cores() -> int:
    """The processors that this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
