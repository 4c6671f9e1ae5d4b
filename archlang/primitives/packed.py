"""Layers on weights that the CPU's library lays out once, with what follows them in one call."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Param, Primitive, Term, Types
from archlang.primitives import CONSTRUCTS
from archlang.primitives.conv import Conv
from archlang.primitives.linear import Linear, contracted
from archlang.primitives.sliding import even, keywords, padded, spell, stacked, unstacked, windows
from archlang.shapes import TensorType
from archlang.sizes import Size, product


class Packed(Primitive):
    """activation(layer(x)), or layer(x) + other: what `packed_linear` and `packed_conv` compute."""

    inputs: ClassVar[tuple[str, ...]] = ("x", "weight?", "offset?", "other?")

    op: InstanceOf[Primitive]  # a Linear or Conv
    activation: str = ""

    def infer(self, facts: Facts, x: TensorType, *given: TensorType | None) -> TensorType:
        made = self.op.infer(facts, x, *given[:2])
        assert isinstance(made, TensorType)
        return made

    def params(self, x: TensorType, *given: TensorType | None) -> Mapping[str, Param]:
        return self.op.params(x, *given[:2])

    def reference(
        self,
        types: Types,
        x: Named,
        weight: Named | None = None,
        offset: Named | None = None,
        other: Named | None = None,
        **weights: Any,
    ) -> Named:
        y = self.op.reference(Types(types.inputs[:3], types.outputs), x, weight, offset, **weights)
        if self.activation:
            y = CONSTRUCTS[self.activation]().reference(Types(types.outputs, types.outputs), y)  # type: ignore[attr-defined]
        assert isinstance(y, Named)
        return y if other is None else y + other

    def macs(self, x: TensorType, *given: TensorType | None) -> Size:
        return self.op.macs(x, *given[:2])

    def memory(self, x: TensorType, *given: TensorType | None) -> Memory:
        """As the layer lays it out; nothing is kept, since it only evaluates."""
        return Memory(order=self.op.memory(x, *given[:2]).order)

    def mixes(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        return self.op.mixes(x, *given[:2])

    def looks_ahead(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        return self.op.looks_ahead(x, *given[:2])

    def arguments(self, x: Term, matrix: str, bias: str | None, named: Sequence[str], other: Term | None) -> str:
        """Of a call."""
        after = [f'activation="{self.activation}"'] if self.activation else []
        last = [f"other={other.code}"] if other else []
        return ", ".join([x.code, matrix, *([bias] if bias else []), *named, *after, *last])


class PackedLinear(Packed):
    """activation(linear(x)), or linear(x) + other."""

    name: ClassVar[str] = "packed_linear"
    prefers: ClassVar[str | None] = "last"

    op: InstanceOf[Linear]

    def emit(
        self, code: Emission, x: Term, weight: Term | None = None, offset: Term | None = None, other: Term | None = None
    ) -> Term:
        on, made = contracted(self.op.on, code.inputs[0]), self.op.made(code.inputs[0])
        flat = code.flat(x, on, "on")
        matrix, bias = self._weights(code, weight, offset, on)
        order = (*flat.order[:-1], "units")
        if other is not None:
            other = code.permute(other, (*flat.order[:-1], *(axis.name for axis in made)))
        y = Term(f"{code.helper('packed_linear')}({self.arguments(flat, matrix, bias, (), other)})", order)
        return code.split(y, "units", made)

    def _weights(
        self, code: Emission, weight: Term | None, offset: Term | None, on: tuple[str, ...]
    ) -> tuple[str, str | None]:
        """The matrix and the bias, given or of the layer's own module."""
        own = self.op.bias and offset is None
        if weight is not None:
            on = ("on",) if "on" in weight.order else on
            matrix = code.flat(code.permute(weight, ("units", *on)), on, "on").code
            return matrix, offset.code if offset else None
        sizes = [
            product(code.inputs[0].size(name) for name in on),
            product(a.size for a in self.op.made(code.inputs[0])),
        ]
        code.module("nn.Linear", *map(code.size, sizes), **({} if own else {"bias": "False"}))
        code.initialise("weight", self.op.init)
        if own:
            code.initialise("bias", self.op.init_bias)
        return code.weight("weight"), code.weight("bias") if own else offset.code if offset else None


class PackedConv(Packed):
    """activation(conv(x)), or conv(x) + other."""

    name: ClassVar[str] = "packed_conv"
    prefers: ClassVar[str | None] = "first"

    op: InstanceOf[Conv]

    def emit(
        self, code: Emission, x: Term, weight: Term | None = None, offset: Term | None = None, other: Term | None = None
    ) -> Term:
        found = windows(self.op, code.inputs[0])
        names = tuple(window.name for window in found)
        image, others = stacked(code, x, ("c", *names))
        within = even(found)
        image = image if within else padded(code, image, found, "")
        arguments = keywords(
            code,
            stride=[window.stride for window in found],
            padding=[window.left if within else 0 for window in found],
            dilation=[window.dilation for window in found],
            groups=[self.op.groups],
        )
        kernel, bias = self._weights(code, weight, offset, arguments)
        other = other and code.permute(other, image.order)
        texts = [f"{name}={value}" for name, value in arguments.items()]
        given = self.arguments(image, kernel, bias, texts, other)
        return unstacked(code, Term(f"{code.helper('packed_conv')}({given})", image.order), others)

    def _weights(
        self, code: Emission, weight: Term | None, offset: Term | None, arguments: Mapping[str, str]
    ) -> tuple[str, str | None]:
        """The kernel and the bias, given or of the layer's own module."""
        found, own = windows(self.op, code.inputs[0]), self.op.bias and offset is None
        if weight is not None:
            names = ("units", "c", *(window.name for window in found))
            return code.permute(weight, names).code, offset.code if offset else None
        sizes = (code.size(code.inputs[0].size("c")), code.size(self.op.units), spell(code, [w.kernel for w in found]))
        bias = {} if own else {"bias": "False"}
        code.module(f"nn.Conv{len(found)}d", *sizes, **arguments, **bias)
        code.initialise("weight", self.op.init)
        if own:
            code.initialise("bias", self.op.init_bias)
        return code.weight("weight"), code.weight("bias") if own else offset.code if offset else None
