"""One page: text to program, program to architecture, architecture to PyTorch. The face of archlang for Python.

program = archlang.load("examples/maxvit.arch")
network = program.maxvit(variant="tiny", classes=10)
print(network.show(), network.params, network.macs)
module = network.module(seed=0)
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archlang import __version__, syntax
from archlang.diagnostics import ArchError, Collector, Diagnostic, Label, error, suggest
from archlang.elaborate.files import Files, Module, sources
from archlang.elaborate.finder import Finder, read_file
from archlang.elaborate.models import Elaborated, Text, elaborate, variants
from archlang.elaborate.names import check_names
from archlang.facts import Condition
from archlang.ir import Graph
from archlang.lexer import read
from archlang.parser import deep_recursion
from archlang.passes import Optimised, Options, Purpose, budget, optimise
from archlang.rewrite import report
from archlang.shapes import TensorType
from archlang.sizes import Size
from archlang.source import Source
from archlang.syntax import Variant

if TYPE_CHECKING:
    from torch import nn

    from archlang.analysis.cost import Cost
    from archlang.analysis.explain import Choice
    from archlang.analysis.memory import Estimate

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
    ) -> "Architecture":
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
                    for name in network.maps:
                        with collector.catch():
                            network.map(name)
                if variant is not None:
                    collector.found[known:] = [_in_variant(found, variant) for found in collector.found[known:]]
        return sorted(collector.found, key=_place)

    def _variant(
        self, model: syntax.Model, variant: syntax.Variant | None, plain: "Architecture | None"
    ) -> "Architecture":
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
class Architecture:
    """A model with its settings as a typed graph: what it costs, its PyTorch source, its module."""

    def __init__(self, elaborated: Elaborated, settings: Mapping[str, Any]) -> None:
        self.elaborated = elaborated
        self._given = dict(settings)
        self._optimised: dict[Options, Optimised] = {}

    @property
    def name(self) -> str:
        return self.elaborated.model.name

    @property
    def variant(self) -> str | None:
        return self.elaborated.variant

    @property
    def graph(self) -> Graph:
        return self.elaborated.graph

    @property
    def sources(self) -> dict[str, Source]:
        """The texts that it follows from, by name: of its file, and of all that this uses."""
        return sources(self.elaborated.module)

    @property
    def inputs(self) -> dict[str, TensorType]:
        """The types of the inputs by name."""
        return {name: value.type for name, value in self.graph.inputs.items()}

    @property
    def outputs(self) -> dict[str, TensorType]:
        """The types of the outputs by name."""
        return {name: value.type for name, value in self.graph.outputs}

    @property
    def conditions(self) -> dict[Condition, str]:
        """What free sizes must meet, with the message of the `require` that said so."""
        return self.elaborated.conditions

    @cached_property
    def cost(self) -> "Cost":
        from archlang.analysis.cost import cost

        return cost(self.graph)

    @cached_property
    def memory(self) -> "Estimate":
        """The bytes that its weights take and that it holds at its peak, in inference and in training, in float32."""
        from archlang.analysis.memory import estimate

        return estimate(self.optimised().graph)

    @property
    def params(self) -> Size:
        """The number of trained parameters."""
        return self.cost.params

    @property
    def macs(self) -> Size:
        """Multiply-accumulates of one forward pass of one sample: the free size `b` is 1."""
        return self.cost.at({"b": 1}).macs

    @property
    def flops(self) -> Size:
        """Operations of one sample as torch's FlopCounterMode counts them: two per multiply-accumulate."""
        return self.macs * 2

    @property
    def activation_bytes(self) -> Size:
        """The memory that the values of one forward pass of one sample take, in bytes."""
        return self.cost.at({"b": 1}).activation_bytes

    def show(self) -> str:
        """The network as a tree of its parts, with axes, parameters and multiply-accumulates."""
        from archlang.analysis.tree import tree

        return tree(self.graph, self.title, self.conditions, self.memory)

    def optimised(self, options: Options = Options()) -> Optimised:  # noqa: B008, frozen
        """The graph as it is written, and what the passes did to it."""
        if options not in self._optimised:
            with deep_recursion():
                self._optimised[options] = optimise(self.graph, options)
        return self._optimised[options]

    def explain(self, options: Options = Options(), target: str = "torch") -> str:  # noqa: B008
        """Which rules held where, which were refused and why; then which algorithm each operation takes, and why, where
        there are several, and which a kernel of a `target` that has some.
        """
        from archlang.analysis.explain import explain

        events = self.optimised(options.for_target(target)).events
        return "\n".join([*report(events), explain(self.choices(options, target))])

    def choices(self, options: Options = Options(), target: str = "torch") -> "list[Choice]":  # noqa: B008
        """What `explain` says of operations."""
        from archlang.analysis.explain import choices
        from archlang.emit.triton import said_for

        return list(choices(self.optimised(options.for_target(target)).graph, said_for(target)))

    @property
    def title(self) -> str:
        return f"{self.name}{f'/{self.variant}' if self.variant else ''}"

    def source(
        self,
        target: str = "torch",
        purpose: Purpose = "training",
        disable: Iterable[str] = (),
        tuned: str = "",
        memory: str | int | None = None,
        at: Mapping[str, int] | None = None,
    ) -> str:
        """The text of a Python module that needs torch and nothing else; its class is `class_name`. For `inference` it
        only evaluates; passes and rules in `disable` are left out; `tuned` is the text of a record of `archlang tune`;
        training holds `memory` (8GiB) at most, for the free sizes `at`.

        The target "triton" writes kernels into it for the operations that have some: they run on a GPU where Triton is
        there, and the PyTorch forms, which stay in the file, elsewhere. "auto" writes the same: the file decides.
        """
        from archlang.emit.torch import Header, emit
        from archlang.emit.triton import kernels_for

        given = Options(purpose, tuple(disable), tuned, budget(memory, at or {})).for_target(target)
        graph = self.optimised(given).graph
        settings = (f"{name}={value}" for name, value in sorted(self._given.items()))
        options = [self.title, *settings, *given.words()]
        file = self.elaborated.module.source
        header = Header(Path(file.name).name, sha256(file.text.encode()).hexdigest(), __version__, " ".join(options))
        with deep_recursion():
            return emit(
                graph,
                doc=graph.doc,
                header=header,
                conditions=list(self.conditions.items()),
                evaluate=purpose == "inference",
                kernels=kernels_for(graph, target),
            )

    @property
    def class_name(self) -> str:
        """The class of the network in `source()`."""
        from archlang.emit.torch import class_name

        return class_name(self.graph)

    def module(
        self,
        seed: int | None = None,
        allow_python: Iterable[str] = (),
        purpose: Purpose = "training",
        disable: Iterable[str] = (),
        tuned: str = "",
        target: str = "torch",
        memory: str | int | None = None,
        at: Mapping[str, int] | None = None,
    ) -> "nn.Module":
        """A new `torch.nn.Module` of `source(..)`; "auto" is "torch" without a GPU. With a seed, its weights are the
        same each time and torch's own generator is left alone.
        """
        import torch

        from archlang.emit import load as load_class
        from archlang.foreign import allow

        allow(self.graph, tuple(allow_python))
        if target == "auto" and not torch.cuda.is_available():
            target = "torch"
        made = load_class(self.source(target, purpose, disable, tuned, memory, at), self.class_name)
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            module: nn.Module = made()
        module.architecture = self  # type: ignore[assignment]
        return module

    @property
    def maps(self) -> list[str]:
        """The names of the model's checkpoint maps."""
        from archlang.checkpoint import names

        return names(self.elaborated.model)

    def map(self, name: str) -> Any:
        """A checkpoint map, checked against the weights of this network."""
        from archlang.checkpoint import compile_map

        return compile_map(self.elaborated, name)

    def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
        """For `torch.export`: a `Dim` for every free axis of every input, with the bounds and divisors that the
        conditions state.
        """
        from archlang.analysis.conditions import dynamic_shapes

        return dynamic_shapes(self.graph, self.conditions)

    def __deepcopy__(self, memo: object) -> "Architecture":
        """Copies of a module share it: nothing in it changes."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickled module goes without it."""
        return type(None), ()

    def __repr__(self) -> str:
        return f"<architecture {self.title}: {self.params} parameters, {self.macs} MACs>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.show())}</pre>"
