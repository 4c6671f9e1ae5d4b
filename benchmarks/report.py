"""Markdown tables with the machine and the versions that they were measured on."""

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

Row = Sequence[object]


def table(head: Row, rows: Sequence[Row]) -> str:
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def machine(*packages: str) -> str:
    """`2 cores of AMD EPYC (avx2), Linux, Python 3.11.7, torch 2.13.0, 2026-01-31`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = [f"{package} {version(package)}" for package in packages]
    system = f"{platform.system()}, Python {platform.python_version()}"
    return ", ".join([f"{cores} cores of {_processor()}", system, *versions, str(date.today())])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    name = names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
    flags = info.read_text().split() if names else []
    widest = next((flag for flag in ("avx512f", "avx2") if flag in flags), None)  # of one name, either may be
    return f"{name} ({widest})" if widest else name


def publish(text: str, file: Path | None) -> None:
    """Print, and keep where asked."""
    print(text)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
