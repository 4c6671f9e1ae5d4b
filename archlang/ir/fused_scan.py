"""Scans whose body is operations on single elements: one kernel walks along the axis, the carries in registers."""

from typing import Any, ClassVar

from archlang.ir.chain import bones, fractions, joined
from archlang.ir.operations import Input, Scan
from archlang.primitive import Emission, Term
from archlang.primitives.broadcast import placed
from archlang.shapes import TensorType


class FusedScan(Scan):
    """A scan in which no element of a carry meets another: those of the carries and of what is yielded have the same
    axes, which one of the inputs that have the axis of the scan has too; the others are broadcast by name.
    """

    name: ClassVar[str] = "fused_scan"

    @property
    def given(self) -> list[str]:
        """The ports of its operands, in order."""
        return [port for port in self.graph.inputs if port not in self.starts]

    @property
    def fixed(self) -> list[str]:
        """The ports that are the same at all positions."""
        return [port for port in self.given if port not in (*self.each, *self.carries)]

    @property
    def arguments(self) -> list[str]:
        """The ports in the order of the kernel: those with the axis, the others, what carries start from."""
        return [*self.each, *self.fixed, *(port for port in self.carries if port not in self.starts)]

    @property
    def operations(self) -> list[str]:
        """What its body is made of."""
        return [node.op.name for node in self.graph if not isinstance(node.op, Input)]

    def is_full(self, port: str) -> bool:
        """Whether what is read under a port has all axes of the carries."""
        inputs = self.graph.inputs
        return set(inputs[port].type.names) == set(inputs[self.carries[0]].type.names)

    @property
    def skeleton(self) -> tuple[Any, ...]:
        """Scans with equal skeletons are one kernel: sizes, fractions and starts that are numbers may differ."""
        roles = tuple((port in self.each, port in self.carries, self.is_full(port)) for port in self.graph.inputs)
        return roles, tuple(port in self.starts for port in self.carries), self.reverse, bones(self.graph)

    @property
    def title(self) -> str:
        """Its operations: `scan_mul_add_tanh`."""
        return f"scan_{joined(self.operations)}"

    def algorithm(self, *inputs: TensorType) -> str:
        return ""

    def emit(self, code: Emission, *inputs: Term) -> Term | tuple[Term, ...]:
        given = dict(zip(self.given, inputs, strict=True))
        order = next(given[port].order for port in self.each if self.is_full(port))
        here = [name for name in order if name != self.axis.name]
        terms = [placed(code, given[port], order if port in self.each else here) for port in self.arguments]
        numbers = [self.starts[port] for port in self.carries if port in self.starts]
        numbers += [value for _, _, value in fractions(self.graph)]
        words = [*(term.code for term in terms), *map(code.const, numbers), str(order.index(self.axis.name))]
        text = f"{code.helper('scan')}({', '.join(words)})"
        if len(self.yields) == 1:
            return Term(text, order)
        return code.unpack(text, *(order for _ in self.yields))

    def __str__(self) -> str:
        return f"fused_{super().__str__()}"
