"""Routers: what passes make for a GPU of a score, its largest values and their shares."""

from typing import Any, ClassVar, Literal

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types
from archlang.shapes import TensorType


class TopKRouting(Primitive):
    """The k experts with the largest score(logits) + bias, and their weights: their scores, the shares of these in
    their sum, or a softmax of these. Where it is `scored`, the scores of all experts too. With `groups`, of how many
    groups how many are kept by the sum of how many largest, the experts are those of the best groups (DeepSeek-AI,
    arXiv:2412.19437).
    """

    name: ClassVar[str] = "top_k_routing"
    inputs: ClassVar[tuple[str, ...]] = ("logits", "bias?")
    prefers: ClassVar[str | None] = "last"

    k: int
    on: str
    score: Literal["softmax", "sigmoid", "none"]
    weights: Literal["share", "softmax", "none"]
    scored: bool
    groups: tuple[int, int, int] | None = None

    def infer(self, facts: Facts, logits: TensorType, bias: TensorType | None = None) -> tuple[TensorType, ...]:
        made = logits.resized(**{self.on: self.k})
        return (made.cast("int"), made, *([logits] if self.scored else []))

    def emit(self, code: Emission, logits: Term, bias: Term | None = None) -> tuple[Term, ...]:
        logits = code.last(logits, [self.on])
        named = [f'score="{self.score}"'] if self.score != "none" else []
        named += [f'weights="{self.weights}"'] if self.weights != "none" else []
        named += [f"bias={bias.code}"] if bias else []
        named += ["scored=True"] if self.scored else []
        named += [f"groups=({', '.join(map(code.const, self.groups))})"] if self.groups else []
        text = f"{code.helper('top_k_routing')}({', '.join([logits.code, code.const(self.k), *named])})"
        return code.unpack(text, *[logits.order] * (3 if self.scored else 2))

    def memory(self, logits: TensorType, bias: TensorType | None = None) -> Memory:
        """The scores are made again."""
        return Memory({"logits": ""}, False, self.infer(Facts(), logits)[0].bytes)

    def reference(self, types: Types, logits: Named, bias: Named | None = None) -> tuple[Named, ...]:
        scores = logits
        if self.score == "softmax":
            scores = _softmax(logits, self.on)
        elif self.score == "sigmoid":
            scores = logits.map(lambda x: x.sigmoid())
        keys = scores if bias is None else scores + bias
        at = keys.at(self.on)
        if self.groups:
            keys = keys.map(lambda x: _limited(x.movedim(at, -1), *self.groups or ()).movedim(-1, at))
        index = keys.map(lambda x: x.argsort(at, descending=True)).select(self.on, slice(self.k))
        weight = Named(scores.to(keys.names).gather(at, index.tensor), keys.names)
        if self.weights == "share":
            weight = weight / weight.sum([self.on])
        elif self.weights == "softmax":
            weight = _softmax(weight, self.on)
        return (index, weight, *([scores] if self.scored else []))

    def mixes(self, logits: TensorType, *others: Any) -> frozenset[str]:
        return frozenset({self.on})


def _limited(keys: Any, count: int, kept: int, best: int) -> Any:
    """Keys [.., experts], -inf outside of the best groups."""
    apart = keys.unflatten(-1, (count, -1))
    worth = apart.sort(-1, descending=True).values[..., :best].sum(-1)
    rank = worth.argsort(-1, descending=True).argsort(-1)
    return apart.masked_fill((rank >= kept)[..., None], float("-inf")).flatten(-2)


def _softmax(x: Named, on: str) -> Named:
    powers = x.map(lambda value: value.exp())
    return powers / powers.sum([on])
