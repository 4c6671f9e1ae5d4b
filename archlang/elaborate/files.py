"""The names of a file: its blocks and models, and what it uses of others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from archlang import syntax
from archlang.diagnostics import Collector, Label, error, suggest
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
    names: dict[str, BlockDef] = field(default_factory=dict)
    places: dict[str, tuple[Span, str]] = field(default_factory=dict)
    models: dict[str, syntax.Model] = field(default_factory=dict)


class Files:
    """Reads a file and all that it uses, each once."""

    def __init__(self, find: Finder, collector: Collector) -> None:
        self.find = find
        self.collector = collector
        self.modules: dict[str, Module] = {}
        self.reading: list[str] = []

    def read(self, source: Source) -> Module:
        """The module of a file; its own errors and those of the files that it uses are collected."""
        if source.name in self.modules:
            return self.modules[source.name]
        module = self.modules[source.name] = Module(source)
        self.reading.append(source.name)
        with self.collector.catch():
            self._items(parse(source), module)
        self.reading.pop()
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
            chain = " -> ".join(
                PurePosixPath(name).name for name in [*self.reading[self.reading.index(source.name) :], source.name]
            )
            raise error("A402", f"files use each other in a circle: {chain}", use.span)
        used = self.read(source)
        for name in use.names:
            with self.collector.catch():
                if name.id not in used.names:
                    what = "is a model, and only blocks can be used" if name.id in used.models else "is not in it"
                    raise error("A403", f"`{name.id}` {what}: {use.path}", name.span, help=suggest(name.id, used.names))
                _claim(module, name.id, name.span, "import")
                module.names[name.id] = used.names[name.id]


def _claim(module: Module, name: str, span: Span, word: str) -> None:
    if name in module.places:
        other, kind = module.places[name]
        raise error("A102", f"`{name}` is defined twice", Label(span, f"{word} here"), Label(other, f"{kind} here"))
    module.places[name] = (span, word)
