"""The names of a file: its blocks and models, and what it uses of others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from archlang import syntax
from archlang.diagnostics import ArchError, Collector, Label, error, suggest
from archlang.elaborate.values import BlockDef
from archlang.parser import parse
from archlang.source import Source, Span

# Finds the text of a `use`: (path, relative, the source that uses it, the place) -> source; raises ArchError.
Finder = Callable[[str, bool, Source, Span], Source]


@dataclass(eq=False)
class Module:
    """One file: what each name at its top means, and its models in order."""

    source: Source
    doc: str | None = None
    broken: bool = False  # it does not parse, so nobody knows what it has
    names: dict[str, BlockDef] = field(default_factory=dict)
    places: dict[str, tuple[Span, str]] = field(default_factory=dict)
    models: dict[str, syntax.Model] = field(default_factory=dict)


class Files:
    """Reads a file and all that it uses, each once."""

    def __init__(self, find: Finder, collector: Collector) -> None:
        self.find = find
        self.collector = collector
        self.modules: dict[str, Module] = {}
        self.reading: dict[str, Span | None] = {}  # with where each was used

    def read(self, source: Source, used: Span | None = None) -> Module:
        """The module of a file; its own errors and those of the files that it uses are collected."""
        if source.name in self.modules:
            return self.modules[source.name]
        module = self.modules[source.name] = Module(source, broken=True)
        self.reading[source.name] = used
        with self.collector.catch():
            file = parse(source)
            module.broken = False
            self._items(file, module)
        del self.reading[source.name]
        return module

    def _items(self, file: syntax.File, module: Module) -> None:
        module.doc = file.doc
        for item in file.items:
            with self.collector.catch():
                if isinstance(item, syntax.Use):
                    self._use(item, module)
                elif isinstance(item, syntax.Model):
                    _claim(module, item.name, item.name_span, "model")
                    module.models[item.name] = item
                elif isinstance(item, syntax.Block):
                    _claim(module, item.name, item.name_span, "block")
                    module.names[item.name] = BlockDef(item, module)
                else:
                    _claim(module, item.name, item.span, "foreign operation")
                    module.names[item.name] = BlockDef(item, module)

    def _use(self, use: syntax.Use, module: Module) -> None:
        source = self.find(use.path, use.relative, module.source, use.span)
        if source.name in self.reading:
            raise self._circle(source.name, use.span)
        used = self.read(source, use.span)
        if used.broken:
            for name in use.names:
                module.places[name.id] = (name.span, "import")
            return
        for name in use.names:
            with self.collector.catch():
                if name.id not in used.names:
                    title = f"`{use.path}` has no block `{name.id}`"
                    if name.id in used.models:
                        title = f"`{name.id}` is a model, and only blocks can be used"
                    raise error("A403", title, name.span, help=suggest(name.id, used.names))
                _claim(module, name.id, name.span, "import")
                module.names[name.id] = used.names[name.id]

    def _circle(self, name: str, closing: Span) -> ArchError:
        circle = list(self.reading)[list(self.reading).index(name) :]
        places = [(file, span) for file in circle[1:] if (span := self.reading[file])]
        chain = " -> ".join(PurePosixPath(file).name for file in [*circle, name])
        return error(
            "A402",
            f"files use each other in a circle: {chain}",
            Label(closing, "closes the circle"),
            *(Label(span, f"uses {PurePosixPath(file).name}") for file, span in places),
            help="move what both need to a third file",
        )


def sources(module: Module) -> dict[str, Source]:
    """The source of a file and of all that it uses, by name."""
    found: dict[str, Source] = {}
    rest = [module]
    while rest:
        part = rest.pop()
        if part.source.name not in found:
            found[part.source.name] = part.source
            rest += [block.module for block in part.names.values()]
    return found


def refuse_taken(module: Module, name: str, span: Span) -> None:
    """One name, one thing: what a file calls its blocks and imports is not bound again inside them."""
    if name in module.names:
        place, word = module.places[name]
        article = "an" if word[0] in "aeiou" else "a"
        title = f"`{name}` is already {article} {word}"
        raise error("A104", title, Label(span, "bound again here"), Label(place, f"{word} here"))


def _claim(module: Module, name: str, span: Span, word: str) -> None:
    if name in module.places:
        other, kind = module.places[name]
        raise error("A102", f"`{name}` is defined twice", Label(span, f"{word} here"), Label(other, f"{kind} here"))
    module.places[name] = (span, word)
