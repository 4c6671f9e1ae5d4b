"""How much memory a network needs at its peak, in inference and in training, from its graph.

The forward pass is followed in the order of evaluation: a value without a name of its own goes once it has been read,
one with a name stays until the name means another value or the block returns, and in training what the backward pass
reads stays until it has. The backward pass goes the same way back, with the gradients of values and of weights.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from archlang.analysis.memory_walk import Held, Place, Walk
from archlang.ir import Call, Graph, Node
from archlang.memory import Peak
from archlang.primitive import Param
from archlang.shapes import TensorType
from archlang.sizes import Poly, Size, extreme, product, substitute, total


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes. `inference` and `training` are the peaks of a forward pass and of one with the backward pass after it,
    weights and inputs in them; `optimiser` is what AdamW keeps of the weights, which comes on top of training.
    """

    weights: Size
    inference: Size
    training: Size
    optimiser: Size

    def at(self, sizes: Mapping[str, Size]) -> "Estimate":
        """With these values of free sizes."""
        return Estimate(*(substitute(getattr(self, field.name), sizes) for field in fields(Estimate)))


def estimate(graph: Graph, dtype: str = "float32") -> Estimate:
    """The memory of a model with weights and values of a dtype."""
    return Memories(dtype).estimate(graph)


def shown(size: Size) -> str:
    """Bytes as people read them: `35 MiB`, `12 MiB + 80 KiB * t`."""
    if not isinstance(size, Poly):
        return amount_of(float(size))
    if len(sizes := _largest(size)) > 1:
        *others, last = map(shown, sizes)
        return f"the {'larger' if len(others) == 1 else 'largest'} of {', '.join(others)} and {last}"
    terms = sorted(size.terms, key=lambda term: (term[1] < 0, bool(term[0])))
    texts = [f"{amount_of(abs(float(c)))}{f' * {Poly(((m, 1),))}' if m else ''}" for m, c in terms]
    signs = ["" if i == 0 else " - " if c < 0 else " + " for i, (_, c) in enumerate(terms)]
    return "".join(sign + text for sign, text in zip(signs, texts, strict=True))


def _largest(size: Size) -> list[Size]:
    """The sizes of which it is the largest; that of a largest one are among them."""
    found = extreme(size) if isinstance(size, Poly) else None
    return [size] if found is None else [one for each in found for one in _largest(each)]


def amount_of(size: float) -> str:
    """Bytes in three digits and a unit of 1024s."""
    for unit, word in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {word}" if size < 999.5 * unit else f"{size / unit:.0f} {word}"
    return f"{size:.0f} bytes"


class Memories:
    """Looks at every distinct block once, in training or in inference."""

    def __init__(self, dtype: str = "float32", training: bool = True) -> None:
        self.dtype, self.training = dtype, training
        self.plain = Memories(dtype, training=False) if training else self
        self.means: dict[str, Size] = {}  # of sizes that data makes
        self._known: dict[tuple[str, tuple[Place, ...]], Held] = {}
        self._weights: dict[str, tuple[Size, Size]] = {}

    def estimate(self, graph: Graph, sizes: Mapping[str, Size] | None = None) -> Estimate:
        """Of a model, with these values of free sizes."""
        places = self.places(graph, sizes or {})
        held, plain = self.graph(graph, places), self.plain.graph(graph, places)
        weights, trained = self._all(graph)
        given = weights + held.constants + total(place.type.bytes for place in places)
        results = total(output.type.bytes for output in held.outputs if output.alias is None)
        training = Peak([*held.forward.above(given), *held.backward.above(given + results)])
        found = Estimate(weights, Peak(plain.forward.above(given)).size, training.size, trained * 2)
        return found.at(self.means).at(sizes or {})

    def places(self, graph: Graph, sizes: Mapping[str, Size]) -> tuple[Place, ...]:
        """The inputs of a model: as they are declared, and nobody asks for their gradients."""
        types = (self.typed(value.type) for value in graph.inputs.values())
        return tuple(
            Place(type_.resized(**{axis.name: substitute(axis.size, sizes) for axis in type_}), False)
            for type_ in types
        )

    def calls(self, graph: Graph, given: tuple[Place, ...]) -> Iterator[tuple[Node, Held, tuple[Place, ...]]]:
        """The calls in a graph, what each holds, and how its operands lie."""
        walk = Walk(self, graph, given)
        for node, held, operands in walk.nodes:
            if isinstance(node.op, Call):
                places = (walk.places[value.node, value.output] for value in operands)
                yield node, held, tuple(Place(place.type, place.grad) for place in places)

    def typed(self, type_: TensorType) -> TensorType:
        """`float` as what it is at run time."""
        return type_.cast(self.dtype) if type_.dtype == "float" else type_

    def weight(self, param: Param) -> Size:
        """The bytes of a weight."""
        return product(param.shape) * TensorType((), self.dtype if param.dtype == "float" else param.dtype).bytes

    def trained(self, graph: Graph) -> Size:
        """The bytes of the weights of a graph that are trained."""
        return self._all(graph)[1]

    def _all(self, graph: Graph) -> tuple[Size, Size]:
        """The bytes of all weights and buffers of a graph, and of the weights that are trained."""
        if graph.digest not in self._weights:
            every: Size = 0
            trained: Size = 0
            for _, owner, maker in graph.makers():
                if isinstance(maker.op, Call):
                    more = self._all(maker.op.graph)
                else:
                    params = list(owner.params(maker).values())
                    more = (
                        total(map(self.weight, params)),
                        total(self.weight(p) for p in params if not p.buffer),
                    )
                every, trained = every + more[0], trained + more[1]
            self._weights[graph.digest] = every, trained
        return self._weights[graph.digest]

    def graph(self, graph: Graph, given: tuple[Place, ...]) -> Held:
        """What a call of a graph holds, from how its inputs lie."""
        key = graph.digest, given
        if key not in self._known:
            self._known[key] = Walk(self, graph, given).held()
        return self._known[key]
