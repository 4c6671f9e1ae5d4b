"""Discrete Fourier transforms of whole axes."""

from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Axes, Emission, OpError, Primitive, Term, Types, Whole, axes_of, need_axes, register
from archlang.primitives.broadcast import known, refuse
from archlang.primitives.complex import OF_PARTS, PARTS
from archlang.shapes import TensorType
from archlang.sizes import Size


def _waves(size: int, sign: int) -> Any:
    """exp(sign 2 pi i f n / size), [f, n], over the size where the sign is that of the inverse."""
    import torch

    turns = torch.outer(torch.arange(size), torch.arange(size)) % size
    return torch.exp(sign * 2j * torch.pi * turns.to(torch.float64) / size) / (size if sign > 0 else 1)


class _Transform(Primitive):
    """What all of them share: the axes, that keep their names, and how they are written."""

    saves: ClassVar[tuple[str, ...]] = ()

    on: Axes

    def along(self, x: TensorType) -> list[str]:
        """The axes in the order written."""
        if not self.on:
            raise OpError("A319", f"`{self.name}` runs along one axis at least, and `on` is empty", "on")
        need_axes(x, self.on)
        return list(dict.fromkeys(name for word in self.on for name in axes_of((word,), x)))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(self.along(x))

    def spell(self, code: Emission, x: Term, more: str = "") -> Term:
        """A call of torch's function for one axis or for several."""
        type_, names = code.inputs[0], self.along(code.inputs[0])
        if len(names) == 1:
            return Term(f"torch.fft.{self.name}({x.code}, {more and f'n={more}, '}dim={x.at(names[0])})", x.order)
        places = ", ".join(str(x.order.index(name)) for name in names)
        sizes = ", ".join([*(code.size(type_.size(name)) for name in names[:-1]), more]) if more else ""
        return Term(f"torch.fft.{self.name}n({x.code}, {sizes and f's=({sizes}), '}dim=({places}))", x.order)

    def copied(self, x: TensorType) -> bool:
        """Whether torch brings the axes behind the others first: all but a single last one."""
        return self.along(x) != [x.names[-1]]

    def turned(self, x: Named, names: list[str], sign: int) -> Named:
        """The sums of the definition along some axes, one after the other."""
        import torch

        for name in names:
            rest = tuple(other for other in x.names if other != name)
            values, waves = x.to((*rest, name)) + 0j, _waves(x.size(name), sign)
            x = Named(torch.einsum("...n,fn->...f", values, waves.to(values.dtype)), (*rest, name))
        return x


@register
class Fft(_Transform):
    """y[f] = sum over n of x[n] exp(-2 pi i f n / size) along each axis of `on`, which keeps its name and its size."""

    name: ClassVar[str] = "fft"

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        self.along(x)
        if x.dtype not in OF_PARTS | PARTS:
            raise refuse(x, f"`{self.name}` takes float or complex tensors", "`cast(x, float)`")
        return x.cast(OF_PARTS.get(x.dtype, x.dtype))

    def emit(self, code: Emission, x: Term) -> Term:
        return self.spell(code, x)

    def memory(self, x: TensorType) -> Memory:
        """Copies with the axes behind the others, of real values along several axes as complex ones too; along one, the
        way back asks them for their size.
        """
        whole, several = x.cast(OF_PARTS.get(x.dtype, x.dtype)).bytes, len(self.along(x)) > 1
        work = 2 * whole if several and x.dtype in OF_PARTS else x.bytes
        keeps = {"x": ""} if x.dtype in OF_PARTS and not several else {}
        return Memory(keeps, work=self.copied(x) * work, back=2 * whole)

    def reference(self, types: Types, x: Named) -> Named:
        return self.turned(x, self.along(types.inputs[0]), -1)


@register
class Ifft(Fft):
    """y[n] = 1 / size times the sum over f of x[f] exp(2 pi i f n / size) along each axis of `on`: `fft` undone."""

    name: ClassVar[str] = "ifft"

    def reference(self, types: Types, x: Named) -> Named:
        return self.turned(x, self.along(types.inputs[0]), 1)


@register
class Rfft(_Transform):
    """`fft` of real values. Of the last axis in `on`, as it is written, frequencies from 0 to size / 2 are kept.

    The others are the conjugates of these.
    """

    name: ClassVar[str] = "rfft"
    saves: ClassVar[tuple[str, ...]] = ("x",)  # the way back asks it for its size

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        last = self.along(x)[-1]
        if x.dtype not in OF_PARTS:
            raise refuse(x, "`rfft` takes float tensors", "`fft` takes complex ones")
        return x.resized(**{last: x.size(last) // 2 + 1}).cast(OF_PARTS[x.dtype])

    def emit(self, code: Emission, x: Term) -> Term:
        return self.spell(code, x)

    def memory(self, x: TensorType) -> Memory:
        """A copy with the axes behind the others; its gradient is that of a whole spectrum."""
        whole = x.cast(OF_PARTS[x.dtype]).bytes
        return Memory({"x": ""}, work=self.copied(x) * x.bytes, back=(2 + self.copied(x)) * whole)

    def reference(self, types: Types, x: Named) -> Named:
        names = self.along(types.inputs[0])
        y, count = self.turned(x, names, -1), x.size(names[-1]) // 2 + 1
        return y.select(names[-1], slice(0, count))


@register
class Irfft(_Transform):
    """`rfft` undone: real values, of `size` positions along the last axis in `on` (by default the even number).

    Frequency 0 of this axis, and the last one where `size` is even, are real: their imaginary parts do not count.
    """

    name: ClassVar[str] = "irfft"

    size: Whole | None = None

    def positions(self, x: TensorType) -> Size:
        """How many the last axis gets."""
        return 2 * (x.size(self.along(x)[-1]) - 1) if self.size is None else self.size

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        last = self.along(x)[-1]
        if x.dtype not in PARTS:
            raise refuse(x, "`irfft` takes complex tensors", "`complex(re, im)`")
        size = self.positions(x)
        if not facts.equal(x.size(last), size // 2 + 1):
            title = f"{size} positions have {size // 2 + 1} frequencies, and `{last}` has {x.size(last)}"
            raise OpError("A204", title, "size" if self.size is not None else "x")
        return x.resized(**{last: size}).cast(PARTS[x.dtype])

    def emit(self, code: Emission, x: Term) -> Term:
        return self.spell(code, x, "" if self.size is None else code.size(self.size))

    def memory(self, x: TensorType) -> Memory:
        """What the other axes make, a copy with the axes behind the others; the gradient is a spectrum in both."""
        return Memory(work=(len(self.along(x)) > 1) * x.bytes + self.copied(x) * x.bytes, back=2 * x.bytes)

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        names, size = self.along(types.inputs[0]), known(types.outputs[0].size(self.along(types.inputs[0])[-1]))
        x = self.turned(x, names[:-1], 1)
        rest = tuple(name for name in x.names if name != names[-1])
        half, turns = x.to((*rest, names[-1])), _waves(size, 1)[: size // 2 + 1]
        twice = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)
        twice[0] = 1  # the others stand for their conjugates too
        twice[size // 2 + size % 2 :] = 1
        made = half.real @ (twice[:, None] * turns.real) - half.imag @ (twice[:, None] * turns.imag)
        return Named(made, (*rest, names[-1]))
