"""What `build` and `check` answer, from the cache where nothing has changed that the answer follows from.

That is the text of the file, the texts that it uses, all options, and the compiler itself. What a text uses is kept
under that text, so that an answer is found without parsing. What is kept comes from the texts that were compiled, not
from files that may have changed since. Mistakes that stop a build are not kept, but found again; those that `check`
lists are kept as data, with the texts that they point into.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from archlang import cache
from archlang.diagnostics import ArchError, Diagnostic, Label
from archlang.elaborate.finder import Finder, read_file
from archlang.fingerprint import fingerprint
from archlang.source import BUILTIN, Source, Span

if TYPE_CHECKING:
    from archlang.compile import Architecture


@dataclass(frozen=True, slots=True)
class Product:
    """A network as Python text, and the figures that are printed of it: numbers, or expressions in free sizes."""

    name: str
    variant: str | None
    params: int | str
    active_params: int | str
    macs: int | str
    text: str


def build(
    file: str,
    which: Mapping[str, Any],
    how: Mapping[str, Any],
    make: Callable[[], "Architecture"],
    fresh: bool = False,
) -> Product:
    """A network of a file: `which` one, that `make` makes, is written as `source(**how)`; `fresh` leaves the cache
    alone.
    """
    question = Question("build", file, {"which": dict(which), "how": dict(how)})
    if not fresh and (kept := question.answer()) is not None:
        return Product(**kept)
    made = make()
    params, active, macs = map(_plain, (made.params, made.cost.active_params, made.macs))
    product = Product(made.name, made.variant, params, active, macs, made.source(**how))
    if not fresh:
        question.keep(made.sources.values(), asdict(product))
    return product


def check(file: str, fresh: bool = False) -> list[Diagnostic]:
    """Every error and warning of a file; `fresh` leaves the cache alone."""
    question = Question("check", file, {})
    if not fresh and (kept := question.answer()) is not None:
        return _diagnostics(kept)
    from archlang.compile import opened

    try:
        program = opened(file)
    except ArchError as failure:
        return list(failure.diagnostics)
    found = program.check()
    if not fresh:
        question.keep(program.sources.values(), _as_data(found))
    return found


def _plain(size: Any) -> int | str:
    return size if isinstance(size, int) else str(size)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a file."""

    kind: str
    file: str
    options: Mapping[str, Any]

    def answer(self) -> Any:
        """The answer to the same question about the same texts; None where it is not known."""
        with suppress(ArchError):  # of a file that cannot be read
            source = read_file(Path(self.file))
            used = cache.get("uses", self._uses_key(source.text)) if fingerprint() else None
            if used is not None:
                find = Finder(Path(self.file).parent)
                texts = {path: find(path, True, source, BUILTIN).text for path in used}
                return cache.get(self.kind, self.key(source.text, texts))
        return None

    def keep(self, sources: Iterable[Source], answer: Any) -> None:
        """Keep the answer that was found for these texts."""
        if fingerprint() is None:
            return
        own = str(Path(self.file))
        texts = {source.name: source.text for source in sources if not _is_standard(source)}
        text = texts.pop(own)
        folder = Path(self.file).parent
        used = {str(PurePath(name).relative_to(folder)): texts[name] for name in sorted(texts)}
        cache.put("uses", self._uses_key(text), list(used))
        cache.put(self.kind, self.key(text, used), answer)

    def _uses_key(self, text: str) -> str:
        return cache.digest(fingerprint(), text)

    def key(self, text: str, used: Mapping[str, str]) -> str:
        return cache.digest(fingerprint(), self.file, dict(self.options), text, dict(used))


def _is_standard(source: Source) -> bool:
    """Whether a text is of the standard library, and so a part of the compiler."""
    return source.name.startswith("std.") and not source.name.endswith(".arch")


# ---- diagnostics as data
def _as_data(found: Iterable[Diagnostic]) -> dict[str, Any]:
    found = list(found)
    sources = list({id(label.span.source): label.span.source for d in found for label in d.labels}.values())
    place = {id(source): index for index, source in enumerate(sources)}

    def labels(diagnostic: Diagnostic) -> list[list[Any]]:
        return [[place[id(x.span.source)], x.span.start, x.span.end, x.text] for x in diagnostic.labels]

    return {
        "sources": [[source.name, source.text] for source in sources],
        "found": [[d.code, d.title, labels(d), d.help, d.severity] for d in found],
    }


def _diagnostics(data: Mapping[str, Any]) -> list[Diagnostic]:
    sources = [Source(name, text) for name, text in data["sources"]]

    def labels(listed: Iterable[Any]) -> tuple[Label, ...]:
        return tuple(Label(Span(sources[place], start, end), text) for place, start, end, text in listed)

    return [Diagnostic(code, title, labels(listed), *rest) for code, title, listed, *rest in data["found"]]
