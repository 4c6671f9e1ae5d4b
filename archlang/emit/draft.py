"""What is known of a class while it is written: marked constants, declarations of modules and weights, helpers."""

from dataclasses import dataclass, field
from typing import Any

from archlang import helpers
from archlang.emit import marks, names
from archlang.ir import Graph


@dataclass(slots=True)
class Declaration:
    """What `__init__` makes under a label: a module (with weights that start in their own way), a parameter or a buffer."""

    kind: str  # modules, parameters, buffers
    code: str
    starts: list[tuple[str, str]] = field(default_factory=list)  # (leaf, tensor)
    persistent: bool = True


class Draft:
    """One instance of a class: its code with marks, and the values of the marks."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: list[Any] = []
        self.hints: list[str] = []
        self.declarations: dict[str, Declaration] = {}
        self.helpers: dict[str, None] = {}
        self.init: list[str] = []
        self.forward: list[str] = []
        self.signature: list[str] = []
        self.results = 1  # how many tensors it returns
        self.of: tuple[int, ...] = ()  # which of them each output is
        self.inputs: dict[str, tuple[str, ...]] = {}  # the orders that the inputs must come in
        self.extra: list[str] = []  # free sizes that the caller must tell
        self.orders: list[tuple[str, ...]] = []  # of the results
        self.labels = {label.split(".")[0] for node in graph if (label := node.label)} | set(graph.layers)

    @property
    def doc(self) -> str:
        return getattr(self.graph, "doc", "")

    @property
    def skeleton(self) -> tuple[object, ...]:
        """Drafts with equal skeletons are one class."""
        return (self.graph.name, tuple(self.init), tuple(self.signature), tuple(self.forward))

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
        if (declaration := self.declarations.get(label)) is None and names.is_attribute(label.split(".")[0]):
            return self._indexed(f"self.{label}")
        kind = declaration.kind if declaration else "modules"
        first, *rest = label.split(".")
        base = f"self.{first}" if names.is_attribute(first) else f"self._{kind}[{first!r}]".replace("'", '"')
        return self._indexed(".".join([base, *rest]))

    @staticmethod
    def _indexed(path: str) -> str:
        base, *rest = path.split(".")
        return base + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in rest)

    def need_helper(self, name: str) -> str:
        file = names.snake(name)
        assert file in helpers.known(), f"no helper {file}.py"
        self.helpers[file] = None
        return name


