"""A graph under construction: what it captures of the graphs around it, and the labels of its weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from archlang.diagnostics import Label, error
from archlang.elaborate.values import Layer, Weights, leaves
from archlang.ir import Graph, Value
from archlang.shapes import Axis
from archlang.source import Span


@dataclass(frozen=True, slots=True)
class Exit:
    """A result that the samples for which `leaves` holds leave a model with."""

    name: str
    value: Value
    leaves: Value
    span: Span


@dataclass(eq=False)
class Frame:
    """One graph and its surroundings. Tensors and shared layers of outer graphs enter as inputs and layer ports when
    they are first used.
    """

    graph: Graph
    parent: "Frame | None" = None
    wishes: dict[Value, str] = field(default_factory=dict)  # what the source calls a value of a graph around
    captured: dict[Value, str] = field(default_factory=dict)  # a value of the parent graph -> input port
    lent: dict[str, str] = field(default_factory=dict)  # layer port -> label in the parent graph
    labels: dict[str, Span] = field(default_factory=dict)
    losses: list[tuple[str, Value]] = field(default_factory=list)  # auxiliary, of this graph and of what it calls
    exits: list[Exit] = field(default_factory=list)  # of this graph and of the loops in it
    size: int = 0  # operations, with what is called twice counted twice
    numbered: list[tuple[str, Span]] = field(default_factory=list)  # labels that got a number: `check` advises `as`

    def capture(self, value: Value) -> Value:
        """The value as this graph sees it."""
        if value.graph is self.graph:
            return value
        assert self.parent is not None, "a value from nowhere"
        outer = self.parent.capture(value)
        if outer not in self.captured:
            port = _unused(self.wishes.get(value) or outer.graph.name_of(outer) or "x", self.graph.inputs)
            self.enter(port, outer)
            self.captured[outer] = port
        return self.graph.inputs[self.captured[outer]]

    def enter(self, port: str, outer: Value) -> None:
        """A new input for a value of the parent graph."""
        self.graph.add_input(port, outer.type, outer.graph.node(outer.node).span)

    def reach(self, weights: Weights) -> str:
        """The label by which this graph reaches shared weights: its own, or a port."""
        if weights.home is self:
            assert weights.instance is not None
            return weights.instance
        assert self.parent is not None, "weights from nowhere"
        outer = self.parent.reach(weights)
        for port, label in self.lent.items():
            if label == outer:
                return f"@{port}"
        port = _unused(weights.name, {**self.graph.inputs, **self.lent})
        self.lent[port] = outer
        self.graph.layers.append(port)
        return f"@{port}"

    def claim(self, name: str, layer: Layer) -> str:
        """A label of this graph for a layer's weights: as given with `as`, else `name`, numbered where it is taken."""
        if layer.loop is not None:
            raise error(
                "A703",
                "a loop that makes weights needs a name for them",
                Label(layer.span, "makes weights"),
                Label(layer.loop, "in this loop"),
                help="write `as NAME[i]` after the head of the loop",
            )
        if layer.label is not None:
            return self.claim_name(layer.label, layer.span)
        refuse_flag(name, layer.span)
        label = _unused(name, self.labels)
        if label != name:
            self.numbered.append((label, layer.span))
        self.labels[label] = layer.span
        return label

    def claim_name(self, name: str, span: Span) -> str:
        """A label that must be free."""
        refuse_flag(name, span)
        if (other := self.labels.get(name)) == span:
            title = f"two layers are called `{name}`: the block that names them is used twice"
            raise error("A702", title, span, help="name each use of the block with `as`")
        if other is not None:
            raise error(
                "A702",
                f"two layers are called `{name}`",
                Label(span, "the second"),
                Label(other, "the first"),
                help="name each with `as`; to share weights, bind the layer to a name with `=` and use the name twice",
            )
        self.labels[name] = span
        return name

    @property
    def aside(self) -> list[tuple[str, Value]]:
        """What it gives beside its results: losses, and values and conditions of exits."""
        pairs = [((exit.name, exit.value), (f"{exit.name}_leaves", exit.leaves)) for exit in self.exits]
        return [*self.losses, *(value for pair in pairs for value in pair)]

    def take(self, inner: "Frame", values: Iterator[Value]) -> None:
        """Go on with what a graph gave aside; `values` are that here."""
        self.losses += [(name, next(values)) for name, _ in inner.losses]
        self.exits += [replace(exit, value=next(values), leaves=next(values)) for exit in inner.exits]

    @property
    def empty(self) -> bool:
        """Whether it makes no weights of its own."""
        return not self.labels

    def holds(self, value: Any) -> bool:
        """Whether a value is made of tensors of this graph."""
        return any(isinstance(leaf, Value) and leaf.graph is self.graph for leaf in leaves(value))


@dataclass(eq=False)
class ScanFrame(Frame):
    """The body of a scan. It shares the labels of the frame around it; a tensor of the surroundings that has the
    scanned axes is seen at the position at hand, without them.
    """

    axes: tuple[str, ...] = ()
    found: dict[str, Axis] = field(default_factory=dict)  # the scanned axes, once a tensor that has them was seen
    each: list[str] = field(default_factory=list)  # the ports that see one position

    @property
    def home(self) -> Frame:
        """The frame around it, which holds the labels."""
        assert self.parent is not None
        return self.parent

    def enter(self, port: str, outer: Value) -> None:
        type_ = outer.type
        if all(name in type_ for name in self.axes):
            self.found = self.found or {name: type_[name] for name in self.axes}
            self.each.append(port)
            type_ = type_.without(*self.axes)
        self.graph.add_input(port, type_, outer.graph.node(outer.node).span)

    def reach(self, weights: Weights) -> str:
        return weights.instance if weights.home is self and weights.instance else self.home.reach(weights)

    def claim(self, name: str, layer: Layer) -> str:
        return self.home.claim(name, layer)

    def claim_name(self, name: str, span: Span) -> str:
        return self.home.claim_name(name, span)


def seen(frame: Frame, value: Value) -> Value:
    """A tensor as the innermost scan around a place sees it."""
    around: Frame | None = frame
    while around is not None and around.graph is not value.graph:
        if isinstance(around, ScanFrame):
            return around.capture(value)
        around = around.parent
    return value


def refuse_flag(name: str, span: Span) -> None:
    """Every other name can be that of a module or weight."""
    if name == "training":
        raise error("A714", "weights cannot be called `training`: `nn.Module` keeps a flag there", span)


def _unused(name: str, taken: Any) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def operands(frame: Frame, pairs: Sequence[tuple[str, Value]]) -> list[tuple[str, Value]]:
    """The operands as the frame's graph sees them."""
    return [(argument, frame.capture(value)) for argument, value in pairs]
