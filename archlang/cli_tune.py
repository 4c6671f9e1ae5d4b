"""`archlang tune`: measure which implementation of each operation is the fastest here."""

from pathlib import Path
from typing import Annotated, Any

import typer

from archlang import console
from archlang.console import AsFormat, Format


def tune(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".arch files: all models, all variants.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A record, to which this is added.")] = Path(
        "tuning.json"
    ),
    batch: Annotated[int, typer.Option(min=1, help="What the free size `b` is.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="When to stop; what is missing, a model guesses.")] = 60,
    format: AsFormat = Format.text,
) -> None:
    """Measure which implementation of each operation is the fastest on this machine, for `build --tuned`.

    Ctrl-C stops and keeps what is known.
    """
    from archlang.tuner import Tuning, tasks
    from archlang.tuning import Record, device, read

    known = read(output) if output.exists() else Record({})
    tuning = Tuning(tasks(_graphs(paths), batch, inference=True))
    stopped = _run(tuning, seconds)
    known.merged(tuning.record()).write(output)
    done, every = len(tuning.times), len(tuning.tasks)
    if format is Format.json:
        about: dict[str, Any] = {"device": device(), "cases": every, "measured": done, "output": str(output)}
        console.document({"ok": not stopped, **about})
    else:
        console.table(
            [("device", device()), ("measured", f"{done} of {console.plural(every, 'case')}"), *_gains(tuning)]
        )
        console.table([("wrote", str(output))])
    raise typer.Exit(130 if stopped else 0)


def _graphs(paths: list[Path]) -> list[Any]:
    """Of all models with all variants, as they are for inference before anything is chosen."""
    from archlang.compile import load
    from archlang.passes import Options

    return [
        program.architecture(model, variant).optimised(Options("inference")).graph
        for program in map(load, paths)
        for model in program.models
        for variant in [None, *program.variants(model)]
    ]


def _run(tuning: Any, seconds: float) -> bool:
    """Measure; whether the user stopped it."""
    from archlang.tuner import tune

    try:
        for _ in zip(console.progress(tuning.tasks, "measuring"), tune(tuning, seconds), strict=False):
            pass
    except KeyboardInterrupt:
        return True
    return False


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
