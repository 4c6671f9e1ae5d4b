"""Early exits: which of several results a sample leaves with."""

from collections.abc import Sequence
from typing import ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import Emission, OpError, Primitive, Term, Types
from archlang.shapes import TensorType


class FirstExit(Primitive):
    """y = the first of `exits` whose `leaves` holds, sample by sample; x where none does."""

    name: ClassVar[str] = "first_exit"
    inputs: ClassVar[tuple[str, ...]] = ("x", "*exits", "*leaves")

    def infer(
        self, facts: Facts, x: TensorType, exits: Sequence[TensorType], leaves: Sequence[TensorType]
    ) -> TensorType:
        for given in exits:
            if given.names != x.names or given.dtype != x.dtype:
                raise OpError("A204", f"an exit gives {given}, and the output is {x}")
            for axis in x:
                if not facts.equal(given.size(axis.name), axis.size):
                    raise OpError("A204", f"an exit gives {given}, and the output is {x}")
        return x

    def emit(self, code: Emission, x: Term, exits: Sequence[Term], leaves: Sequence[Term]) -> Term:
        order = code.outputs[0].names
        values = [code.permute(term, order).code for term in (*exits, x)]
        conditions = [code.align(Term("", order), leave)[1].code for leave in leaves]
        text = f"{code.helper('first_exit')}([{', '.join(values)}], [{', '.join(conditions)}])"
        return Term(text, order)

    def reference(self, types: Types, x: Named, exits: Sequence[Named], leaves: Sequence[Named]) -> Named:
        import torch

        names = types.outputs[0].names
        result = x.to(names)
        for value, leave in reversed(list(zip(exits, leaves, strict=True))):
            result = torch.where(leave.to(names), value.to(names), result)
        return Named(result, names)
