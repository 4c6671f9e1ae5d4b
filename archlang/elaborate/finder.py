"""Finds the files that `use` names, and reads files."""

from dataclasses import replace
from pathlib import Path

from archlang import resources
from archlang.diagnostics import ArchError, Label, error, suggest
from archlang.lexer import read
from archlang.source import Source, Span


def read_file(path: Path) -> Source:
    try:
        return read(path)
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or "it is not the name of a file"
        raise error("A902", f"`{_short(path)}` cannot be read: {reason.lower()}") from None


def _short(path: Path | str) -> str:
    return str(path) if len(str(path)) <= 80 else f"{str(path)[:40]}...{str(path)[-30:]}"


class Finder:
    """Finds what `use` names: the standard library, or a file in the tree below the folder of the program."""

    def __init__(self, root: Path | None) -> None:
        self.root = root.resolve() if root is not None else None

    def __call__(self, path: str, relative: bool, user: Source, span: Span) -> Source:
        return self._file(path, user, span) if relative else _standard(path, span)

    def _file(self, path: str, user: Source, span: Span) -> Source:
        if self.root is None:
            raise error(
                "A401",
                "a program without a file can only use the standard library",
                span,
                help="write `use std.FAMILY: NAME`",
            )
        target, shown = Path(user.name).parent / path, _short(path)
        try:
            real = target.resolve()
            found = real.is_file(), real.is_dir()
        except (OSError, RuntimeError, ValueError):  # a name too long, a circle of links, a NUL
            raise error("A401", f"`{shown}` cannot be the name of a file", span) from None
        if Path(path).is_absolute() or not real.is_relative_to(self.root):
            raise error(
                "A404",
                f"`{shown}` leaves the folder of the program",
                span,
                help="files are used from the program's own folder and below it",
            )
        if real.suffix != ".arch":
            raise error("A401", f"`{shown}` is not an .arch file", span)
        if found == (False, True):
            raise error("A401", f"`{shown}` is a folder", span)
        if found == (False, False):
            near = suggest(real.name, (p.name for p in real.parent.glob("*.arch")))
            raise error("A401", f"there is no file `{shown}`", span, help=near)
        try:
            return read_file(target)
        except ArchError as failure:
            raise ArchError(
                *(replace(d, labels=(*d.labels, Label(span, "used here"))) for d in failure.diagnostics)
            ) from None


def _standard(path: str, span: Span) -> Source:
    library, _, family = path.partition(".")
    known = {
        f"std.{file.name.removesuffix('.arch')}"
        for file in resources.folder("stdlib").iterdir()
        if file.name.endswith(".arch")
    }
    if library != "std" or path not in known:
        near = suggest(family, (name.removeprefix("std.") for name in known))
        help = near.replace("`", "`std.", 1) if near else f"there are {', '.join(sorted(known))}"
        raise error("A401", f"there is no `{path}`", span, help=help)
    return Source(path, resources.read_text("stdlib", f"{family}.arch"))
