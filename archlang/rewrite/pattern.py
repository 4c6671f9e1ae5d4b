"""Patterns: the left side of a law as it is written, `batch_norm(conv(x))`, and how a graph is matched against it.

A call is an operation of that name; its arguments are the first inputs of the operation, or those that are named, and
it has no others unless `...` says that the rest does not matter. A name is any value, the same one wherever it stands.
A number is one that the operation was given. An operation is known to the rule by its name: `linear_1` and `linear_2`
are two linear maps, and a rule may state that a word stands for several operations: `affine = "linear conv"`.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from archlang.ir import Graph, Node, Value
from archlang.primitive import Primitive
from archlang.primitives import CONSTRUCTS

Captures: TypeAlias = Mapping[str, Value | Node]
INNER = frozenset({"packed_linear", "packed_conv", "causal_conv"})  # operations that only passes make
_OPERATORS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}
_COMMUTE = frozenset("add mul maximum minimum eq ne logical_and logical_or dot".split())


@dataclass(frozen=True, slots=True)
class Hole:
    """Any value, under a name."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number that the operation holds."""

    value: float


Argument: TypeAlias = "Hole | Number | Op"


@dataclass(frozen=True, slots=True)
class Op:
    """An operation of one of these names, with patterns for its inputs in order."""

    name: str
    ops: frozenset[str]
    inputs: tuple[Argument, ...]
    named: tuple[tuple[str, Argument], ...] = ()
    rest: bool = False  # whether it may have other inputs

    def match(self, graph: Graph, node: Node, found: Captures) -> Iterator[Captures]:
        """Every way in which a node and what it is made of are an instance."""
        if node.op.name not in self.ops or found.get(self.name, node) != node:
            return
        operands = dict(graph.operands(node))
        for inputs in self._orders(node.op):
            given = {**inputs, **dict(self.named)}
            if self.rest or set(operands) <= set(given):
                yield from _all(graph, node.op, operands, list(given.items()), {**found, self.name: node})

    def _orders(self, op: Primitive) -> Iterator[dict[str, Argument]]:
        ports = [port.strip("*?") for port in op.inputs]
        yield dict(zip(ports, self.inputs, strict=False))
        if op.name in _COMMUTE and (len(self.inputs) == 2 or self.rest):  # `mul(a, ...)` has `a` on either side
            yield dict(zip(reversed(ports), self.inputs, strict=False))


def _all(
    graph: Graph, op: Primitive, operands: Mapping[str, Value], given: list[tuple[str, Argument]], found: Captures
) -> Iterator[Captures]:
    """Every way in which all the inputs of an operation match."""
    if not given:
        yield found
        return
    (port, pattern), *others = given
    for more in _one(graph, op, operands.get(port), port, pattern, found):
        yield from _all(graph, op, operands, others, more)


def _one(
    graph: Graph, op: Primitive, value: Value | None, port: str, pattern: Argument, found: Captures
) -> Iterator[Captures]:
    if isinstance(pattern, Number):
        field = getattr(op, "numbers", {}).get(port)
        if value is None and field and getattr(op, field) == pattern.value:
            yield found
    elif value is None:
        return
    elif isinstance(pattern, Hole):
        if found.get(pattern.name, value) == value:
            yield {**found, pattern.name: value}
    elif value.output == 0:
        yield from pattern.match(graph, graph.producer(value), found)


def parse(text: str, words: Mapping[str, str]) -> Op:
    """The pattern that a text states."""
    made = _argument(ast.parse(text, mode="eval").body, words)
    assert isinstance(made, Op), f"{text} is no operation"
    return made


def _argument(tree: ast.expr, words: Mapping[str, str]) -> Argument:
    match tree:
        case ast.Name(id=name):
            return Hole(name)
        case ast.Constant(value=int() | float() as value):
            return Number(value)
        case ast.BinOp(left=left, op=symbol, right=right):
            name = _OPERATORS[type(symbol)]
            return Op(name, frozenset({name}), (_argument(left, words), _argument(right, words)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            rest = any(isinstance(a, ast.Constant) and a.value is ... for a in arguments)
            inputs = tuple(_argument(a, words) for a in arguments if not isinstance(a, ast.Constant) or a.value != ...)
            named = tuple((str(k.arg), _argument(k.value, words)) for k in keywords)
            return Op(name, _operations(name, words), inputs, named, rest)
    raise AssertionError(f"`{ast.unparse(tree)}` is no pattern")


def _operations(name: str, words: Mapping[str, str]) -> frozenset[str]:
    """The operations that a word of a pattern stands for."""
    stem = name.rstrip("0123456789").rstrip("_")
    word = name if name in words or name in CONSTRUCTS else stem
    names = words.get(word, word).split()
    assert all(n in CONSTRUCTS or n in INNER for n in names), f"`{name}` is no operation"
    return frozenset(names)
