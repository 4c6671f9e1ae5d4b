"""Where gradients end."""

from typing import ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types, register
from archlang.shapes import TensorType


@register
class StopGradient(Primitive):
    """y = x, through which no gradient goes back.

    `x + stop_gradient(y - x)` is y with the gradient of x, the straight-through estimator (Bengio et al., 2013,
    arXiv:1308.3432); the code of VQ-VAE learns so (van den Oord et al., NeurIPS 2017).
    """

    name: ClassVar[str] = "stop_gradient"
    saves: ClassVar[tuple[str, ...]] = ()

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"{x.safe}.detach()", x.order)

    def memory(self, x: TensorType) -> Memory:
        return Memory(view=True)

    def reference(self, types: Types, x: Named) -> Named:
        return x.map(lambda values: values.detach())
