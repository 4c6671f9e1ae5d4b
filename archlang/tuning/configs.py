"""Shapes of tiles: which there are beside that with which a kernel ships, and which a record has as the fastest."""

from collections.abc import Collection, Mapping
from itertools import product
from math import log2, prod
from typing import TypeAlias

from archlang.diagnostics import error
from archlang.tuning.record import Record

Config: TypeAlias = Mapping[str, int]  # sides of tiles in capitals, `num_warps`, `num_stages`
MOST = {"num_warps": 16, "num_stages": 4}
DOT = 16  # the least side of a product
CHANGES = 2  # so many numbers differ from what ships at a time


def configurations(shipped: Config) -> list[dict[str, int]]:
    """Half and twice of what a kernel ships with, which fits every GPU, the nearest first."""
    near = [[size, size * 2, *([size // 2] if size > 1 else [])] for size in shipped.values()]
    made = [dict(zip(shipped, sizes, strict=True)) for sizes in product(*near)]
    fits = [config for config in made if _fits(config, shipped)]
    return sorted(fits, key=lambda config: _changes(config, shipped))


def _fits(config: Config, shipped: Config) -> bool:
    """Whether a thread has half to twice the numbers, and a block at most twice, of what is known to fit."""
    if _changes(config, shipped) > CHANGES:
        return False
    sides = {name: size for name, size in config.items() if name.isupper()}
    if any(size < DOT <= shipped[name] for name, size in sides.items()):
        return False
    if any(config.get(name, 1) > most for name, most in MOST.items()):
        return False
    tile = prod(config[name] / shipped[name] for name in sides)
    warps, stages = (config.get(name, 1) / shipped.get(name, 1) for name in MOST)
    return 0.5 <= tile / warps <= 2 and tile * stages <= 2


def _changes(config: Config, shipped: Config) -> int:
    return sum(config[name] != size for name, size in shipped.items())


def text(config: Config) -> str:
    """`ROWS=32 num_warps=4`"""
    return " ".join(f"{name}={size}" for name, size in config.items())


def fastest(record: Record, kernels: Collection[str]) -> dict[str, dict[str, int]]:
    """The fastest of every case that some kernels have in a record, under the device and the case."""
    return {
        f"{device} | {case}": parsed(min(times, key=lambda name: (times[name], name)))
        for device, cases in sorted(record.gpus.items())
        for case, times in sorted(cases.items())
        if case.kernel in kernels
    }


def parsed(words: str) -> dict[str, int]:
    """The numbers of a text; an `ArchError` where it is none."""
    pairs = [word.partition("=") for word in words.split()]
    if not all(name.isidentifier() and size.isdigit() and _is_power(int(size)) for name, _, size in pairs):
        raise error("A906", f"`{words}` is no shape of tiles", help="they read `ROWS=32 num_warps=4`, in powers of 2")
    return {name: int(size) for name, _, size in pairs}


def _is_power(size: int) -> bool:
    return size > 0 and log2(size).is_integer()
