"""Convolutions as long as the signal."""

from dataclasses import replace
from typing import ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import AxisName, Emission, Primitive, Term, Types, need_named, register
from archlang.primitives.broadcast import join, one_axis, placed, refuse
from archlang.shapes import TensorType, is_float
from archlang.sizes import Size, divide


def padded_memory(length: Size, u: TensorType, kernel: TensorType, axis: str) -> Memory:
    """Of a product of spectra: what is padded to so many positions, and the spectra, which have gradients as of complex
    numbers at all positions; those of u and of the result are gone by then.
    """
    padded, spectra = length, (length // 2 + 1) * 2
    signal, other = (divide(x.bytes, x.size(axis)) for x in (u, kernel))
    back = signal * padded * 4 - u.bytes * 2
    return Memory({}, False, (signal + other) * (padded + spectra), (signal * 2 + other) * padded, back)


@register
class LongConv(Primitive):
    """y[t] = sum over s of kernel[s] u[t - s] along one axis, by the fast Fourier transform: u before its start is 0.

    `on` is the axis of time or, where there is none, the one of space; u and kernel have it in sizes of their own. All
    other axes agree or are repeated, so that kernel[c, t] is one kernel for each channel.
    """

    name: ClassVar[str] = "long_conv"
    inputs: ClassVar[tuple[str, ...]] = ("u", "kernel")

    on: AxisName | None = None

    def axis(self, u: TensorType) -> str:
        """The axis that it slides along."""
        return one_axis([self.on or ("time" if u.of_role("time") else "space")], u)

    def infer(self, facts: Facts, u: TensorType, kernel: TensorType) -> TensorType:
        for name, type_ in (("u", u), ("kernel", kernel)):
            if not is_float(type_.dtype):
                raise refuse(type_, "`long_conv` takes float tensors", "`cast(x, float)`", name)
        axis = self.axis(u)
        need_named(kernel, [axis], "kernel")
        return join(facts, u, kernel.without(axis)).cast(u.dtype)

    def emit(self, code: Emission, u: Term, kernel: Term) -> Term:
        axis = self.axis(code.inputs[0])
        more = [name for name in kernel.order if name not in u.order]
        order = (*(name for name in u.order if name != axis), *more, axis)
        kernel = code.permute(kernel, [name for name in order if name in kernel.order])
        kernel = placed(code, kernel, order[order.index(kernel.order[0]) :])
        return Term(f"{code.helper('long_conv')}({placed(code, u, order).code}, {kernel.code})", order)

    def memory(self, u: TensorType, kernel: TensorType) -> Memory:
        """Both with zeros behind, and their spectra; a transform copies what does not lie along its axis."""
        axis = self.axis(u)
        length = u.size(axis) + kernel.size(axis)
        memory = padded_memory(length, u, kernel, axis)
        if u.names[-1] == axis:
            return memory
        spectrum = divide(u.bytes, u.size(axis)) * (length // 2 + 1) * 2
        return replace(memory, work=(memory.work or 0) + spectrum - u.bytes)

    def reference(self, types: Types, u: Named, kernel: Named) -> Named:
        import torch

        axis, rows = self.axis(types.inputs[0]), []
        for t in range(u.size(axis)):
            terms = [u.select(axis, t - s) * kernel.select(axis, s) for s in range(min(t + 1, kernel.size(axis)))]
            rows.append(sum(terms[1:], terms[0]))
        return Named(torch.stack([row.to(rows[0].names) for row in rows]), (axis, *rows[0].names))

    def mixes(self, u: TensorType, kernel: TensorType) -> frozenset[str]:
        return frozenset({self.axis(u)})

    def looks_ahead(self, u: TensorType, kernel: TensorType) -> frozenset[str]:
        return frozenset()
