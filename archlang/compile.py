"""One page: text to program, program to architecture, architecture to PyTorch. The face of archlang for Python.

program = archlang.load("examples/maxvit.arch")
network = program.maxvit(variant="tiny", classes=10)
print(network.show(), network.params, network.macs)
module = network.module(seed=0)
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from archlang import syntax
from archlang.architecture import Architecture
from archlang.diagnostics import ArchError, Collector, Diagnostic, Label, error, suggest
from archlang.elaborate.files import Files, Module, sources
from archlang.elaborate.finder import Finder, read_file
from archlang.elaborate.models import Text, elaborate, variants
from archlang.elaborate.names import check_names
from archlang.lexer import read
from archlang.parser import deep_recursion
from archlang.source import Source
from archlang.syntax import Variant

__all__ = ["Architecture", "Program", "check", "format_text", "load", "loads"]


def load(path: str | Path) -> "Program":
    """The program in a file. Raises `ArchError` with every mistake in it and in the files that it uses."""
    return opened(path).checked()


def opened(path: str | Path) -> "Program":
    """The program in a file, its mistakes kept for `check`. Raises `ArchError` where it cannot even be parsed."""
    return _program(read_file(Path(path)), Path(path).parent)


def loads(text: str, name: str = "<string>") -> "Program":
    """The program in a text. It can use the standard library, but no other files."""
    return _program(read(text.encode("utf-8", "surrogatepass"), name), None).checked()


def _program(source: Source, root: Path | None) -> "Program":
    collector = Collector()
    with deep_recursion():
        files = Files(Finder(root), collector)
        module = files.read(source)
        collector.check()
        for used in files.modules.values():
            for failure in check_names(used) if not used.source.name.startswith("std.") else ():
                collector.add(*failure.diagnostics)
    return Program(module, collector)


def check(path: str | Path) -> list[Diagnostic]:
    """Every error and warning of a file: of all models with all variants, and of what they `expect`."""
    try:
        return opened(path).check()
    except ArchError as failure:
        return list(failure.diagnostics)


def format_text(text: str, name: str = "<string>") -> str:
    """The canonical layout of a program's text."""
    from archlang.formatter import format

    return format(read(text.encode("utf-8", "surrogatepass"), name))


# ---- programs
class Program:
    """A checked file. Its models are attributes: `program.maxvit(variant="tiny", classes=10)` is an `Architecture`."""

    def __init__(self, module: Module, found: Collector) -> None:
        self._module = module
        self._found = found
        self.models = module.models

    def checked(self) -> "Program":
        """The program itself; raises `ArchError` where its text alone shows a mistake."""
        self._found.check()
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.models:
            raise AttributeError(f"{self._module.source.name} has no model `{name}`")
        return lambda variant=None, **settings: self.architecture(name, variant, settings)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.models]

    def __repr__(self) -> str:
        return f"<program {self._module.source.name}: {', '.join(self.models)}>"

    def architecture(
        self,
        model: str | None = None,
        variant: str | None = None,
        settings: Mapping[str, Any] | None = None,
        set_texts: Iterable[str] = (),
    ) -> Architecture:
        """A model (left out where there is one) with the settings of a variant and others; `set_texts` are
        `name=expression`.
        """
        chosen = self._model(model)
        given = {**(settings or {}), **dict(_setting(text) for text in set_texts)}
        with deep_recursion():
            return Architecture(elaborate(self._module, chosen, variant, given), given)

    @property
    def sources(self) -> dict[str, Source]:
        """The texts that it is made of, by name: of its file, and of all that this uses."""
        return sources(self._module)

    def variants(self, model: str) -> list[str]:
        """The names of a model's variants."""
        return list(variants(self.models[model]))

    def check(self) -> list[Diagnostic]:
        """Elaborate every model with every variant and verify what they expect."""
        from archlang.analysis.expectations import expectations

        collector = Collector(list(self._found.found))
        for model in self.models.values():
            plain: Architecture | None = None
            for variant in [None, *variants(model).values()]:
                known = len(collector.found)
                with collector.catch():
                    network = self._variant(model, variant, plain)
                    plain = plain or network
                    collector.add(*network.elaborated.warnings)
                    collector.add(*expectations(network, self.architecture))
                    if network is plain or network.elaborated.graph is not plain.elaborated.graph:
                        _check_maps(network, collector)
                if variant is not None:
                    collector.found[known:] = [_in_variant(found, variant) for found in collector.found[known:]]
        return sorted(collector.found, key=_place)

    def _variant(
        self, model: syntax.Model, variant: syntax.Variant | None, plain: "Architecture | None"
    ) -> Architecture:
        """A variant of a model; one without settings is the `plain` network under its name."""
        if plain is None or plain.variant or variant is None or variant.settings or variant.base:
            return self.architecture(model.name, variant.name if variant else None)
        return Architecture(replace(plain.elaborated, variant=variant.name), {})

    def _model(self, name: str | None) -> Any:
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        known = ", ".join(self.models) or "none"
        if name is None:
            title = f"the file has {'several models: ' + known if self.models else 'no model'}"
            raise error("A507", title, help="write FILE:MODEL" if self.models else None)
        if name not in self.models:
            raise error(
                "A507",
                f"{self._module.source.name} has no model `{name}`",
                help=suggest(name, self.models) or f"it has {known}",
            )
        return self.models[name]


def _check_maps(network: Architecture, collector: Collector) -> None:
    for name in network.maps:
        with collector.catch():
            network.map(name)


def _place(found: Diagnostic) -> tuple[str, int]:
    """From the top of each file to its end."""
    return next(((label.span.source.name, label.span.start) for label in found.labels), ("", 0))


def _in_variant(found: Diagnostic, variant: Variant) -> Diagnostic:
    """What only a variant shows says so."""
    if f"`{variant.name}`" in found.title or any(label.span in variant.span for label in found.labels):
        return found
    return replace(found, labels=(*found.labels, Label(variant.span, "with this variant")))


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise error("A901", f"`{text}` is not a setting", help="write NAME=VALUE: depths=[2,2,18,2]")
    return name.strip(), Text(value.strip())


# ---- architectures
