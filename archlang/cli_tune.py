"""`archlang tune`: measure which implementation of each operation is the fastest here, or which tiles of kernels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archlang import console
from archlang.cli_options import TARGET_FORM, Backend, ForTarget, architecture, parts
from archlang.console import AsFormat, Format

if TYPE_CHECKING:
    from archlang.architecture import Architecture
    from archlang.tuning import Record


def tune(
    targets: Annotated[
        list[str],
        typer.Argument(metavar=f"{TARGET_FORM}...", help="Networks; of a file or model alone, all in it."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A record, to which this is added.")] = Path(
        "tuning.json"
    ),
    batch: Annotated[int, typer.Option(min=1, help="What the free size `b` is.")] = 1,
    target: ForTarget = Backend.torch,
    seconds: Annotated[float, typer.Option(min=0, help="When to stop; what is missing, a model guesses.")] = 60,
    format: AsFormat = Format.text,
) -> None:
    """Measure which implementation of each operation is the fastest on this machine, for `build --tuned`; for the
    target triton, which tiles of kernels are on its GPU.

    Ctrl-C stops and keeps what is known.
    """
    from archlang.tuning import Record, read

    known = read(output) if output.exists() else Record({})
    networks = [network for name in targets for network in _networks(name)]
    tuned = _operations(networks, batch, seconds) if target is Backend.torch else _kernels(networks, batch, seconds)
    known.merged(tuned.record).write(output)
    if format is Format.json:
        about: dict[str, Any] = {"device": tuned.device, "cases": tuned.every, "measured": tuned.done}
        console.document({"ok": not tuned.stopped, **about, "output": str(output)})
    else:
        counted = f"{tuned.done} of {console.plural(tuned.every, tuned.what)}"
        console.table([("device", tuned.device), ("measured", counted), *tuned.rows])
        console.table([("wrote", str(output))])
    raise typer.Exit(130 if tuned.stopped else 0)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came of it."""

    device: str
    record: "Record"
    done: int
    every: int
    what: str  # was counted
    rows: Sequence[tuple[str, str]]
    stopped: bool


def _networks(target: str) -> list["Architecture"]:
    """What a target names: a variant, or all of a model or of a file."""
    from archlang.compile import load

    named = parts(target)
    program, model = load(named["file"]), named["model"]
    if named["variant"] or (model and model not in program.models):
        return [architecture(target)]
    return [
        program.architecture(model, variant)
        for model in ([model] if model else program.models)
        for variant in [None, *program.variants(model)]
    ]


def _operations(networks: list[Any], batch: int, seconds: float) -> Tuned:
    """Of PyTorch's operations, as they are for inference before anything is chosen."""
    from archlang.passes import Options
    from archlang.tuner import Tuning, tasks, tune
    from archlang.tuning import device

    tuning = Tuning(tasks([net.optimised(Options("inference")).graph for net in networks], batch, inference=True))
    done, stopped = _run(tuning.tasks, tune(tuning, seconds))
    return Tuned(device(), tuning.record(), done, len(tuning.tasks), "case", _gains(tuning), stopped)


def _kernels(networks: list[Any], batch: int, seconds: float) -> Tuned:
    """Of the kernels of networks in training."""
    from archlang.kernel_tuner import KernelTuning, calls, gpu, tune

    here = gpu()
    tuning = KernelTuning(here, calls(networks, batch, here.device))
    done, stopped = _run(tuning.calls, tune(tuning, seconds))
    times = [list(times.values()) for times in tuning.times.values() if times]
    ratios = [taken[0] / min(taken) for taken in times]
    rows = (
        [("shipped", f"{max(ratios):.2f}x the time of the fastest in the worst case of {len(ratios)}")]
        if ratios
        else []
    )
    rows += [("refused", what) for what in tuning.refused]
    return Tuned(here.name, tuning.record(), done, len(tuning.calls), "kernel", rows, stopped)


def _run(tasks: Sequence[Any], measured: Iterable[Any]) -> tuple[int, bool]:
    """Measure; how many are done, and whether the user stopped it."""
    done = 0
    try:
        for _ in zip(console.progress(tasks, "measuring"), measured, strict=False):
            done += 1
    except KeyboardInterrupt:
        return done, True
    return done, False


def _gains(tuning: Any) -> list[tuple[str, str]]:
    """How often what is the fastest, and how far the model alone is from it: all cases once, and the worst of them."""
    from archlang.tuning import device, expected

    best = {case: min(times, key=lambda name: times[name]) for case, times in tuning.times.items()}
    ways = sorted(set(best.values()))
    rows = [(name, console.plural(sum(b == name for b in best.values()), "case")) for name in ways]
    chosen = [(t[expected(case, device(), list(t))], min(t.values())) for case, t in tuning.times.items()]
    if chosen:
        total = sum(took for took, _ in chosen) / sum(least for _, least in chosen)
        worst = max(took / least for took, least in chosen)
        rows.append(("model", f"{total:.2f}x the time of the fastest, {worst:.2f}x in the worst case"))
    return rows
