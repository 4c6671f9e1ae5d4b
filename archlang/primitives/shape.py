"""Operations that cut, join and name axes, and compute nothing."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from archlang.facts import Condition, Facts
from archlang.named import Named
from archlang.primitive import (
    Axes,
    AxisName,
    Emission,
    OpError,
    PerName,
    Primitive,
    Term,
    Types,
    Whole,
    axes_of,
    describe,
    need_axes,
    need_named,
    register,
)  # fmt: skip
from archlang.primitives.broadcast import dims, index, join, known, need_new, one_axis, sequence, spread
from archlang.shapes import Axis, TensorType, default_role
from archlang.sizes import Poly, Size, ceil, divide


@register
class Identity(Primitive):
    """y = x."""

    name: ClassVar[str] = "identity"
    views: ClassVar[bool] = True
    saves: ClassVar[tuple[str, ...]] = ()

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        return x

    def reference(self, types: Types, x: Named) -> Named:
        return x


@register
class Rename(Primitive):
    """The same values under other names of axes: `rename(v, c = value)`. The role of an axis follows its new name."""

    name: ClassVar[str] = "rename"
    views: ClassVar[bool] = True
    saves: ClassVar[tuple[str, ...]] = ()

    names: PerName

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        new = dict(self.names.items)
        need_named(x, new)
        axes = tuple(Axis(new[a.name], a.size, default_role(new[a.name])) if a.name in new else a for a in x)
        for name in new.values():
            if sum(axis.name == name for axis in axes) > 1:
                raise OpError(
                    "A206", f"two axes would be `{name}` in {x}", next(old for old in new if new[old] == name)
                )
        return replace(x, axes=axes)

    def emit(self, code: Emission, x: Term) -> Term:
        new = dict(self.names.items)
        return replace(x, order=tuple(new.get(name, name) for name in x.order))

    def reference(self, types: Types, x: Named) -> Named:
        return x.rename(**dict(self.names.items))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(name for name, _ in self.names.items)


@register
class Expand(Primitive):
    """The values repeated along new axes: `expand(cls_token, n = 1)`. Nothing is copied."""

    name: ClassVar[str] = "expand"
    views: ClassVar[bool] = True
    saves: ClassVar[tuple[str, ...]] = ()

    sizes: PerName

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        for name, _ in self.sizes.items:
            need_new(x, name, name)
        return join(facts, TensorType(self.made, "bool"), x)

    @property
    def made(self) -> tuple[Axis, ...]:
        """The new axes."""
        return tuple(Axis(name, size, default_role(name)) for name, size in self.sizes.items)

    def emit(self, code: Emission, x: Term) -> Term:
        batch = next((i for i, name in enumerate(x.order) if code.inputs[0][name].role != "batch"), len(x.order))
        order = (*x.order[:batch], *(axis.name for axis in self.made), *x.order[batch:])
        if all(axis.size == 1 for axis in self.made):
            return Term(f"{x.safe}[{', '.join([':'] * batch + ['None'] * len(self.made))}]", order)
        return spread(code, x, order, code.outputs[0])

    def resumes(self, x: TensorType) -> bool:
        """Values that are the same at every position."""
        return all(axis.role == "time" for axis in self.made if isinstance(axis.size, Poly))

    def reference(self, types: Types, x: Named) -> Named:
        made = types.outputs[0]
        names = (*(name for name, _ in self.sizes.items), *x.names)
        return Named(x.to(names).expand([known(made.size(name)) for name in names]), names)


# ---- joining and cutting
@register
class Concat(Primitive):
    """The tensors one behind the other along `on`; other axes agree or are repeated."""

    name: ClassVar[str] = "concat"
    saves: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("*xs",)

    on: Axes

    def infer(self, facts: Facts, xs: tuple[TensorType, ...]) -> TensorType:
        if not xs:
            raise OpError("A301", "`concat` needs a tensor", "xs")
        axis = one_axis(self.on, xs[0])
        for x in xs:
            need_axes(x, [axis], "xs")
        total = sum((x.size(axis) for x in xs[1:]), start=xs[0].size(axis))
        return join(facts, *(x.resized(**{axis: total}) for x in xs))

    def emit(self, code: Emission, xs: tuple[Term, ...]) -> Term:
        widest = max(xs, key=lambda x: len(x.order)).order
        order = (*(name for name in code.outputs[0].names if name not in widest), *widest)
        axis = one_axis(self.on, code.inputs[0][0])
        place = dims(Term("", order), [axis])
        # the size along `on` is each tensor's own, and never repeated
        terms = [spread(code, x, order, code.outputs[0]) for x in xs]
        return Term(f"torch.cat({sequence(term.code for term in terms)}, {place})", order)

    def reference(self, types: Types, xs: tuple[Named, ...]) -> Named:
        import torch

        made, axis = types.outputs[0], one_axis(self.on, types.inputs[0][0])
        shapes = [[x.size(axis) if name == axis else known(made.size(name)) for name in made.names] for x in xs]
        return Named(
            torch.cat(
                [x.to(made.names).expand(shape) for x, shape in zip(xs, shapes, strict=True)], made.names.index(axis)
            ),
            made.names,
        )

    def mixes(self, xs: tuple[TensorType, ...]) -> frozenset[str]:
        return frozenset(axes_of(self.on, xs[0]))

    def looks_ahead(self, xs: tuple[TensorType, ...]) -> frozenset[str]:
        return frozenset()


@register
class Stack(Primitive):
    """The tensors side by side along a new axis; other axes agree or are repeated."""

    name: ClassVar[str] = "stack"
    saves: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("*xs",)

    axis: AxisName

    def infer(self, facts: Facts, xs: tuple[TensorType, ...]) -> TensorType:
        if not xs:
            raise OpError("A301", "`stack` needs a tensor", "xs")
        joined = join(facts, *xs)
        need_new(joined, self.axis, "axis")
        return replace(joined, axes=(Axis(self.axis, len(xs), default_role(self.axis)), *joined.axes))

    def emit(self, code: Emission, xs: tuple[Term, ...]) -> Term:
        widest = max(xs, key=lambda x: len(x.order)).order
        order = (*(name for name in code.outputs[0].names if name not in (*widest, self.axis)), *widest)
        terms = [spread(code, x, order, code.outputs[0]) for x in xs]
        return Term(
            f"torch.stack({sequence(term.code for term in terms)})",
            (self.axis, *order),
        )

    def reference(self, types: Types, xs: tuple[Named, ...]) -> Named:
        import torch

        made = types.outputs[0].without(self.axis)
        shape = [known(axis.size) for axis in made]
        return Named(torch.stack([x.to(made.names).expand(shape) for x in xs]), (self.axis, *made.names))


def _parts(value: Any) -> Any:
    whole = value if isinstance(value, tuple | list) else (value,)
    if not whole or not all(isinstance(item, int | Poly) and not isinstance(item, bool) for item in whole):
        raise ValueError(f"must be a count of equal parts or a list of sizes, and is {describe(value)}")
    return tuple(value) if isinstance(value, list) else value


@register
class Split(Primitive):
    """x cut along `on`, in order: `split(2, on = c)` into equal parts, `split([64, 32], on = c)` into these sizes."""

    name: ClassVar[str] = "split"
    views: ClassVar[bool] = True
    saves: ClassVar[tuple[str, ...]] = ()

    parts: Annotated[Any, BeforeValidator(_parts)]
    on: Axes

    def sizes(self, facts: Facts, x: TensorType) -> tuple[Size, ...]:
        """The sizes of the parts."""
        axis = one_axis(self.on, x)
        whole = x.size(axis)
        if isinstance(self.parts, tuple):
            total = sum(self.parts[1:], start=self.parts[0])
            if not facts.equal(total, whole):
                raise OpError("A204", f"the parts sum to {total}, and axis `{axis}` has size {whole}", "parts")
            return self.parts
        if not isinstance(self.parts, int) or self.parts < 1 or not facts.divides(self.parts, whole):
            raise OpError("A207", f"{self.parts} equal parts do not make {whole}, the size of axis `{axis}`", "parts")
        return (divide(whole, self.parts),) * self.parts

    def infer(self, facts: Facts, x: TensorType) -> tuple[TensorType, ...]:
        axis = one_axis(self.on, x)
        return tuple(x.resized(**{axis: size}) for size in self.sizes(facts, x))

    def emit(self, code: Emission, x: Term) -> tuple[Term, ...]:
        place = dims(x, [one_axis(self.on, code.inputs[0])])
        if isinstance(self.parts, tuple):
            call = f"{x.safe}.split({sequence(map(code.size, self.parts))}, {place})"
        else:
            call = f"{x.safe}.chunk({self.parts}, {place})"
        return code.unpack(call, *[x.order] * len(code.outputs))

    def reference(self, types: Types, x: Named) -> tuple[Named, ...]:
        axis, start, parts = one_axis(self.on, types.inputs[0]), 0, []
        for made in types.outputs:
            stop = start + known(made.size(axis))
            parts.append(x.select(axis, slice(start, stop)))
            start = stop
        return tuple(parts)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, x))


@register
class Slice(Primitive):
    """Positions start, start + stride, .. before stop of an axis: `x[h = 0::2]`. Negative bounds count from its end."""

    name: ClassVar[str] = "slice"
    views: ClassVar[bool] = True
    saves: ClassVar[tuple[str, ...]] = ()

    axis: AxisName
    start: Whole | None = None
    stop: Whole | None = None
    stride: Whole | None = None

    def bounds(self, x: TensorType) -> tuple[Size, Size, Size]:
        """Start, stop and step from the front."""
        need_named(x, [self.axis])
        whole = x.size(self.axis)
        start, stop = (whole + end if isinstance(end, int) and end < 0 else end for end in (self.start, self.stop))
        return 0 if start is None else start, whole if stop is None else stop, 1 if self.stride is None else self.stride

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        start, stop, step = self.bounds(x)
        whole = x.size(self.axis)
        if not isinstance(step, int) or step < 1:
            raise OpError(
                "A319",
                f"the step of a slice is at least 1, and here {step}",
                "stride",
                "`flip(on = ...)` reverses an axis",
            )
        inside = [Condition("<=", 0, start), Condition("<=", start, stop), Condition("<=", stop, whole)]
        if not all(facts.require(condition, f"a slice of `{self.axis}`") for condition in inside):
            raise OpError("A204", f"{start}:{stop} is not inside the axis `{self.axis}` of size {whole}", "x")
        return x.resized(**{self.axis: stop - start if step == 1 else ceil(divide(stop - start, step))})

    def emit(self, code: Emission, x: Term) -> Term:
        if self.start is None and self.stop is None and self.stride in (None, 1):
            return x
        bounds = [code.size(end) if end is not None else "" for end in (self.start, self.stop)]
        step = [code.size(self.stride)] if self.stride not in (None, 1) else []
        return Term(index(x, {self.axis: ":".join([*bounds, *step])}), x.order)

    def reference(self, types: Types, x: Named) -> Named:
        start, stop, step = (known(bound) for bound in self.bounds(types.inputs[0]))
        return x.select(self.axis, list(range(start, stop, step)))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset({self.axis})

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        return frozenset() if self.start in (None, 0) and self.stride in (None, 1) else self.mixes(x)


@register
class Select(Primitive):
    """One position of an axis, which is dropped: `x[n = 0]`. A negative index counts from the end."""

    name: ClassVar[str] = "select"
    views: ClassVar[bool] = True
    saves: ClassVar[tuple[str, ...]] = ()

    axis: AxisName
    index: Whole

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_named(x, [self.axis])
        whole = x.size(self.axis)
        below = Condition("<", self.index, whole)
        above = Condition("<=", -self.index if isinstance(self.index, int) and self.index < 0 else 0, whole)
        if not (
            facts.require(below, f"an index of `{self.axis}`") and facts.require(above, f"an index of `{self.axis}`")
        ):
            raise OpError(
                "A204", f"there is no position {self.index} in the axis `{self.axis}` of size {whole}", "index"
            )
        return x.without(self.axis)

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(index(x, {self.axis: code.size(self.index)}), tuple(name for name in x.order if name != self.axis))

    def reference(self, types: Types, x: Named) -> Named:
        return x.select(self.axis, range(x.size(self.axis))[int(self.index)])

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset({self.axis})
