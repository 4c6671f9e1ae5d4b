"""Convolutions over all space and time axes at once: 1-D, 2-D and 3-D are one definition."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeAlias

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
    ahead,
    behind_tail,
    even,
    in_blocks,
    keywords,
    mixed,
    need_float,
    padded,
    slid_memory,
    slide,
    spell,
    stacked,
    taps,
    unstacked,
    windows,
)
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, divide, product

Mode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]


@register
class Conv(Primitive):
    """y[.., units, o] = bias[units] + sum over c, k of weight[units, c, k] x[.., c, o stride + k dilation - left].

    o and k run over `on`, all space and time axes; with `groups`, c only over those of the group of the unit.
    Weight: [units, c / groups, *kernel], kernel axes in the order of x, as `torch.nn.ConvNd`.
    A given weight has the axes units, c and a kernel axis for each axis slid over, under its name; other axes
    (b: a kernel for every sample) pair with those of x. A given offset, in the place of the bias, has the axis units.

    `padding` adds positions, which `mode` fills:
    - "same", the default, makes a size s into s / stride where that is whole; it takes
      n = max(dilation (kernel - 1) - (stride - 1), 0) in all. Half of n, rounded up, is on both sides, as in nets in
      PyTorch (3 x 3 pads 1, at stride 2 too, for ceil(s / 2); kernel = stride pads nothing); with stride 1 and n odd,
      one less is on the left. On time all n are on the left: no output sees a later input, the stride must divide s.
    - "causal" is what "same" is on time, on any axis. "valid" is none. A number is added on both sides.
    - "tf_same" is TensorFlow's SAME: as few as give ceil(s / stride) outputs, the odd one on the right.
    """

    name: ClassVar[str] = "conv"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight?", "offset?")
    prefers: ClassVar[str | None] = "first"

    units: Whole
    kernel: PerAxis = 3
    stride: PerAxis = 1
    padding: Padding = "same"
    dilation: PerAxis = 1
    groups: Whole = 1
    bias: bool = True
    mode: Mode = "zeros"
    on: Axes = ("space", "time")
    init: Start = None
    init_bias: Start = None

    def infer(
        self, facts: Facts, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None
    ) -> TensorType:
        need_axes(x, ("c",))
        need_float(x, self)
        need_offset(facts, offset, "units", self.units)
        found = windows(self, x)
        need_apart(self, found)
        sizes = slide(self, facts, found)
        need_groups(self, facts, self.groups, self.units, x.size("c"))
        self._need_source(facts, found)
        if weight is not None:
            self._need_weight(facts, x, weight)
        return x.resized(c=self.units, **sizes)

    def _need_source(self, facts: Facts, found: Sequence[Window]) -> None:
        """Refuse to add more than there is to repeat."""
        for window in found if self.mode in ("reflect", "circular") else ():
            size, spare = window.axis.size, int(self.mode == "reflect")
            for side in (window.left, window.right):
                if not facts.require(
                    Condition("<=", side + spare, size), f'`{self.name}` pads in the mode "{self.mode}"'
                ):
                    raise OpError(
                        "A204",
                        f'padding {side} in the mode "{self.mode}" needs more of `{window.name}` than {size}',
                        "padding",
                    )

    def _need_weight(self, facts: Facts, x: TensorType, weight: TensorType) -> None:
        kernel = {window.name: window.kernel for window in windows(self, x)}
        wanted: dict[str, Size] = {"units": self.units, "c": divide(x.size("c"), self.groups), **kernel}
        need_axes(weight, wanted, "weight")
        need_axes(x, [name for name in weight.names if name != "units"], "weight")
        wanted |= {name: x.size(name) for name in weight.names if name not in wanted}
        for axis in weight:
            if not facts.equal(axis.size, wanted[axis.name]):
                raise OpError(
                    "A204", f"axis `{axis.name}` of the weight has {axis.size}, not {wanted[axis.name]}", "weight"
                )

    def params(
        self, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None
    ) -> dict[str, Param]:
        bias = {"bias": Param((self.units,), ("units",))} if self.bias and offset is None else {}
        if weight is not None:
            return bias
        found = windows(self, x)
        shape = (self.units, divide(x.size("c"), self.groups), *(window.kernel for window in found))
        return {"weight": Param(shape, ("units", "c", *(window.name for window in found))), **bias}

    def emit(self, code: Emission, x: Term, weight: Term | None = None, offset: Term | None = None) -> Term:
        found = windows(self, code.inputs[0])
        if weight is not None:
            return self._emit_given(code, x, weight, offset, found)
        image, others = stacked(code, x, ("c", *(window.name for window in found)))
        within = even(found)
        image = image if within else padded(code, image, found, self._fill)
        mode = {"padding_mode": f'"{self.mode}"'} if within and self.mode != "zeros" else {}
        own = self.bias and offset is None
        bias = {} if own else {"bias": "False"}
        sizes = (
            code.size(code.inputs[0].size("c")),
            code.size(self.units),
            spell(code, [window.kernel for window in found]),
        )
        conv = code.module(
            f"nn.Conv{len(found)}d", *sizes, **self._arguments(code, found, within, self.groups), **bias, **mode
        )
        code.initialise("weight", self.init)
        if own:
            code.initialise("bias", self.init_bias)
        return unstacked(code, shifted(Term(f"{conv}({image.code})", image.order), offset, len(found)), others)

    @property
    def _fill(self) -> str:
        return "" if self.mode == "zeros" else f', mode="{self.mode}"'

    @staticmethod
    def _arguments(code: Emission, found: Sequence[Window], within: bool, groups: Size) -> dict[str, str]:
        padding = [window.left if within else 0 for window in found]
        stride, dilation = [window.stride for window in found], [window.dilation for window in found]
        return keywords(code, stride=stride, padding=padding, dilation=dilation, groups=[groups])

    def _emit_given(self, code: Emission, x: Term, weight: Term, offset: Term | None, found: Sequence[Window]) -> Term:
        """A kernel for every sample: the samples are groups, [rest, samples c, ..] with [samples units, c, ..]."""
        names = tuple(window.name for window in found)
        paired = tuple(name for name in weight.order if name not in ("units", "c", *names))
        image, others = stacked(code, x, (*paired, "c", *names))
        kernel = code.permute(weight, (*paired, "units", "c", *names))
        if paired:
            image = Term(f"{image.safe}.flatten(1, {len(paired) + 1})", (image.order[0], "c", *names))
            kernel = Term(f"{kernel.safe}.flatten(0, {len(paired)})", ("units", "c", *names))
        within = even(found) and self.mode == "zeros"
        image = image if within else padded(code, image, found, self._fill)
        samples = [code.inputs[0][name] for name in paired]
        arguments = self._arguments(code, found, within, 1)
        groups = product(axis.size for axis in samples) * self.groups
        if groups != 1:
            arguments["groups"] = code.size(groups)
        if self.bias and offset is None:
            code.module("LoneBias", code.size(self.units))
            code.initialise("bias", self.init_bias)
            offset = Term(code.weight("bias"), ("units",))
        within_call = [offset.code] if offset and not paired else []
        given = [image.code, kernel.code, *within_call, *(f"{name}={value}" for name, value in arguments.items())]
        call = Term(f"F.conv{len(found)}d({', '.join(given)})", image.order)
        y = code.split(call, "c", [*samples, code.outputs[0]["c"]])
        return unstacked(code, y if within_call else shifted(y, offset, len(found)), others)

    def reference(
        self,
        types: Types,
        x: Named,
        given: Named | None = None,
        offset: Named | None = None,
        weight: Any = None,
        bias: Any = None,
    ) -> Named:
        found = windows(self, types.inputs[0])
        bias = bias if offset is None else offset.to(("units",))
        kernel = given or Named(weight, ("units", "c", *(window.name for window in found)))
        parts = []
        for tap, seen in taps(x, found, self.mode):
            one = kernel
            for window, k in zip(found, tap, strict=True):
                one = one.select(window.name, k)
            parts.append(contract(seen, one, self.groups))
        y = sum(parts[1:], parts[0])
        return y if bias is None else y + Named(bias, ("c",))

    def memory(self, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None) -> Memory:
        found = windows(self, x)
        plain = even(found) and self.mode == "zeros"
        memory = slid_memory(x, found, plain)
        kept = {} if plain or self.mode not in ("reflect", "replicate") else {"x": ""}
        wanted = "" if weight is None else "weight"
        made = self.infer(Facts(), x)
        alone = self.groups != 1 or all(window.kernel == 1 for window in found)
        memory = in_blocks(memory, x, made, blocked=alone or x.size("c") not in (1, 2, 3, 4))
        if weight is not None:
            memory = replace(memory, work=(memory.work or 0) + weight.bytes)
        return replace(memory, keeps={**dict.fromkeys((*memory.keeps, *kept), wanted), "weight": "x"})

    # ---- one position of time after another
    def state(
        self, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None
    ) -> Mapping[str, TensorType]:
        """The tail: the inputs that later windows still see."""
        tail = self._tail(x) if weight is None and offset is None else None
        return {"tail": x.resized(**{tail.name: tail.left})} if tail is not None and tail.left else {}

    def _tail(self, x: TensorType) -> Window | None:
        """The window along time, where each call of whole strides sees so many positions before it as are padded."""
        found = windows(self, x)
        alone = len(found) == 1 and found[0].axis.role == "time" and self.mode == "zeros"
        before = max(found[0].reach + 1 - found[0].stride, 0) if alone else 0
        return found[0] if alone and (found[0].left, found[0].right) == (before, 0) else None

    def step(
        self, types: Types, state: Mapping[str, Named], x: Named, *others: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        import torch

        type_ = types.inputs[0]
        (window,), before = windows(self, type_), state.get("tail")
        values = x.to(type_.names)
        at = type_.names.index(window.name)
        blank = values.narrow(at, 0, 1).expand([window.left if i == at else -1 for i in range(values.ndim)]) * 0
        seen = torch.cat([blank if before is None else before.to(type_.names), values], at)
        now = Types((type_.resized(**{window.name: window.left + window.stride}),), types.outputs)
        op = self.model_copy(update={"padding": "valid"})
        y = op.reference(now, Named(seen, type_.names), **weights)
        return y, {"tail": Named(seen.narrow(at, window.stride, window.left), type_.names)}

    def resumes(self, x: TensorType, *given: TensorType | None) -> bool:
        """With the weights of another layer too."""
        return self._tail(x) is not None

    def resume(self, code: Emission, x: Term, weight: Term | None = None, offset: Term | None = None) -> Term:
        """What windows still see of the past, in the place of what would be padded."""
        type_, window = code.inputs[0], self._tail(code.inputs[0])
        if window is None or not window.left:
            return self.emit(code, x, weight, offset)
        x = behind_tail(code, x, window.name, window.left)
        seen = type_.resized(**{window.name: window.axis.size + window.left})
        op = self.model_copy(update={"padding": "valid"})
        return op.emit(code.standing_in(op, seen, *code.inputs[1:]), x, weight, offset)

    def macs(self, x: TensorType, *given: TensorType | None) -> Size:
        found = windows(self, x)
        rest = product(axis.size for axis in x.without("c", *(window.name for window in found)))
        kernel: Size = product(window.kernel for window in found) * divide(x.size("c"), self.groups)
        outputs: Size = product(window.count for window in found) * self.units
        return rest * outputs * kernel

    def mixes(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        return mixed(windows(self, x)) | {"c"}

    def looks_ahead(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        found = windows(self, x)
        later = {
            window.name
            for window in found
            if self.mode in ("reflect", "circular") and (window.left, window.right) != (0, 0)
        }
        return ahead(found) | {"c"} | later


@register
class Depthwise(Primitive):
    """`conv` with groups = units = c: every channel has a kernel of its own. Weight: [c, 1, *kernel].

    A given weight has the axis c and a kernel axis for each axis slid over; others pair with those of x, as in `conv`.
    A given offset, in the place of the bias, has the axis c.
    """

    name: ClassVar[str] = "depthwise"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight?", "offset?")
    prefers: ClassVar[str | None] = "first"

    kernel: PerAxis = 3
    stride: PerAxis = 1
    padding: Padding = "same"
    dilation: PerAxis = 1
    bias: bool = True
    mode: Mode = "zeros"
    on: Axes = ("space", "time")
    init: Start = None
    init_bias: Start = None

    def conv(self, x: TensorType) -> Conv:
        """The same as a `conv`."""
        need_axes(x, ("c",))
        return Conv(units=x.size("c"), groups=x.size("c"), **dict(self))

    def infer(
        self, facts: Facts, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None
    ) -> TensorType:
        need_axes(x, ("c",))
        need_offset(facts, offset, "c", x.size("c"))
        if weight is not None and "c" in weight and not facts.equal(weight.size("c"), x.size("c")):
            title = f"the weight has kernels for c = {weight.size('c')}, and x has c = {x.size('c')}"
            raise OpError("A204", title, "weight")
        return self.conv(x).infer(facts, x, self._kernels(weight))

    @staticmethod
    def _kernels(weight: TensorType | None) -> TensorType | None:
        """A given weight as `conv` takes it: its channels are the units, each of which sees one."""
        if weight is None:
            return None
        need_axes(weight, ("c",), "weight")
        axes = (Axis("units", axis.size, "free") if axis.name == "c" else axis for axis in weight)
        return replace(weight, axes=(*axes, Axis("c", 1, "channel")))

    def params(self, x: TensorType, *given: TensorType | None) -> dict[str, Param]:
        return self.conv(x).params(x, *given)

    def emit(self, code: Emission, x: Term, weight: Term | None = None, offset: Term | None = None) -> Term:
        return self.conv(code.inputs[0]).emit(code, x, self._units(weight), offset)

    def resumes(self, x: TensorType, *given: TensorType | None) -> bool:
        return self.conv(x).resumes(x, *given)

    def resume(self, code: Emission, x: Term, weight: Term | None = None, offset: Term | None = None) -> Term:
        return self.conv(code.inputs[0]).resume(code, x, self._units(weight), offset)

    @staticmethod
    def _units(weight: Term | None) -> Term | None:
        """A given weight as `conv` takes it."""
        if weight is None:
            return None
        order = tuple("units" if name == "c" else name for name in weight.order)
        return Term(f"{weight.safe}.unsqueeze(-1)", (*order, "c"))

    def reference(
        self, types: Types, x: Named, given: Named | None = None, offset: Named | None = None, **weights: Any
    ) -> Named:
        offset = offset and offset.rename(c="units")
        if given is not None:
            given = given.rename(c="units")
            given = Named(given.tensor.unsqueeze(-1), (*given.names, "c"))
        return self.conv(types.inputs[0]).reference(types, x, given, offset, **weights)

    def memory(self, x: TensorType, *given: TensorType | None) -> Memory:
        return self.conv(x).memory(x, *given)

    def state(self, x: TensorType, *given: TensorType | None) -> Mapping[str, TensorType]:
        return self.conv(x).state(x, *given)

    def step(
        self, types: Types, state: Mapping[str, Named], x: Named, *others: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        return self.conv(types.inputs[0]).step(types, state, x, **weights)

    def macs(self, x: TensorType, *given: TensorType | None) -> Size:
        return self.conv(x).macs(x)

    def mixes(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        return self.conv(x).mixes(x) - {"c"}

    def looks_ahead(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        return self.conv(x).looks_ahead(x) - {"c"}
