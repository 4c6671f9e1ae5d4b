"""The operations that stand for what a graph is given and holds, that hold graphs, and that call what is outside."""

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Param, Primitive, Term, Types
from archlang.shapes import Axis, TensorType

if TYPE_CHECKING:
    from archlang.ir.graph import Value


class Input(Primitive):
    """A value that the graph is given."""

    name: ClassVar[str] = "input"
    inputs: ClassVar[tuple[str, ...]] = ()

    port: str
    type: InstanceOf[TensorType]

    def infer(self, facts: Facts) -> TensorType:
        return self.type


class Parameter(Primitive):
    """A weight (`param`) or constant (`buffer`) of the block itself; its label is its name in the state_dict."""

    name: ClassVar[str] = "param"
    inputs: ClassVar[tuple[str, ...]] = ()

    type: InstanceOf[TensorType]
    init: Any = None  # an Init
    buffer: bool = False

    def infer(self, facts: Facts) -> TensorType:
        return self.type

    def params(self) -> dict[str, Param]:
        return {"": Param(tuple(a.size for a in self.type), self.type.names, self.buffer, self.type.dtype)}


class WeightOf(Primitive):
    """A weight of a layer as a tensor: `embed.weight`. The node's label is the layer's."""

    name: ClassVar[str] = "weight_of"
    inputs: ClassVar[tuple[str, ...]] = ()

    leaf: str
    type: InstanceOf[TensorType]

    def infer(self, facts: Facts) -> TensorType:
        return self.type


class Kept(Primitive):
    """A layer or block that nothing applies: it keeps its weights under its label for those that read them. `given` and
    `types` are what it was applied to and made.
    """

    name: ClassVar[str] = "kept"
    inputs: ClassVar[tuple[str, ...]] = ()

    op: InstanceOf[Primitive]
    given: tuple[Any, ...]
    types: tuple[InstanceOf[TensorType], ...]

    def infer(self, facts: Facts) -> tuple[TensorType, ...]:
        return ()

    def params(self) -> Mapping[str, Param]:
        return self.op.params(*self.given)

    def terms(self) -> list[Any]:
        """Something for each input, for the code that declares the module."""
        return [_term(item) for item in self.given]


def _term(given: Any) -> Any:
    if isinstance(given, tuple):
        return tuple(map(_term, given))
    return given and Term("_", given.names)


class Arrange(Primitive):
    """The same tensor with its axes recorded in another order: the order that a caller of the model sees."""

    name: ClassVar[str] = "arrange"

    order: tuple[str, ...]

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        return replace(x, axes=tuple(x[name] for name in self.order))

    def emit(self, code: Emission, x: Term) -> Term:
        return code.permute(x, self.order)

    def memory(self, x: TensorType) -> Memory:
        return Memory(view=True, order=x.names)

    def reference(self, types: Types, x: Named) -> Named:
        return Named(x.to(self.order), self.order)


class ChannelsLast(Primitive):
    """The same map with the channels of a place side by side in memory; convolutions hand this on."""

    name: ClassVar[str] = "channels_last"

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"{x.safe}.contiguous(memory_format=torch.channels_last)", x.order)

    def memory(self, x: TensorType) -> Memory:
        """A copy."""
        return Memory(order=(*(name for name in x.names if name != "c"), "c"))

    def reference(self, types: Types, x: Named) -> Named:
        return x


class Foreign(Primitive):
    """A Python function from outside (`foreign NAME from python "package.module:function"`); its types are what the
    source promises.
    """

    name: ClassVar[str] = "foreign"

    symbol: str
    target: str
    ports: dict[str, tuple[str, ...]]  # the inputs, with the order of axes in which the function takes them
    types: tuple[InstanceOf[TensorType], ...]

    @property
    def module(self) -> str:
        """The Python module that it comes from."""
        return self.target.partition(":")[0]

    def infer(self, facts: Facts, *inputs: TensorType) -> tuple[TensorType, ...]:
        return self.types

    def emit(self, code: Emission, *inputs: Term) -> Term | tuple[Term, ...]:
        given = [code.permute(term, order).code for term, order in zip(inputs, self.ports.values(), strict=True)]
        text = f"{self.target.replace(':', '.')}({', '.join(given)})"
        if len(self.types) == 1:
            return Term(text, self.types[0].names)
        return code.unpack(text, *(type_.names for type_ in self.types))

    def reference(self, types: Types, *inputs: Named) -> Named | tuple[Named, ...]:
        function = getattr(import_module(self.module), self.target.partition(":")[2])
        made = function(*(given.to(order) for given, order in zip(inputs, self.ports.values(), strict=True)))
        if len(self.types) == 1:
            return Named(made, self.types[0].names)
        return tuple(Named(tensor, type_.names) for tensor, type_ in zip(made, self.types, strict=True))

    def mixes(self, *inputs: TensorType) -> frozenset[str]:
        """Anything may happen in it."""
        return frozenset(axis.name for type_ in inputs for axis in type_)


class Call(Primitive):
    """A block as one operation; the node's label is the name of its module. `layers` maps its layer ports to labels of
    the caller. What is `recomputed` is not kept for the backward pass, but made again in it.
    """

    name: ClassVar[str] = "call"

    graph: Any  # Graph
    layers: tuple[tuple[str, str], ...] = ()
    recomputed: bool = False

    def infer(self, facts: Facts, *inputs: TensorType) -> tuple[TensorType, ...]:
        return tuple(value.type for _, value in self.graph.outputs)

    def __str__(self) -> str:
        again = " recomputed" if self.recomputed else ""
        return f"call {self.graph.name} {self.graph.digest[:8]}{again}"


class Scan(Primitive):
    """A body run at one position of an axis after another: `scan t carry S: [..] = 0 { S = ..  yield .. }`.

    The body is a graph that shares the labels of the graph around it. Its inputs are the carries, what it sees one
    position of (`each`) and what it sees whole; its outputs are the carries that it leaves to the next position, then
    what it yields, which gets the axis back.
    """

    name: ClassVar[str] = "scan"

    graph: Any  # Graph
    axis: InstanceOf[Axis]
    carries: tuple[str, ...]
    each: tuple[str, ...]
    reverse: bool = False  # from the last position to the first
    starts: dict[str, Any] = Field(default_factory=dict)  # of carries that start from numbers, not operands

    @property
    def yields(self) -> "list[Value]":
        """What the body makes at each position."""
        return [value for _, value in self.graph.outputs[len(self.carries) :]]

    def whole(self, type_: TensorType) -> TensorType:
        """What is made at each position, at all of them: the axis stands after those of the batch."""
        at = next((i for i, axis in enumerate(type_) if axis.role != "batch"), len(type_.axes))
        return replace(type_, axes=(*type_.axes[:at], self.axis, *type_.axes[at:]))

    def infer(self, facts: Facts, *inputs: TensorType) -> tuple[TensorType, ...]:
        return tuple(self.whole(value.type) for value in self.yields)

    def mixes(self, *inputs: TensorType) -> frozenset[str]:
        return frozenset({self.axis.name})

    def looks_ahead(self, *inputs: TensorType) -> frozenset[str]:
        """A position sees those before it."""
        return frozenset()

    def state(self, *inputs: TensorType) -> dict[str, TensorType]:
        return {port: self.graph.inputs[port].type for port in self.carries} if self.axis.role == "time" else {}

    def __str__(self) -> str:
        starts = ", ".join(f"{port} = {self.starts.get(port, port)}" for port in self.carries)
        order = f"{self.axis.name}{' in reverse' if self.reverse else ''}"
        return f"scan {order} carry {starts} {self.graph.digest[:8]}"
