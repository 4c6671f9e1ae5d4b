"""Transposed convolutions over all space and time axes at once."""

from collections.abc import Sequence
from itertools import product as pairs
from typing import Any, ClassVar

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    OpError,
    Param,
    PerAxis,
    Primitive,
    Term,
    Types,
    Whole,
    need_axes,
    register,
)
from archlang.primitives.conv_parts import contract, need_apart, need_groups, shifted
from archlang.primitives.init import Start
from archlang.primitives.linear import need_offset
from archlang.primitives.sliding import (
    Padding,
    Window,
    adjoint_ahead,
    in_blocks,
    is_stacked,
    keywords,
    map_order,
    mixed,
    need_float,
    per_axis,
    slid,
    spell,
    spread,
    stacked,
    steps,
    unstacked,
)
from archlang.shapes import TensorType
from archlang.sizes import Size, divide, product


@register
class ConvTranspose(Primitive):
    """y[.., units, i stride + k dilation - left] = bias[units] + sum over c, i, k of x[.., c, i] weight[c, units, k].

    The adjoint of `conv`; i runs over `on`, all space and time axes.
    Weight: [c, units / groups, *kernel], as `torch.nn.ConvTransposeNd`. A given weight has these axes, the kernel's
    under the names of those slid over; a given offset, in the place of the bias, the axis units.

    `padding` falls away at the ends of the whole result, which is (s - 1) stride + dilation (kernel - 1) + 1 long.
    "same", the default, leaves s * stride: of the rest half, rounded up, falls on the left (kernel = stride: none);
    on time all of it on the right, so that no output sees a later input. "valid" is none. A number falls away on both
    sides; `output_padding` positions more stay on the right.
    """

    name: ClassVar[str] = "conv_transpose"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight?", "offset?")
    prefers: ClassVar[str | None] = "first"

    units: Whole
    kernel: PerAxis
    stride: PerAxis = 1
    padding: Padding = "same"
    output_padding: PerAxis = 0
    groups: Whole = 1
    dilation: PerAxis = 1
    bias: bool = True
    on: Axes = ("space", "time")
    init: Start = None
    init_bias: Start = None

    def windows(self, x: TensorType) -> tuple[Window, ...]:
        """The windows of its adjoint; `left` and `right` fall away, and a negative `right` is added."""
        names = slid(self.on, x, self)
        more = per_axis(self.output_padding, names, "output_padding", 0)
        found = []
        for name, extra, (word, k, s, d) in zip(names, more, steps(self, names), strict=True):
            left, right = self._crop(word, d * (k - 1) - (s - 1), x[name].role == "time")
            found.append(Window(x[name], k, s, d, left, right - extra))
        return tuple(found)

    @staticmethod
    def _crop(word: Any, rest: int, time: bool) -> tuple[int, int]:
        if word == "tf_same":
            raise OpError(
                "A319", '`conv_transpose` has no padding "tf_same"', "padding", help='"same" makes size * stride'
            )
        if word == "causal" or (word == "same" and time):
            return 0, rest
        if word == "same":
            left = max((rest + 1) // 2, 0)
            return left, rest - left
        return (0, 0) if word == "valid" else (word, word)

    def infer(
        self, facts: Facts, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None
    ) -> TensorType:
        need_axes(x, ("c",))
        need_float(x, self)
        need_offset(facts, offset, "units", self.units)
        found = self.windows(x)
        need_apart(self, found)
        need_groups(self, facts, self.groups, self.units, x.size("c"))
        if weight is not None:
            self._need_weight(facts, x, weight)
        sizes = {window.name: self._size(window) for window in found}
        for window in found:
            if x[window.name].role == "time" and adjoint_ahead(window):
                advice = "leave `padding` out: on time, `conv_transpose` drops the end"
                raise OpError(
                    "A208",
                    f"`conv_transpose` would look ahead along the time axis `{window.name}`",
                    "padding",
                    help=advice,
                )
            if -window.right >= max(window.stride, window.dilation):
                raise OpError(
                    "A319", f"`output_padding` of `{window.name}` must be less than its stride", "output_padding"
                )
            if not facts.require(Condition("<=", 1, sizes[window.name]), "`conv_transpose` leaves something"):
                raise OpError("A204", f"the padding leaves nothing of the axis `{window.name}`", "padding")
        return x.resized(c=self.units, **sizes)

    def _shape(self, x: TensorType) -> dict[str, Size]:
        """The axes of the weight with their sizes."""
        kernel = {window.name: window.kernel for window in self.windows(x)}
        return {"c": x.size("c"), "units": divide(self.units, self.groups), **kernel}

    def _need_weight(self, facts: Facts, x: TensorType, weight: TensorType) -> None:
        wanted = self._shape(x)
        need_axes(weight, wanted, "weight")
        if len(weight.axes) != len(wanted) or any(not facts.equal(weight.size(n), size) for n, size in wanted.items()):
            sizes = ", ".join(f"{name} = {size}" for name, size in wanted.items())
            raise OpError("A204", f"the weight is [{sizes}], and this is {weight}", "weight")

    @staticmethod
    def _size(window: Window) -> Size:
        size: Size = (window.axis.size - 1) * window.stride + window.reach + 1 - window.left - window.right
        return size

    def params(
        self, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None
    ) -> dict[str, Param]:
        shape = self._shape(x)
        own = {} if weight is not None else {"weight": Param(tuple(shape.values()), tuple(shape))}
        return own | ({"bias": Param((self.units,), ("units",))} if self.bias and offset is None else {})

    def emit(self, code: Emission, x: Term, weight: Term | None = None, offset: Term | None = None) -> Term:
        found = self.windows(code.inputs[0])
        image, others = stacked(code, x, ("c", *(window.name for window in found)))
        # the module drops `padding` on both sides and puts `output_padding`, less than a step, back on the right
        within = all(w.left >= 0 and 0 <= w.left - w.right < max(w.stride, w.dilation) for w in found)
        padding = [window.left if within else 0 for window in found]
        extra = [window.left - window.right if within else max(-window.right, 0) for window in found]
        stride, dilation = [window.stride for window in found], [window.dilation for window in found]
        named = keywords(
            code, stride=stride, padding=padding, output_padding=extra, groups=[self.groups], dilation=dilation
        )
        bias = self.bias and offset is None
        if weight is None:
            y = self._own(code, image, found, bias, named)
        else:
            y, offset = self._given(code, image, weight, offset, named)
        if bias:
            code.initialise("bias", self.init_bias)
        y = y if within else Term(y.code + self._cut(code, found), image.order)
        return unstacked(code, shifted(y, offset, len(found)), others)

    def _own(self, code: Emission, x: Term, found: Sequence[Window], bias: bool, named: dict[str, str]) -> Term:
        """With weights of its own."""
        named = named | ({} if bias else {"bias": "False"})
        kernel = spell(code, [window.kernel for window in found])
        sizes = (code.size(code.inputs[0].size("c")), code.size(self.units), kernel)
        y = Term(f"{code.module(f'nn.ConvTranspose{len(found)}d', *sizes, **named)}({x.code})", x.order)
        code.initialise("weight", self.init)
        return y

    def _given(
        self, code: Emission, x: Term, weight: Term, offset: Term | None, named: dict[str, str]
    ) -> tuple[Term, Term | None]:
        """With a given weight, and what is still to be added."""
        slid = x.order[x.order.index("c") + 1 :]
        if offset is None and self.bias:
            code.module("LoneBias", code.size(self.units))
            offset = Term(code.weight("bias"), ("units",))
        given = [x.code, code.permute(weight, ("c", "units", *slid)).code, *([offset.code] if offset else [])]
        call = ", ".join([*given, *(f"{name}={value}" for name, value in named.items())])
        return Term(f"F.conv_transpose{len(slid)}d({call})", x.order), None

    @staticmethod
    def _cut(code: Emission, found: Sequence[Window]) -> str:
        left = [code.size(window.left) if window.left else "" for window in found]
        right = [f"-{code.size(window.right)}" if window.right > 0 else "" for window in found]
        return f"[..., {', '.join(f'{a}:{b}' for a, b in zip(left, right, strict=True))}]"

    def memory(self, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None) -> Memory:
        over = [window.name for window in self.windows(x)]
        order = map_order(x, over)
        stacked = is_stacked(x, order, over)
        keeps = {"x": "" if weight is None else "weight", "weight": "x"}
        memory = Memory(keeps, order=order) if stacked else Memory(kept=x.bytes, back=x.bytes, order=order)
        made = self.infer(Facts(), x)
        return in_blocks(memory, x, made, again=1)

    def reference(
        self,
        types: Types,
        x: Named,
        given: Named | None = None,
        offset: Named | None = None,
        weight: Any = None,
        bias: Any = None,
    ) -> Named:
        found = self.windows(types.inputs[0])
        if given is not None:
            weight = given.to(("c", "units", *(window.name for window in found)))
        bias = bias if offset is None else offset.to(("units",))
        weight = (
            weight.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)
        )  # [units, c / groups, ..], as `conv` has it
        parts = []
        for tap in pairs(*(range(window.kernel) for window in found)):
            y = contract(x, Named(weight[(slice(None), slice(None), *tap)], ("units", "c")), self.groups)
            for window, k in zip(found, tap, strict=True):
                y = spread(y, window, k, types.outputs[0].size(window.name))
            parts.append(y)
        y = sum(parts[1:], parts[0])
        return y if bias is None else y + Named(bias, ("c",))

    def macs(self, x: TensorType, *given: TensorType | None) -> Size:
        kernel = product(window.kernel for window in self.windows(x))
        return x.numel * divide(self.units, self.groups) * kernel

    def mixes(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        return mixed(self.windows(x)) | {"c"}

    def looks_ahead(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        return frozenset(window.name for window in self.windows(x) if adjoint_ahead(window)) | {"c"}

    def resumes(self, x: TensorType, *given: TensorType | None) -> bool:
        """Windows of time that each are a stride."""
        return all(w.reach < w.stride and (w.left, w.right) == (0, 0) for w in self.windows(x) if w.axis.role == "time")
