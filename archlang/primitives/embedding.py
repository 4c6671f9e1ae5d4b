"""Rows of a table."""

from dataclasses import replace
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import Emission, Param, Primitive, Term, Types, Whole, register
from archlang.primitives.broadcast import need_new, refuse
from archlang.primitives.init import Start
from archlang.shapes import TensorType, axis


@register
class Embedding(Primitive):
    """y[.., c] = weight[x[..], c]: x: int[..] gives [.., c = dim]. Weight: [vocab = count, c = dim], as
    `torch.nn.Embedding`.

    x is from 0 to count - 1; PyTorch refuses others on the CPU and stops on a GPU.
    """

    name: ClassVar[str] = "embedding"

    count: Whole
    dim: Whole
    init: Start = None

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if x.dtype not in ("int", "int64", "int32"):
            raise refuse(
                x, "an embedding takes whole numbers", "`linear` maps values; `cast(x, int)` makes whole numbers"
            )
        need_new(x, "c", "x")
        return replace(x, axes=(*x.axes, axis("c", self.dim)), dtype="float")

    def params(self, x: TensorType) -> dict[str, Param]:
        return {"weight": Param((self.count, self.dim), ("vocab", "c"))}

    def emit(self, code: Emission, x: Term) -> Term:
        module = code.module("nn.Embedding", code.size(self.count), code.size(self.dim))
        code.initialise("weight", self.init)
        return Term(f"{module}({x.code})", (*x.order, "c"))

    def reference(self, types: Types, x: Named, weight: Any = None) -> Named:
        import torch

        hot = (x.tensor.unsqueeze(-1) == torch.arange(weight.shape[0])).to(weight.dtype)
        return Named(hot @ weight, (*x.names, "c"))
