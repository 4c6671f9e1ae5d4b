"""What was measured, in a file to commit: one line a case, sorted, so that version control merges it by lines."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from archlang import files
from archlang.diagnostics import error
from archlang.tuning.cases import Case, parse
from archlang.tuning.device import device
from archlang.tuning.model import expected

VERSION = 1
NEAR = 2.0  # doublings of all sizes together within which a case speaks for another
Times = Mapping[str, float]  # of each implementation, in microseconds


@dataclass(frozen=True)
class Record:
    """Times by device and case."""

    devices: Mapping[str, Mapping[Case, Times]]

    @property
    def device(self) -> str:
        """Whose times count: this machine's where there are any, else those of the only one that was measured."""
        here, known = device(), [name for name in self.devices if name not in self.gpus]
        return known[0] if len(known) == 1 and here not in known else here

    @property
    def gpus(self) -> Mapping[str, Mapping[Case, Times]]:
        """The times of kernels, by device."""
        return {name: cases for name, cases in self.devices.items() if any(case.kernel for case in cases)}

    def only(self, device: str) -> "Record":
        """The part of one processor, and those of all GPUs: a file runs on any of them."""
        return Record({device: self.devices.get(device, {}), **self.gpus})

    def merged(self, other: "Record") -> "Record":
        """Both, and of what both have the shorter times."""
        names = {*self.devices, *other.devices}
        return Record({name: _both(self.devices.get(name, {}), other.devices.get(name, {})) for name in names})

    def text(self) -> str:
        """The file."""
        lines = [
            f"  {json.dumps(f'{device} | {case}')}: {json.dumps(_rounded(times), sort_keys=True)}"
            for device, cases in sorted(self.devices.items())
            for case, times in sorted(cases.items())
        ]
        return "{\n" + ",\n".join([f'  "archlang tune": {VERSION}', *lines]) + "\n}\n"

    def write(self, path: Path) -> None:
        """Put it in the place of the file at once."""
        files.write(path, self.text())


def read(path: Path) -> Record:
    """The record in a file; an `ArchError` where it is none."""
    return loads(path.read_text(encoding="utf-8", errors="replace"), str(path))


@cache
def loads(text: str, name: str = "<string>") -> Record:
    """The record that a text is; an `ArchError` where it is none."""
    try:
        return _parse(json.loads(text))
    except (ValueError, TypeError, AttributeError) as failure:
        title = f"`{name}` is no record of `archlang tune`: {failure}"
        raise error("A906", title, help="make one with `archlang tune`, or take its conflicts apart") from failure


def choose(case: Case, names: Iterable[str], record: Record) -> str:
    """The implementation that was the fastest for the nearest case, else the one that the model expects."""
    known, names = record.devices.get(record.device, {}), list(names)
    near = min(known, key=lambda other: (case.distance(other), other), default=None)
    if near is None or case.distance(near) > NEAR:
        return expected(case, record.device, names)
    times = {name: time for name, time in known[near].items() if name in names}
    return min(times, key=lambda name: (times[name], names.index(name)), default=names[0])


def _both(mine: Mapping[Case, Times], theirs: Mapping[Case, Times]) -> dict[Case, Times]:
    both = dict(mine)
    for case, times in theirs.items():
        known = both.get(case, {})
        both[case] = {name: min(known.get(name, t), times.get(name, t)) for name, t in {**known, **times}.items()}
    return both


def _rounded(times: Times) -> dict[str, float]:
    return {name: float(f"{time:.4g}") for name, time in times.items()}


def _parse(content: Any) -> Record:
    if content.pop("archlang tune", None) != VERSION:
        raise ValueError(f"it is not of version {VERSION}")
    devices: dict[str, dict[Case, Times]] = {}
    for key, times in content.items():
        name, bar, case = key.partition(" | ")
        if not bar or not times or not all(type(t) in (int, float) and t > 0 for t in times.values()):
            raise ValueError(f"{key}: {times}")
        devices.setdefault(name, {})[parse(case)] = dict(times)
    return Record(devices)
