"""A network: what it costs, its PyTorch source, its module."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archlang import __version__
from archlang.elaborate.files import sources
from archlang.elaborate.models import Elaborated
from archlang.facts import Condition
from archlang.ir import Graph
from archlang.parser import deep_recursion
from archlang.passes import Optimised, Options, Purpose, budget, optimise
from archlang.rewrite import report
from archlang.shapes import TensorType
from archlang.sizes import Size
from archlang.source import Source

if TYPE_CHECKING:
    from torch import nn

    from archlang.analysis.cost import Cost
    from archlang.analysis.explain import Choice
    from archlang.analysis.memory import Estimate
    from archlang.emit.triton import Kernels


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
        only evaluates, for `decoding` it does so one piece of a sequence after another; passes and rules in `disable`
        are left out; `tuned` is the text of a record of `archlang tune`; training holds `memory` (8GiB) at most, for
        the free sizes `at`.

        The target "triton" writes kernels into it for the operations that have some: they run on a GPU where Triton is
        there, and the PyTorch forms, which stay in the file, elsewhere. "auto" writes the same: the file decides.
        """
        from archlang.emit.torch import Header, emit

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
                evaluate=given.evaluates,
                decode=purpose == "decoding",
                kernels=_kernels(graph, tuned) if given.kernels else None,
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


def _kernels(graph: Graph, tuned: str) -> "Kernels":
    from archlang.emit.triton import Kernels  # knows all kernels

    return Kernels(graph, tuned)
