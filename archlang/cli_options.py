"""The arguments and options that commands share."""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archlang.diagnostics import error

if TYPE_CHECKING:
    from archlang.architecture import Architecture

Backend = StrEnum("Backend", ["torch", "triton", "auto"])


class Normalize(StrEnum):
    imagenet = "imagenet"
    inception = "inception"
    none = "none"


class Purpose(StrEnum):
    training = "training"
    inference = "inference"
    decoding = "decoding"


TARGET = re.compile(r"(?P<file>.*\.arch)(:(?P<model>[^:/]+))?(/(?P<variant>[^:/]+))?", re.DOTALL)
TARGET_FORM = "FILE[:MODEL][/VARIANT]"
TARGET_HELP = "net.arch, net.arch:small, net.arch:vit, net.arch:vit/small"
Target = Annotated[str, typer.Argument(metavar=TARGET_FORM, help=TARGET_HELP)]
Targets = Annotated[list[str], typer.Argument(metavar=f"{TARGET_FORM}...", help=TARGET_HELP)]
Files = Annotated[list[str], typer.Argument(metavar="FILE...", help=".arch files.")]
Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, folders, or - for stdin.")]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="A hyper-parameter: depths=[2,2,18,2].")
]
ForTarget = Annotated[
    Backend, typer.Option("--target", help="triton: with kernels for a GPU. auto: the same; the file decides.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the random weights.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="PATH", help="A .py file, a folder, or - for stdout.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither use nor keep what was made before.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that archlang did not write.")]
Inputs = Annotated[
    list[str], typer.Option("--input", "-i", metavar="[NAME=]FILE", help="An image, .npy or .safetensors.")
]
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help="A .safetensors file; random weights without it.")]
Map = Annotated[str | None, typer.Option(metavar="NAME", help="The `checkpoint` map that the weights follow.")]
Modules = Annotated[
    list[str], typer.Option("--allow-python", metavar="MODULE", help="Where `foreign` ops may come from.")
]
For = Annotated[
    Purpose,
    typer.Option(
        "--for",
        help="inference: a network that only evaluates. decoding: one that goes on where it stopped.",
    ),
]
Disable = Annotated[
    list[str], typer.Option("--disable", metavar="NAME", help="A pass or rule to leave out; `explain` lists them.")
]
Tuned = Annotated[Path | None, typer.Option(metavar="FILE", help="A record of `archlang tune`, to choose by.")]
Memory = Annotated[
    str | None,
    typer.Option(metavar="AMOUNT", help="What a step of training may hold, as 8GiB: the rest is made again."),
]
At = Annotated[list[str], typer.Option(metavar="NAME=SIZE", help="A free size for --memory and --measure: b=8.")]
Measure = Annotated[bool, typer.Option("--measure", help="Run both forms: the largest error of folding.")]
NONE: list[str] = []


def sizes(texts: Iterable[str]) -> dict[str, int]:
    """`b=8` as a free size and its value."""
    found = {}
    for text in texts:
        name, _, size = text.partition("=")
        if not re.fullmatch(r"0*[1-9][0-9]{0,11}", size.strip()):
            raise error("A901", f"`{text}` is not a size", help="write NAME=SIZE: b=8")
        found[name.strip()] = int(size)
    return found


def parts(target: str) -> re.Match[str]:
    """The `file` of a target, and its `model` and `variant` where it names them."""
    found = TARGET.fullmatch(target)
    if found is None:
        raise error("A901", f"`{target}` does not name a network", help=f"write {TARGET_FORM}: {TARGET_HELP}")
    return found


def architecture(target: str, settings: Sequence[str] = ()) -> "Architecture":
    """What `FILE[:MODEL][/VARIANT]` names; one name alone is a model's, or a variant's of the only model."""
    from archlang.compile import load

    named = parts(target)
    program, model, variant = load(named["file"]), named["model"], named["variant"]
    if model and not variant and model not in program.models:
        model, variant = None, model
    return program.architecture(model=model, variant=variant, set_texts=list(settings))
