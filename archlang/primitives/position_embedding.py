"""Sinusoids of positions, to be added to what stands there."""

from typing import ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import Axes, Emission, Number, OpError, Primitive, Term, Types, need_axes, register
from archlang.primitives.attention_code import whole
from archlang.primitives.position_rotary import places
from archlang.shapes import TensorType, is_float


@register
class Sinusoid(Primitive):
    """table[p, 2 i] = sin(p / base^(2 i / c)), table[p, 2 i + 1] = cos of it: the positions of x along `on`, to be
    added to it (Vaswani et al., NeurIPS 2017). The result has those axes and `c`.

    `on` is x's time axis by default, else its one space axis. Of several axes (`on = [w, h]`) each has an equal share
    of the channels, in the order written. Where not `interleaved`, all sines of an axis come first, then its cosines.
    """

    name: ClassVar[str] = "sinusoid"
    saves: ClassVar[tuple[str, ...]] = ()

    base: Number = 10000
    on: Axes | None = None
    interleaved: bool = True

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, ("c", *(self.on or ())))
        along = places(self.on, x)
        if not along or (self.on is None and len(along) > 1):
            found = ", ".join(along) or "none"
            help = f"name them: `on = [{found}]`" if along else "name it: `on = t`"
            raise OpError("A319", f"`sinusoid` is along one axis, and {x} has {found}", "on", help=help)
        if self.base <= 0:
            raise OpError("A319", f"`base` must be positive, and is {self.base}", "base")
        if not facts.divides(2 * len(along), x.size("c")):
            each = "" if len(along) == 1 else f" for each of {len(along)} axes"
            raise OpError("A204", f"`sinusoid` makes pairs of channels{each}, and `c` is {x.size('c')}", "x")
        return TensorType((*(x[name] for name in along), x["c"]), x.dtype if is_float(x.dtype) else "float")

    def emit(self, code: Emission, x: Term) -> Term:
        return self._written(code)

    def resumes(self, x: TensorType) -> bool:
        return all(x[name].role != "time" for name in places(self.on, x)[1:])

    def resume(self, code: Emission, x: Term) -> Term:
        """Places of time count on."""
        *along, _ = code.outputs[0].axes
        return self._written(code, **({"past": code.past(along[0])} if along[0].role == "time" else {}))

    def _written(self, code: Emission, **more: str) -> Term:
        *along, c = code.outputs[0].axes
        sizes = [code.size(axis.size) for axis in along]
        size = sizes[0] if len(along) == 1 else f"({', '.join(sizes)})"
        named = {"dtype": code.working(), "device": code.device()}
        if self.base != 10000:
            named["base"] = code.const(float(self.base))
        if not self.interleaved:
            named["interleaved"] = "False"
        options = ", ".join(f"{name}={text}" for name, text in {**named, **more}.items())
        helper = code.helper("sinusoid" if len(along) == 1 else "axial_sinusoid")
        return Term(f"{helper}({size}, {code.size(c.size)}, {options})", (*(axis.name for axis in along), "c"))

    def reference(self, types: Types, x: Named) -> Named:
        *along, c = types.outputs[0].axes
        sizes, share = [whole(axis.size) for axis in along], whole(c.size) // len(along)
        table = x.tensor.new_empty(*sizes, whole(c.size))
        for axis, size in enumerate(sizes):
            for p in range(size):
                for i in range(share // 2):
                    angle = table.new_tensor(p / float(self.base) ** (2 * i / share))
                    a, b = (2 * i, 2 * i + 1) if self.interleaved else (i, i + share // 2)
                    place = table.select(axis, p)
                    place[..., axis * share + a], place[..., axis * share + b] = angle.sin(), angle.cos()
        return Named(table, (*(axis.name for axis in along), "c"))
