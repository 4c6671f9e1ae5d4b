"""Complex numbers from their parts, and back."""

from typing import ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types, register
from archlang.primitives.broadcast import join, refuse
from archlang.shapes import TensorType, is_float

OF_PARTS = {"float": "complex", "float32": "complex64", "float64": "complex128"}
PARTS = {made: of for of, made in OF_PARTS.items()}


@register
class Complex(Primitive):
    """re + i im, element by element; axes that one of the two lacks are repeated."""

    name: ClassVar[str] = "complex"
    inputs: ClassVar[tuple[str, ...]] = ("re", "im")

    def infer(self, facts: Facts, re: TensorType, im: TensorType) -> TensorType:
        for name, part in (("re", re), ("im", im)):
            if part.dtype not in OF_PARTS:
                raise refuse(part, "`complex` takes float tensors of one precision", "`cast(x, float)`", name)
        joined = join(facts, re, im)
        return joined.cast(OF_PARTS[joined.dtype])

    def emit(self, code: Emission, re: Term, im: Term) -> Term:
        re, im = code.align(re, im)
        return Term(f"torch.complex({re.code}, {im.code})", re.order)

    def reference(self, types: Types, re: Named, im: Named) -> Named:
        return re.combine(im, lambda a, b: a + 1j * b)


class _Part(Primitive):
    """One part of complex numbers, element by element."""

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        if x.dtype not in PARTS:
            raise refuse(x, f"`{self.name}` takes complex tensors", None if is_float(x.dtype) else "`cast(x, complex)`")
        return x.cast(PARTS[x.dtype])

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"{x.safe}.{self.name}", x.order)


@register
class Real(_Part):
    """The real part of complex numbers."""

    name: ClassVar[str] = "real"
    saves: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[bool] = True

    def reference(self, types: Types, x: Named) -> Named:
        return x.map(lambda z: ((z + z.conj()) / 2).real)


@register
class Imag(_Part):
    """The imaginary part of complex numbers."""

    name: ClassVar[str] = "imag"
    saves: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[bool] = True

    def reference(self, types: Types, x: Named) -> Named:
        return x.map(lambda z: ((z - z.conj()) / 2j).real)
