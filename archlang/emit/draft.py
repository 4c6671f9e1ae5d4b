"""What is known of a class while it is written: marked constants, declarations of modules and weights, helpers."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archlang import helpers
from archlang.emit import marks, names
from archlang.emit.kernels import entries
from archlang.ir import Graph

if TYPE_CHECKING:
    from archlang.emit.triton import Kernels


@dataclass(slots=True)
class Declaration:
    """What `__init__` makes under a label: a module (whose weights may start otherwise), a parameter or a buffer."""

    kind: str  # modules, parameters, buffers
    code: str
    starts: list[tuple[str, str]] = field(default_factory=list)  # (leaf, tensor)
    persistent: bool = True


def is_list(indices: Collection[str]) -> bool:
    """Whether indices are 0, 1, 2 ..."""
    return set(indices) == {str(i) for i in range(len(indices))}


class Draft:
    """One instance of a class: its code with marks, and the values of the marks."""

    def __init__(self, graph: Graph, kernels: "Kernels | None" = None) -> None:
        self.graph = graph
        self.kernels = kernels
        self.place = 0  # among the instances of its class
        self.values: list[Any] = []
        self.hints: list[str] = []
        self.lent_values: list[Any] = []  # of the marks in what layer ports hold
        self.declarations: dict[str, Declaration] = {}
        self.helpers: dict[str, None] = {}
        self.init: list[str] = []
        self.forward: list[str] = []
        self.derive: list[str] = []  # works out what weights determine
        self.base = "nn.Module"
        self.signature: list[str] = []
        self.results = 1  # how many tensors it returns
        self.of: tuple[int, ...] = ()  # which of them each output is
        self.inputs: dict[str, tuple[str, ...]] = {}  # the orders that the inputs must come in
        self.extra: list[str] = []  # free sizes that the caller must tell
        self.orders: list[tuple[str, ...]] = []  # of the results
        dotted = [node.label.partition(".")[::2] for _, node in graph.deep() if node.label]
        self.labels = {base for base, _ in dotted} | set(graph.layers)
        self._members: dict[str, set[str]] = {}
        for base, rest in dotted:
            self._members.setdefault(base, set()).add(rest)
        self._lists = {base for base, members in self._members.items() if is_list(members)}

    @property
    def doc(self) -> str:
        return getattr(self.graph, "doc", "")

    @property
    def skeleton(self) -> tuple[object, ...]:
        """Drafts with equal skeletons are one class."""
        return (self.graph.name, tuple(self.init), tuple(self.derive), tuple(self.signature), tuple(self.forward))

    def const(self, value: Any, hint: str) -> str:
        """A marked constant; tuples are marked by item, so that `(7, 7)` can become `(window, window)`."""
        value = marks.plain(value)
        if isinstance(value, tuple):
            return f"({', '.join(self.const(item, hint) for item in value)}{',' if len(value) == 1 else ''})"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return marks.literal(value)
        return self.mark(value, hint)

    def mark(self, value: Any, hint: str) -> str:
        self.values.append(value)
        self.hints.append(hint)
        return f"{marks.OPEN}{len(self.values) - 1}{marks.CLOSE}"

    def renumber(self) -> None:
        """Number the marks by their places in the code, so that equal code has equal marks; others are dropped."""
        self.lent_values = self.values
        used = marks.marks([*self.init, *self.derive, *self.forward])
        place = {mark: i for i, mark in enumerate(used)}
        self.values, self.hints = [self.values[mark] for mark in used], [self.hints[mark] for mark in used]

        def renumbered(lines: list[str]) -> list[str]:
            return [
                marks.MARK.sub(lambda match: f"{marks.OPEN}{place[int(match[1])]}{marks.CLOSE}", line) for line in lines
            ]

        self.init, self.derive, self.forward = map(renumbered, (self.init, self.derive, self.forward))

    def declare(self, label: str, declaration: Declaration) -> Declaration:
        """Make something under a label, once."""
        return self.declarations.setdefault(label, declaration)

    def spare_label(self, hint: str) -> str:
        """A label for what has no name in the state_dict."""
        taken = self.labels | set(self.declarations)
        label = names.numbered(hint, lambda name: name not in taken and names.is_attribute(name))
        self.labels.add(label)
        return label

    def reach(self, label: str) -> str:
        """How `forward` reaches what is declared under a label."""
        if label.startswith("@"):
            return names.local(label[1:])
        base, _, index = label.partition(".")
        declaration = self.declarations.get(label)
        kind = declaration.kind if declaration else "modules"
        path = f"self.{base}" if names.is_attribute(base) else f'self._{kind}["{base}"]'
        if not index:
            return path
        return f"{path}[{index}]" if base in self._lists else f'{path}["{index}"]'

    def need_helper(self, name: str) -> str:
        file = names.snake(name)
        known = helpers.known() | entries() | set(self.kernels.chains if self.kernels else ())
        assert file in known, f"no helper {file}.py"
        self.helpers[file] = None
        return name
