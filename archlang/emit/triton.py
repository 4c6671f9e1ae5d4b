"""Which operations of a graph a kernel takes, and the text of the kernels: Triton beside the PyTorch forms."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from archlang import helpers
from archlang.emit import names
from archlang.emit.chains import features
from archlang.emit.chains import template as template_of
from archlang.emit.kernels import COMMON, PREFIX, Features, Kernel, Served, kernels
from archlang.emit.lines import fit, logical
from archlang.emit.templates import template
from archlang.helpers import Helper
from archlang.ir import Chain, FusedScan, Graph
from archlang.passes.options import has_kernels
from archlang.primitive import Primitive


class Kernels:
    """The kernels of one file: they stand in for helpers where they serve, with the tiles of a record."""

    def __init__(self, graph: Graph, tuned: str = "") -> None:
        found: dict[str, tuple[Kernel, list[Features]]] = {}
        for part in graph.children_first():
            for holder, node in part.deep():
                for kernel, served in serving(node.op, holder.input_types(node)):
                    for file in filter(None, (kernel.helper, kernel.stands_on)):
                        if served.features is not None:
                            found.setdefault(file, (kernel, []))[1].append(served.features)
        self.chains = _chains(graph)
        self._features = {file: kernel.joined(features) for file, (kernel, features) in found.items()}
        self._configs = _configs(tuned, {*COMMON, *self._features, *self.chains}) if tuned else {}

    @property
    def found(self) -> bool:
        """Whether there are any."""
        return bool(self._features or self.chains)

    def name(self, helper: str, op: Primitive, types: Sequence[Any]) -> str:
        """What an operation calls instead of a helper: the kernel that takes it, else the helper."""
        if isinstance(op, Chain | FusedScan):
            return next(name for name, chain in self.chains.items() if chain.skeleton == op.skeleton)
        taken = [kernel.helper for kernel, served in serving(op, types) if served.features is not None]
        if names.snake(helper) not in taken:
            return helper
        return f"Triton{helper}" if helper[0].isupper() else f"{PREFIX}{helper}"

    def helper(self, file: str) -> Helper:
        """The text under a name that `name` gave, or of a helper."""
        if file == "kernels":
            written = [(json.dumps(case), json.dumps(config)) for case, config in self._configs.items()]
            return helpers.parsed(text(file, configs=written))
        if file in COMMON:
            return helpers.parsed(text(file, **self._features.get(file, {})))
        if file in self.chains:
            op = self.chains[file]
            return helpers.parsed(text(template_of(op), **features(op, file)))
        kernel = file.removeprefix(PREFIX)
        return (
            helpers.helper(file) if kernel == file else helpers.parsed(text(kernel, **self._features.get(kernel, {})))
        )


def _chains(graph: Graph) -> dict[str, Chain | FusedScan]:
    """The chains and scans of a graph, of those with one skeleton the first, by the names of their kernels."""
    found: dict[Any, Chain | FusedScan] = {}
    for part in graph.children_first():
        for _, node in part.deep():
            if isinstance(node.op, Chain | FusedScan):
                found.setdefault(node.op.skeleton, node.op)
    named: dict[str, Chain | FusedScan] = {}
    for chain in found.values():
        named[names.numbered(chain.title, lambda name: name not in named)] = chain
    return named


def _configs(tuned: str, kernels: set[str]) -> dict[str, dict[str, int]]:
    """The tiles that a record of `archlang tune` has for some kernels."""
    from archlang.tuning import fastest, loads  # knows operations, which not every network has

    return fastest(loads(tuned), kernels)


def said_for(target: str) -> Callable[[Primitive, Sequence[Any]], str] | None:
    """What there is to say of an operation, for a target that has kernels."""
    return said if has_kernels(target) else None


def serving(op: Primitive, types: Sequence[Any]) -> Iterator[tuple[Kernel, Served]]:
    """The kernels for an operation, each with what it says of this application."""
    for kernel in kernels().values():
        if kernel.op == op.name:
            yield kernel, kernel.serves(op, types)


def said(op: Primitive, types: Sequence[Any]) -> str:
    """Which kernel takes an operation, or why none does; empty where there is none for it."""
    if isinstance(op, Chain):
        return f"kernel {op.title}: {op.does}"
    if isinstance(op, FusedScan):
        return f"kernel {op.title}: in one pass along `{op.axis.name}`, the carries in registers"
    found = list(serving(op, types))
    taken = [f"kernel {kernel.helper}: {kernel.does}" for kernel, served in found if served.features is not None]
    return "; ".join(taken or [f"no kernel: {served.reason}" for _, served in found if served.reason])


def text(kernel: str, **features: Any) -> str:
    """A kernel for some features, laid out."""
    rendered = template(f"triton/{kernel}.py.j2").render(features)
    return "".join(f"{line}\n" for statement in logical(rendered) for line in fit(statement, 0))
