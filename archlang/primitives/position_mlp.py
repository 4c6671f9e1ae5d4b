"""Biases of attention that a small network computes from the offset between two places of a cell."""

from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import AxisMap, Emission, OpError, Param, PerAxis, Term, Types, Whole, register
from archlang.primitives.attention_code import layout, whole
from archlang.primitives.domain import per_axis
from archlang.primitives.position import Table, offsets, tuple_of
from archlang.shapes import TensorType
from archlang.sizes import Size, product, total


class Computed(Table):
    """A bias computed from an offset."""

    hidden: Whole

    def memory(self, q: TensorType, k: TensorType) -> Memory:
        """What the layers made of the offsets, and which of these each pair takes."""
        rows, axes = self.rows(q, k), len(self.extents(q, k))
        kept = rows * (axes + self.read(q, k)) * q.without(*q.names).bytes
        return Memory(kept=kept, constant=product(self.sizes(q, k)) ** 2 * 8 + rows * axes * 8)

    def read(self, q: TensorType, k: TensorType) -> Size:
        """How many values of an offset the backward pass reads."""
        raise NotImplementedError

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        if not isinstance(self.hidden, int) or self.hidden < 1:
            raise OpError("A319", f"`hidden` must be at least 1, and is {self.hidden}", "hidden")
        return super().infer(facts, q, k)


@register
class LogCpb(Computed):
    """bias[heads, i, j] = 16 sigmoid(fc2 relu(fc1 x(i - j))), with x = sign(d) log_8(1 + 8 |d| / (size - 1)) along each
    axis: the log-spaced continuous position bias of Swin Transformer V2 (Liu et al., CVPR 2022).

    `size` is that of the cell, or `pretrained`, the window that the weights come from (0: the cell): larger windows
    then read the same function further out. Weights: fc1 [hidden, axes] with a bias, fc2 [heads, hidden] without.
    """

    name: ClassVar[str] = "log_cpb"

    hidden: Whole = 512
    pretrained: PerAxis = 0

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        for axis, size in zip(layout(self.on, q, k).keys, self._given(q, k), strict=True):
            if not isinstance(size, int) or size < 0:
                raise OpError(
                    "A319", f"`pretrained` is the size of a window, not {size} for `{axis.name}`", "pretrained"
                )
        if isinstance(self.pretrained, AxisMap):
            known = [axis.name for axis in layout(self.on, q, k).keys]
            for name, _ in self.pretrained.items:
                if name not in known:
                    raise OpError("A205", f"there is no axis `{name}` to attend over", "pretrained")
        return super().infer(facts, q, k)

    def _given(self, q: TensorType, k: TensorType) -> list[Size]:
        return [per_axis(self.pretrained, axis, 0) for axis in layout(self.on, q, k).keys]

    def trained(self, q: TensorType, k: TensorType) -> tuple[int, ...]:
        """The window that distances are measured by."""
        return tuple(whole(a) or b for a, b in zip(self._given(q, k), self.sizes(q, k), strict=True))

    def params(self, q: TensorType, k: TensorType) -> dict[str, Param]:
        return {
            "fc1.weight": Param((self.hidden, len(self.extents(q, k))), ("hidden", "axis")),
            "fc1.bias": Param((self.hidden,), ("hidden",)),
            "fc2.weight": Param((self.head_count(q), self.hidden), ("heads", "hidden")),
        }

    def read(self, q: TensorType, k: TensorType) -> Size:
        return total((self.hidden, self.head_count(q)))

    def macs(self, q: TensorType, k: TensorType) -> Size:
        return product((self.rows(q, k), self.hidden, len(self.extents(q, k)) + self.head_count(q)))

    def emit(self, code: Emission, q: Term, k: Term) -> Term:
        heads = code.size(self.head_count(code.inputs[0]))
        named = {"hidden": code.size(self.hidden)} if self.hidden != 512 else {}
        if (trained := self.trained(*code.inputs)) != self.sizes(*code.inputs):
            named["pretrained"] = tuple_of(code, trained)
        return self.by_head(code, f"{code.module('LogCpb', self.cell(code), heads, **named)}()")

    def reference(self, types: Types, q: Named, k: Named, **weights: Any) -> Named:
        import torch

        first, second = weights["fc1.weight"], weights["fc2.weight"]
        size = torch.tensor(self.trained(*types.inputs), dtype=first.dtype)
        offset = offsets(self.sizes(*types.inputs)).to(first.dtype)
        x = offset.sign() * (1 + 8 * offset.abs() / (size - 1).clamp(min=1)).log2() / 3
        hidden = (x @ first.T + weights["fc1.bias"]).clamp(min=0)
        return self.named(types, 16 / (1 + (-(hidden @ second.T)).exp()))


@register
class DynamicBias(Computed):
    """bias[heads, i, j] = layers_n relu(norms_n ..) of proj (i - j): the dynamic position bias of CrossFormer (Wang et
    al., ICLR 2022).

    proj maps the offset to `hidden` channels; then `depth` times layer norm, ReLU and a linear map of as many, and once
    more with a linear map to the heads.
    """

    name: ClassVar[str] = "dynamic_bias"

    hidden: Whole
    depth: int = 2

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        if self.depth < 0:
            raise OpError("A319", f"`depth` must not be negative, and is {self.depth}", "depth")
        return super().infer(facts, q, k)

    def _units(self, q: TensorType) -> list[int]:
        return [*[whole(self.hidden)] * self.depth, whole(self.head_count(q))]

    def params(self, q: TensorType, k: TensorType) -> dict[str, Param]:
        hidden, last = self.hidden, self._units(q)
        found = {"proj.weight": Param((hidden, len(self.extents(q, k))), ("hidden", "axis"))}
        found["proj.bias"] = Param((hidden,), ("hidden",))
        for i in range(len(last)):
            found[f"norms.{i}.weight"] = found[f"norms.{i}.bias"] = Param((hidden,), ("hidden",))
        for i, units in enumerate(last):
            found[f"layers.{i}.weight"] = Param((units, hidden), ("units", "hidden"))
            found[f"layers.{i}.bias"] = Param((units,), ("units",))
        return found

    def read(self, q: TensorType, k: TensorType) -> Size:
        return product((self.depth + 1, 2 * self.hidden + 2))

    def macs(self, q: TensorType, k: TensorType) -> Size:
        return product((self.rows(q, k), self.hidden, len(self.extents(q, k)) + sum(self._units(q))))

    def emit(self, code: Emission, q: Term, k: Term) -> Term:
        heads, hidden = code.size(self.head_count(code.inputs[0])), code.size(self.hidden)
        named = {"depth": code.const(self.depth)} if self.depth != 2 else {}
        return self.by_head(code, f"{code.module('DynamicBias', self.cell(code), heads, hidden, **named)}()")

    def reference(self, types: Types, q: Named, k: Named, **weights: Any) -> Named:
        proj = weights["proj.weight"]
        x = offsets(self.sizes(*types.inputs)).to(proj.dtype) @ proj.T + weights["proj.bias"]
        for i in range(self.depth + 1):
            x = x - x.mean(-1, keepdim=True)
            x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            x = (x * weights[f"norms.{i}.weight"] + weights[f"norms.{i}.bias"]).clamp(min=0)
            x = x @ weights[f"layers.{i}.weight"].T + weights[f"layers.{i}.bias"]
        return self.named(types, x)
