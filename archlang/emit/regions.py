"""Blocks that repeat: what `compile_blocks` compiles, each class once for all that are alike."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archlang.emit.classes import Class
from archlang.emit.draft import Draft
from archlang.emit.lines import fit
from archlang.ir import Call, Graph

FEW = 3  # blocks: fewer are not worth a method


def repeated(graphs: Sequence[Graph], of: Mapping[str, tuple[Class, Draft]]) -> list[str]:
    """The classes of the outermost blocks that stand several times in a network, alike but for rates, and of those in
    one list with them. `graphs` are all of it, each after those that it calls.
    """
    runs, alike = Counter({graphs[-1].digest: 1}), Counter[tuple[str, Any]]()
    for graph in reversed(graphs):
        made, draft = of[graph.digest]
        alike[made.name, _whole(made.values(draft))] += runs[graph.digest]
        for node in graph:
            if isinstance(node.op, Call):
                runs[node.op.graph.digest] += runs[graph.digest]
    many = {name for (name, _), count in alike.items() if count >= FEW}
    found = set(_outermost(graphs[-1], of, many, set()))
    return [name for name in dict.fromkeys(of[graph.digest][0].name for graph in graphs) if name in found]


def _outermost(graph: Graph, of: Mapping[str, tuple[Class, Draft]], many: set[str], seen: set[str]) -> Iterator[str]:
    """A list of blocks is taken whole: its first is often of another class than those after it."""
    seen.add(graph.digest)
    lists: dict[str, list[Graph]] = {}
    for node in graph:
        if isinstance(node.op, Call):
            base, dot, _ = (node.label or "").partition(".")
            lists.setdefault(base if dot else f"{node.id}", []).append(node.op.graph)
    for blocks in lists.values():
        names = [of[block.digest][0].name for block in blocks]
        if many & set(names):
            yield from names
        else:
            for block in blocks:
                yield from _outermost(block, of, many, seen) if block.digest not in seen else ()


def _whole(value: Any) -> Any:
    """A value without the fractions in it, which compiled code takes as inputs."""
    if isinstance(value, tuple | list):
        return tuple(map(_whole, value))
    return None if isinstance(value, float) else value


def method(names: Sequence[str]) -> list[str]:
    """`compile_blocks` of a model; nothing where no block repeats."""
    if not names:
        return []
    kinds = names[0] if len(names) == 1 else f"({', '.join(names)})"
    return [
        "def compile_blocks(self, **options: Any) -> None:",
        '    """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""',
        "    for module in self.modules():",
        *(f"        {line}" for line in fit(f"if isinstance(module, {kinds}):", 12)),
        "            module.compile(**options)",
    ]


def captured(draft: Draft) -> list[str]:
    """`graph` of a model that has kernels."""
    return [
        f"def graph(self, *inputs: torch.Tensor) -> {draft.need_helper('Captured')}:",
        '    """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""',
        "    return Captured(self, inputs)",
    ]
