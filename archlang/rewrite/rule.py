"""Rules: a law, its left side as a pattern, and what makes the right side from a match."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from archlang.ir import Node, Rebuild, Value, WeightOf
from archlang.primitive import Primitive
from archlang.primitives import CONSTRUCTS
from archlang.rewrite.pattern import Captures, Op, parse
from archlang.shapes import TensorType, axis

# exact: the same bits, or those of another order of exact steps; reassociating: the same function of real numbers;
# approximate: close to it
Exactness: TypeAlias = Literal["exact", "reassociating", "approximate"]


@dataclass(frozen=True, slots=True)
class No:
    """Why a rule does not hold here, in the words of the user."""

    reason: str


class Match:
    """An instance of a pattern in a graph under construction. What the pattern names is an attribute: values by their
    names, nodes by those of their operations.
    """

    def __init__(self, rebuild: Rebuild, found: Captures, root: Node) -> None:
        self._rebuild, self.found, self.root = rebuild, found, root
        self.graph = rebuild.new

    def __getattr__(self, name: str) -> Any:
        try:
            return self.found[name]
        except KeyError:
            raise AttributeError(f"the pattern names no `{name}`") from None

    def operand(self, node: Node, port: str) -> Value | None:
        """What an operation is given for an input."""
        return dict(self.graph.operands(node)).get(port)

    def types(self, node: Node) -> list[Any]:
        """The types of the inputs of a node as its operation takes them."""
        return self.graph.input_types(node)

    def result(self, node: Node, output: int = 0) -> Value:
        """What a node makes."""
        return Value(self.graph, node.id, output, node.types[output])

    def add(self, op: Primitive, at: Node | None = None, label: str | None = None, **operands: Value | None) -> Value:
        """An operation on these operands, in the place of the source of the root or of another node. With the label of
        a node it has that one's weights.
        """
        given = [(port, value) for port, value in operands.items() if value is not None]
        return self._rebuild.add(op, given, at or self.root, label)

    def results(self, value: Value) -> tuple[Value, ...]:
        """All that the operation of a value makes."""
        node = self.graph.producer(value)
        return tuple(self.result(node, output) for output in range(len(node.types)))

    def call(self, name: str, *operands: Value | float, **fields: Any) -> Value:
        """An operation by its name in the language; of operators a side may be a number: `call("mul", x, 2)`."""
        made: Any = CONSTRUCTS[name]
        ports = [port.strip("*?") for port in made.inputs]
        if made.inputs == ("*xs",):
            ports = [f"xs.{i}" for i in range(len(operands))]
        numbers = {made.numbers[p]: x for p, x in zip(ports, operands, strict=False) if not isinstance(x, Value)}
        given = {p: x for p, x in zip(ports, operands, strict=False) if isinstance(x, Value)}
        return self.add(made(**fields, **numbers), None, None, **given)

    def vary(self, node: Node, **fields: Any) -> Value:
        """The operation of a node with other fields, on the same operands, with the same weights."""
        return self._rebuild.add(node.op.model_copy(update=fields), self.graph.operands(node), node, node.label)

    def alone(self, node: Node) -> bool:
        """Whether one operation reads the node, once."""
        return self._rebuild.reads(node) == 1

    def weight(self, node: Node, leaf: str, **names: str) -> Value | None:
        """A weight of a layer as a tensor with the axes that the layer states, some by other `names`; what it was given
        for it; None where it has none.
        """
        if (given := self.operand(node, {"bias": "offset"}.get(leaf, leaf))) is not None:
            return self.renamed(given, **names)
        param = self.graph.params(node).get(leaf)
        if param is None:
            return None
        axes = (axis(names.get(name, name), size) for name, size in zip(param.names, param.shape, strict=True))
        return self.add(WeightOf(leaf=leaf, type=TensorType(tuple(axes), param.dtype)), node, node.label)

    def renamed(self, value: Value, **names: str) -> Value:
        """A value with other names of axes."""
        changed = {old: new for old, new in names.items() if old in value.type and old != new}
        return self.call("rename", value, names=changed) if changed else value

    def call_it(self, value: Value, name: str) -> Value:
        """A value with a name for readers of what is written."""
        self.graph.rename(value, name)
        return value


# Value, a tuple of them where the root has several results, No, or None where it is no instance after all: what a match
# names is known to its pattern alone
Result: TypeAlias = Any


@dataclass(frozen=True)
class Rule:
    """One law. The pattern is the left side, `apply` makes the right side, or says why the law does not hold here."""

    name: str
    text: str
    exactness: Exactness
    apply: Callable[[Match], Result]
    shared: frozenset[str] = frozenset()  # operations of the pattern that others may read as well
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def law(self) -> str:
        """What the rule states."""
        return (self.apply.__doc__ or "").strip()

    @cached_property
    def pattern(self) -> Op:
        return parse(self.text, self.words)


def rule(
    text: str, exactness: Exactness, shared: str = "", **words: str
) -> Callable[[Callable[[Match], Result]], Rule]:
    """The rule that a function is the right side of. `shared` names operations whose results others may read too;
    `words` say which operations a word of the pattern stands for.
    """

    def made(apply: Callable[[Match], Result]) -> Rule:
        return Rule(apply.__name__, text, exactness, apply, frozenset(shared.split()), words)

    return made
