"""The text of a Python file, with torch only, that holds a graph as an `nn.Module`."""

import builtins
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archlang import helpers
from archlang.analysis.decoding import clock
from archlang.emit import evaluation, layout, marks, module, names, regions, training
from archlang.emit.calls import Port
from archlang.emit.classes import Class, class_namer, unify
from archlang.emit.declare import init_lines
from archlang.emit.draft import Draft
from archlang.emit.forward import Conditions, Forward
from archlang.emit.kernels import entries
from archlang.emit.lines import fit
from archlang.emit.module import View
from archlang.emit.prose import comment, docstring
from archlang.foreign import foreign_nodes
from archlang.helpers import Helper
from archlang.ir import Foreign, Graph, called

if TYPE_CHECKING:
    from archlang.emit.triton import Kernels


@dataclass(frozen=True, slots=True)
class Header:
    """Where a file came from."""

    source: str = ""
    sha256: str = ""
    version: str = ""
    settings: str = ""

    @property
    def lines(self) -> list[str]:
        """Comment lines."""
        if not self.source:
            return []
        return [
            comment(
                f"Made by archlang {self.version} from {self.source} (sha256 {self.sha256[:16]})"
                f"{self.settings and ': '}{self.settings}"
            )
        ]


@dataclass(slots=True)
class Emitted:
    """Everything between graph and text."""

    orders: dict[str, dict[str, tuple[str, ...]]]  # of the axes of the inputs of each graph
    clock: str | None = None  # the free size that counts positions of time, in a module that decodes
    kernels: "Kernels | None" = None
    classes: list[Class] = field(default_factory=list)
    of: dict[str, tuple[Class, Draft]] = field(default_factory=dict)  # by digest


def emit(
    graph: Graph,
    *,
    doc: str = "",
    header: Header | None = None,
    conditions: Conditions = (),
    evaluate: bool = False,
    decode: bool = False,
    kernels: "Kernels | None" = None,
) -> str:
    """The module text. The class of the graph itself has the name `class_name(graph)`. One that is only to `evaluate`
    works out once what its weights determine; to `decode`, it goes on where the last call stopped. Where there are
    `kernels`, they stand in for helpers.
    """
    emitted = build(graph, conditions, evaluate, decode, kernels)
    order = {id(draft): i for i, draft in enumerate(emitted.of[g.digest][1] for g in graph.children_first())}
    classes = sorted(emitted.classes, key=lambda made: min(order.get(id(draft), 0) for draft in made.drafts))
    blocks = regions.method(regions.repeated(list(graph.children_first()), emitted.of))
    main, draft = emitted.of[graph.digest]
    if kernels and kernels.found and not decode:  # a graph would begin at the same state each time
        blocks += [""] * bool(blocks) + regions.captured(draft)
    body = [_view(c, "" if c.draft.doc == doc else c.draft.doc, blocks if c is main else ()) for c in classes]
    code = [text for v in body for text in (*v.init, *v.derive, *v.forward, *v.signature, *v.blocks)]
    read = kernels.helper if kernels else helpers.helper
    pasted = [read(file) for file in _pasted(classes, "\n".join(code), read)]
    outside = [f"import {node.op.module}" for node in foreign_nodes(graph) if isinstance(node.op, Foreign)]
    inherited = [*outside, *(line for helper in pasted for line in helper.imports)]
    imports = _imports(inherited, code, [helper.text for helper in pasted])
    return module.text(
        docstring(doc, ""), (header or Header()).lines, imports, [helper.text for helper in pasted], body
    )


def class_name(graph: Graph) -> str:
    """The name of the class of a model."""
    return class_namer(_reserved)(graph.name)


def build(
    graph: Graph,
    conditions: Conditions = (),
    evaluate: bool = False,
    decode: bool = False,
    kernels: "Kernels | None" = None,
) -> Emitted:
    """Draft and unify all graphs, children first."""
    emitted = Emitted(layout.plan(graph.children_first()), clock(graph) if decode else None, kernels)
    namer = class_namer(_reserved)
    main = namer(graph.name)
    looped = {
        inner.digest
        for g in graph.children_first()
        for _, n in g.deep()
        if n.label and "." in n.label and (inner := called(n.op)) is not None
    }
    for level in _levels(graph):
        groups: dict[tuple[object, ...], list[tuple[Graph, Draft]]] = {}
        for part in level:
            draft = _draft(part, emitted, conditions if part is graph else None, evaluate)
            groups.setdefault(draft.skeleton, []).append((part, draft))
        for members in groups.values():
            first = members[0][0]
            made = unify(main if first is graph else namer(_title(first, looped)), [draft for _, draft in members])
            emitted.classes.append(made)
            emitted.of |= {part.digest: (made, draft) for part, draft in members}
    return emitted


def _title(graph: Graph, looped: set[str]) -> str:
    """What to call the class of a graph: the body of the loop `stages` is a `Stage`."""
    base, _, last = graph.name.rpartition("_")
    return f"{base}_{names.singular(last)}" if graph.digest in looped else graph.name


def _draft(graph: Graph, emitted: Emitted, root: Conditions | None, evaluate: bool) -> Draft:
    called = {child.digest: _port(*emitted.of[child.digest]) for child in graph.calls}
    draft = Forward(graph, called, emitted.orders[graph.digest], root, evaluate, emitted.clock, emitted.kernels).run()
    if evaluate:
        evaluation.arrange(draft)
    draft.init = [*training.init(draft), *init_lines(draft)]
    if evaluate:
        evaluation.settle(draft, root is not None, emitted.clock is not None)
    draft.renumber()
    return draft


def _port(made: Class, draft: Draft) -> Port:
    layers = {label[1:]: declaration for label, declaration in draft.declarations.items() if label.startswith("@")}
    return Port(
        made.name,
        made.values(draft),
        draft.inputs,
        tuple(draft.orders),
        draft.of,
        tuple(draft.extra),
        layers,
        draft.lent_values,
    )


def _levels(graph: Graph) -> list[list[Graph]]:
    """The distinct graphs by the height of what they call."""
    height: dict[str, int] = {}
    levels: list[list[Graph]] = []
    for part in graph.children_first():
        own = max((height[child.digest] + 1 for child in part.calls), default=0)
        height[part.digest] = own
        levels += [[]] * 0 if own < len(levels) else [[]]
        levels[own].append(part)
    return levels


# ---- text
def _view(made: Class, doc: str, blocks: Sequence[str]) -> View:
    draft = made.draft
    types = [marks.annotation(column) for _, column in made.arguments]
    arguments = ", ".join(
        ["self", *(f"{name}: {type_}" for (name, _), type_ in zip(made.arguments, types, strict=True))]
    )
    result = "torch.Tensor" if draft.results == 1 else f"tuple[{', '.join(['torch.Tensor'] * draft.results)}]"
    result += " | tuple[torch.Tensor, ...]" if draft.graph.exits else ""
    return View(
        made.name,
        docstring(doc, "    "),
        draft.base,
        fit(f"def __init__({arguments}) -> None:", 4),
        made.init_lines(),
        made.derive_lines(),
        fit(f"def forward({', '.join(['self', *draft.signature])}) -> {result}:", 4),
        made.forward_lines(),
        blocks,
    )


def _pasted(classes: Sequence[Class], code: str, read: Callable[[str], Helper]) -> list[str]:
    """The helpers that the code of the classes calls, each after those that it needs."""
    files: dict[str, None] = {}

    def add(file: str) -> None:
        for needed in read(file).needs:
            add(needed)
        files[file] = None

    called = {
        names.snake(word)
        for word in re.findall(r"\w+(?=\()", code)
        + re.findall(r"\b(?:partial\(\s*|(?:core|steps)=(?!partial\())(\w+)", code)
    }
    called |= {names.snake(made.draft.base) for made in classes}
    for file in sorted({file for made in classes for draft in made.drafts for file in draft.helpers} & called):
        add(file)
    return list(files)


def _imports(inherited: Sequence[str], code: Sequence[str], pasted: Sequence[str]) -> list[str]:
    """Import lines, sorted as isort does: the standard library, a blank line, torch and others."""
    found = {"import torch", "from torch import nn", *inherited}
    text = "\n".join(code)  # a chain may break its line after the first name
    if re.search(r"\bF\s*\.", text):
        found.add("import torch.nn.functional as F")
    if re.search(r"\bmath\s*\.", text):
        found.add("import math")
    if "**options: Any" in text:
        found.add("from typing import Any")
    if re.search(r"(?<![.\w])partial\(", text):
        found.add("from functools import partial")
    future = [line for line in found if line.startswith("from __future__")]
    lines = list(_merged(found.difference(future)))
    standard = [line for line in lines if line.split()[1].partition(".")[0] in sys.stdlib_module_names]
    others = [line for line in lines if line not in standard]
    groups = (future, sorted(standard, key=_import_order), sorted(others, key=_import_order))
    return [line for group in groups if group for line in ("", *group)][1:]


def _merged(lines: Iterable[str]) -> Iterator[str]:
    """`from` imports of one module in one line."""
    members: dict[str, set[str]] = {}
    for line in lines:
        if line.startswith("from "):
            module, _, imported = line.removeprefix("from ").partition(" import ")
            members.setdefault(module, set()).update(imported.split(", "))
        else:
            yield line
    # constants, classes, then functions and modules, as isort has them
    yield from (
        f"from {m} import {', '.join(sorted(names_, key=lambda n: (not n.isupper(), n[0].islower(), n)))}"
        for m, names_ in members.items()
    )


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line.split()[1]


def _reserved(name: str) -> bool:
    return name in _TAKEN or names.snake(name) in helpers.known() | entries()


_TAKEN = frozenset([*dir(builtins), "F", "nn", "torch", "math", "partial", "Any", "Tensor"])
