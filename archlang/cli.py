"""The command line: thin commands over `archlang.compile`, with output for people (text) and for programs (JSON)."""

import gc
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from errno import EISDIR
from itertools import pairwise
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archlang import __version__, cli_cache, cli_tune, console, files, products
from archlang.cli_options import (
    NONE,
    At,
    Backend,
    Disable,
    Files,
    For,
    Force,
    ForTarget,
    Inputs,
    Map,
    Measure,
    Memory,
    Modules,
    NoCache,
    Normalize,
    Output,
    Paths,
    Purpose,
    Quiet,
    Seed,
    Settings,
    Target,
    Targets,
    Tuned,
    Weights,
    architecture,
    parts,
    sizes,
)
from archlang.console import AsFormat, Format
from archlang.diagnostics import ArchError, Diagnostic, as_dict, error

if TYPE_CHECKING:
    from archlang.compile import Architecture

app = typer.Typer(
    name="archlang",
    help="Compile neural networks from .arch text to readable PyTorch.",
    epilog="Exit codes: 0 done; 1 an .arch file has errors; 2 a wrong command line or input file; 3 a bug of archlang.",
    pretty_exceptions_enable=False,
)

app.add_typer(cli_cache.app, name="cache")
app.command()(cli_tune.tune)


REPORT = "this is a bug of archlang: please report it with the file; ARCHLANG_TRACEBACK=1 shows where it is"
UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


@app.callback(invoke_without_command=True)
def archlang(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"archlang {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def build(
    targets: Targets,
    settings: Settings = NONE,
    target: ForTarget = Backend.torch,
    output: Output = ".",
    purpose: For = Purpose.training,
    disable: Disable = NONE,
    tuned: Tuned = None,
    memory: Memory = None,
    at: At = NONE,
    force: Force = False,
    no_cache: NoCache = False,
    format: AsFormat = Format.text,
    quiet: Quiet = False,
) -> None:
    """Write networks as PyTorch modules that need torch and nothing else."""
    start = time.perf_counter()
    how: dict[str, Any] = {"target": target.value, "purpose": purpose.value, "disable": disable}
    how |= {"tuned": record(tuned), "memory": memory, "at": sizes(at)}
    made = [_product(name, settings, how, no_cache) for name in console.progress(targets, "building")]
    places = _places(output, made, force)
    for place, product in zip(places, made, strict=True):
        _write(place, product.text)
    seconds = round(time.perf_counter() - start, 3)
    facts = [
        {**_facts(product), "output": str(place or "-"), "lines": product.text.count("\n")}
        for product, place in zip(made, places, strict=True)
    ]
    if format is Format.json:
        console.document({"ok": True, "built": facts, "seconds": seconds}, err=output == "-")
        return
    for product, fact in zip(made, facts, strict=True) if not quiet else ():
        wrote = f"{fact['output']}, {fact['lines']} lines, {seconds:.2f} s"
        console.table([("built", fact["name"]), *_costs(product), ("wrote", wrote)], err=output == "-")


@app.command()
def check(paths: Files, no_cache: NoCache = False, format: AsFormat = Format.text, quiet: Quiet = False) -> None:
    """Check every model and variant of the files, and what they `expect`."""
    for path in paths:  # a wrong name is a wrong command line, not an error in a file
        if S_ISDIR(Path(path).stat().st_mode):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
    found = {path: products.check(path, fresh=no_cache) for path in console.progress(paths, "checking")}
    wrong = [path for path, diagnostics in found.items() if any(d.severity == "error" for d in diagnostics)]
    if format is Format.json:
        listed = {path: [as_dict(diagnostic) for diagnostic in diagnostics] for path, diagnostics in found.items()}
        console.document({"ok": not wrong, "files": listed})
    else:
        console.print_diagnostics(diagnostic for diagnostics in found.values() for diagnostic in diagnostics)
        if not quiet:
            console.table((_verdict(diagnostics), path) for path, diagnostics in found.items())
    raise typer.Exit(1 if wrong else 0)


@app.command()
def show(
    target: Target,
    settings: Settings = NONE,
    ir: Annotated[bool, typer.Option("--ir", help="The graph instead, one operation a line.")] = False,
    after: Annotated[str | None, typer.Option(metavar="PASS", help="The graph after a pass.")] = None,
    diff: Annotated[
        str | None, typer.Option(metavar="PASS", help="What a pass changes, by line of the source.")
    ] = None,
    purpose: For = Purpose.training,
    disable: Disable = NONE,
    format: AsFormat = Format.text,
) -> None:
    """Print a network as a tree, with the axes, parameters and multiply-adds of its parts."""
    from archlang.ir import listing
    from archlang.passes import Options

    network = architecture(target, settings)
    if after or diff:
        done = network.optimised(Options(purpose.value, tuple(disable)))
        text = listing(done.stage(after)) if after else "\n".join(done.changes(str(diff)))
    else:
        text = listing(network.graph) if ir else network.show()
    if format is Format.json:
        console.document({"ok": True, **_facts(network), "text": text})
    else:
        typer.echo(text)


@app.command()
def explain(
    target: Target,
    settings: Settings = NONE,
    backend: ForTarget = Backend.torch,
    purpose: For = Purpose.training,
    disable: Disable = NONE,
    memory: Memory = None,
    measure: Measure = False,
    at: At = NONE,
    format: AsFormat = Format.text,
) -> None:
    """Say what the passes do, and which algorithm each operation takes, and why, where there are several."""
    from archlang.measure import folding_errors
    from archlang.passes import Options, budget

    network = architecture(target, settings)
    needed = budget(memory, {} if measure and memory is None else sizes(at))
    options = Options(purpose.value, tuple(disable), budget=needed).for_target(backend.value)
    errors = folding_errors(network, sizes(at), disable) if measure else None
    if format is Format.json:
        events = [event.as_dict() for event in network.optimised(options).events]
        found = [asdict(choice) for choice in network.choices(options, backend.value)]
        said = {"passes": events, "choices": found, **({"errors": asdict(errors)} if errors else {})}
        console.document({"ok": True, **_facts(network), **said})
    else:
        typer.echo("\n".join([network.explain(options, backend.value), *([errors.text()] if errors else [])]))


@app.command()
def fmt(
    paths: Paths,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 if a file would change.")] = False,
    format: AsFormat = Format.text,
    quiet: Quiet = False,
) -> None:
    """Lay out .arch files in the one canonical way."""
    if paths == [Path("-")]:
        typer.echo(_formatted(sys.stdin.buffer.read(), "<stdin>"), nl=False)
        return
    every = list(_arch_files(paths))
    texts = {path: _formatted(path.read_bytes(), str(path)) for path in every}
    changed = {path: text for path, text in texts.items() if text.encode() != path.read_bytes()}
    for path, text in () if check else changed.items():
        files.write(path, text)
    if format is Format.json:
        console.document(
            {"ok": not (check and changed), "changed": [str(path) for path in changed], "files": len(every)}
        )
    elif not quiet:
        word = "would change" if check else "changed"
        rows = [(word, str(path)) for path in changed]
        console.table([*rows, ("unchanged", console.plural(len(every) - len(changed), "file"))])
    raise typer.Exit(1 if check and changed else 0)


@app.command()
def run(
    target: Target,
    inputs: Inputs,
    settings: Settings = NONE,
    weights: Weights = None,
    map: Map = None,
    normalize: Annotated[Normalize, typer.Option(help="What images are brought to.")] = Normalize.imagenet,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many classes to print.")] = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the outputs as .safetensors.")] = None,
    seed: Seed = 0,
    allow_python: Modules = NONE,
    format: AsFormat = Format.text,
) -> None:
    """Run a network on files."""
    from archlang import feed

    network = architecture(target, settings)
    if weights is not None:
        weights.stat()
    with console.status("reading inputs"):
        tensors = feed.read_inputs(inputs, network.inputs, normalize.value)
    with console.status("making the network"):
        module = feed.module(network, seed, weights, map, allow_python)
    start = time.perf_counter()
    with console.status("running"):
        outputs = feed.run(module, tensors, network)
    seconds = round(time.perf_counter() - start, 4)
    if output is not None:
        feed.write_outputs(outputs, output)
    results = {name: feed.describe(tensor, network.outputs[name], top) for name, tensor in outputs.items()}
    if format is Format.json:
        console.document({"ok": True, **_facts(network), "seconds": seconds, "outputs": results})
        return
    origin = f"weights of {weights}" if weights else f"random weights (seed {seed}): a trial, the answer means nothing"
    console.table([("ran", f"{_facts(network)['name']} in {seconds:.2f} s"), ("with", origin)])
    for name, result in results.items():
        console.table(_result(name, result))


def main() -> None:
    """The command `archlang`: runs it and leaves with its exit code; a mistake of the user is never a traceback."""
    gc.disable()  # a command is short: looking for cycles costs a tenth of it and frees nothing that matters
    os.environ.setdefault(
        "PYDANTIC_DISABLE_PLUGINS", "true"
    )  # archlang uses none, and to look for them reads every package
    arguments = sys.argv[1:]
    as_json = "--format=json" in arguments or ("--format", "json") in pairwise(arguments)
    try:
        sys.exit(app(arguments, prog_name="archlang", standalone_mode=False))
    except ArchError as failure:
        console.failure(failure.diagnostics, as_json)
        sys.exit(2 if all(d.code.startswith("A9") for d in failure.diagnostics) else 1)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:  # the reader of stdout has seen enough
        sys.stderr.close()
        sys.exit(1)
    except OSError as failure:
        reason = f"{failure.filename or 'the system'}: {failure.strerror or failure}"
        console.failure([Diagnostic("A902", f"a file cannot be read or written: {reason}")], as_json)
        sys.exit(2)
    except UsageError as failure:
        title = failure.format_message().rstrip(".")  # type: ignore[attr-defined]
        console.failure([Diagnostic("A901", title[:1].lower() + title[1:], help=_usage_help(failure))], as_json)
        sys.exit(2)
    except Exception as failure:
        if "ARCHLANG_TRACEBACK" in os.environ:
            raise
        title = f"archlang itself failed: {type(failure).__name__}: {failure}"
        console.failure([Diagnostic("A999", title, help=REPORT)], as_json)
        sys.exit(3)


def _usage_help(failure: Exception) -> str:
    context = getattr(failure, "ctx", None)
    return f"`{context.command_path if context else 'archlang'} --help` lists what there is"


def _product(target: str, settings: Sequence[str], how: Mapping[str, Any], no_cache: bool) -> products.Product:
    """What `build` makes of a target; `how` are the keywords of `source`."""
    named = parts(target)
    which = {"model": named["model"], "variant": named["variant"], "settings": list(settings)}
    return products.build(named["file"], which, how, lambda: architecture(target, settings), fresh=no_cache)


def record(tuned: Path | None) -> str:
    """The part of a record that counts here, as text; empty without one."""
    if tuned is None:
        return ""
    from archlang.tuning import read

    known = read(tuned)
    return known.only(known.device).text()


def _facts(network: "Architecture | products.Product") -> dict[str, Any]:
    costs = {"params": network.params, "macs": network.macs}
    known = {key: value if isinstance(value, int) else str(value) for key, value in costs.items()}
    return {"name": "/".join(filter(None, (network.name, network.variant))), **known}


def _costs(product: products.Product) -> list[tuple[str, str]]:
    few = product.active_params != product.params
    active = [("active", console.count(product.active_params))] if few else []  # where experts are chosen
    return [("params", console.count(product.params)), *active, ("MACs", console.count(product.macs))]


def _places(output: str, networks: Sequence[products.Product], force: bool) -> list[Path | None]:
    """The file of each network, None for stdout. Nothing that archlang did not write is replaced, unless forced."""
    if output == "-":
        return [None] * len(networks)
    folder = Path(output)
    if not folder.suffix or folder.is_dir():
        places = [folder / ("_".join(filter(None, (n.name, n.variant))) + ".py") for n in networks]
    elif len(networks) == 1:
        places = [folder]
    else:
        raise error("A901", f"{len(networks)} networks do not fit in one file, `{output}`", help="give -o a folder")
    for place in places:
        if place.is_file() and not force and not files.is_generated(place):
            raise error(
                "A903", f"`{place}` exists, and archlang did not write it", help="choose another -o, or --force"
            )
    return list(places)


def _write(place: Path | None, text: str) -> None:
    if place is None:
        typer.echo(text, nl=False)
    else:
        files.write(place, text)


def _verdict(diagnostics: Sequence[Diagnostic]) -> str:
    errors = sum(d.severity == "error" for d in diagnostics)
    warnings = len(diagnostics) - errors
    counted = [console.plural(n, noun) for n, noun in ((errors, "error"), (warnings, "warning")) if n]
    return ", ".join(counted) or "ok"


def _arch_files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.arch"))
        else:
            yield path


def _formatted(content: bytes, name: str) -> str:
    from archlang import formatter, lexer

    return formatter.format(lexer.read(content, name))


def _result(name: str, result: dict[str, Any]) -> list[tuple[str, str]]:
    shape = " x ".join(map(str, result["shape"])) or "a number"
    rows = [(name, f"{shape}, mean {result['mean']:.4g}, deviation {result['deviation']:.4g}")]
    return rows + [(f"  class {entry['class']}", f"{entry['probability']:6.1%}") for entry in result.get("top", [])]
