"""Cross-entropy of classes: of logits, and of what a linear layer makes."""

from typing import Annotated, ClassVar, Literal

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Axes, Emission, Kind, Number, OpError, Primitive, Term, Types, Whole, register
from archlang.primitives.broadcast import one_axis, refuse
from archlang.shapes import TensorType
from archlang.sizes import Size

Reduce = Annotated[Literal["mean", "sum"] | None, Kind("word")]


@register
class CrossEntropy(Primitive):
    """-log softmax(x)[target] over `on`, of logits x and the numbers of classes: the mean over all positions, their
    `sum`, or that of each (`reduction = none`).

    `label_smoothing` is the share of the mean over all classes of -log softmax(x) in its place. `z_loss` times
    logsumexp(x)^2 is added (Chowdhery et al., arXiv:2204.02311). Positions whose target is `ignore_index` are 0 and
    not counted; a mean over none is no number.
    """

    name: ClassVar[str] = "cross_entropy"
    inputs: ClassVar[tuple[str, ...]] = ("x", "target")

    on: Axes = ("c",)
    reduction: Reduce = "mean"
    ignore_index: Whole = -100
    label_smoothing: Number = 0
    z_loss: Number = 0

    def infer(self, facts: Facts, x: TensorType, target: TensorType) -> TensorType:
        places = x.without(one_axis(self.on, x))
        if "float" not in x.dtype:
            raise refuse(x, "`cross_entropy` takes logits", "`cast(x, float)`")
        if target.dtype not in ("int", "int64"):
            raise refuse(target, "a target is the number of a class", "`cast(target, int)`", "target")
        if not 0 <= self.label_smoothing <= 1:
            raise OpError("A319", f"a share is from 0 to 1, and this is {self.label_smoothing}", "label_smoothing")
        if set(places.names) != set(target.names):
            raise OpError("A205", f"every position of {places} has a target, and these are {target}", "target")
        for axis in places:
            if not facts.equal(axis.size, target.size(axis.name)):
                sizes = f"{axis.size} in `x` and {target.size(axis.name)} in `target`"
                raise OpError("A204", f"axis `{axis.name}` has {sizes}", "target")
        return places if self.reduction is None else TensorType((), x.dtype)

    def emit(self, code: Emission, x: Term, target: Term) -> Term:
        order = target.order
        x = code.permute(x, (*order, one_axis(self.on, code.inputs[0])))
        if self.z_loss:
            given = ", ".join([x.code, target.code, *self.named(code)])
            return Term(f"{code.helper('cross_entropy')}({given})", order if self.reduction is None else ())
        rows, names = (x.code, target.code), order
        if len(order) > 1:
            rows, names = (f"{x.safe}.flatten(0, {len(order) - 1})", f"{target.safe}.flatten()"), ("row",)
        y = Term(f"F.cross_entropy({', '.join([*rows, *self.named(code)])})", names)
        if self.reduction is not None:
            return Term(y.code, ())
        return y if names == order else code.split(y, "row", [code.inputs[1][name] for name in order])

    def named(self, code: Emission) -> list[str]:
        """What is not as usual, as PyTorch names it."""
        word = [] if self.reduction == "mean" else [f'reduction="{self.reduction or "none"}"']
        numbers = {name: getattr(self, name) for name in ("ignore_index", "label_smoothing", "z_loss")}
        changed = [name for name in numbers if numbers[name] != type(self).model_fields[name].default]
        return [*word, *(f"{name}={code.const(numbers[name])}" for name in changed)]

    def reference(self, types: Types, x: Named, target: Named) -> Named:
        on, names = one_axis(self.on, types.inputs[0]), types.inputs[1].names
        logits, chosen = x.to((*names, on)), target.to(names)
        total = logits.exp().sum(-1).log()
        kept = chosen != self.ignore_index
        right = logits.gather(-1, (chosen * kept).unsqueeze(-1)).squeeze(-1)
        share = self.label_smoothing
        each = total - (1 - share) * right - share * logits.mean(-1) + self.z_loss * total**2
        each = each.where(kept, each * 0)
        if self.reduction is None:
            return Named(each, names)
        return Named(each.sum() / (kept.sum() if self.reduction == "mean" else 1), ())

    def memory(self, x: TensorType, target: TensorType) -> Memory:
        """The logarithms of all probabilities, and how many positions count."""
        return Memory({"target": ""}, kept=x.bytes + TensorType((), x.dtype).bytes, back=x.bytes)

    def mixes(self, x: TensorType, target: TensorType) -> frozenset[str]:
        return frozenset(x.names if self.reduction is not None else [one_axis(self.on, x)])


class LinearCrossEntropy(Primitive):
    """`cross_entropy` of a linear layer without its logits: -log softmax(weight x + bias)[target], with weight [units,
    on] and bias [units] of the layer. What passes make for a GPU.
    """

    name: ClassVar[str] = "linear_cross_entropy"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight", "target", "bias?")
    prefers: ClassVar[str | None] = "last"

    on: Axes
    loss: InstanceOf[CrossEntropy]

    def infer(
        self, facts: Facts, x: TensorType, weight: TensorType, target: TensorType, bias: TensorType | None = None
    ) -> TensorType:
        return x.without(*self.on) if self.loss.reduction is None else TensorType((), x.dtype)

    def emit(self, code: Emission, x: Term, weight: Term, target: Term, bias: Term | None = None) -> Term:
        x = code.permute(x, (*target.order, *self.on))
        given = [x.code, code.permute(weight, ("units", "on")).code, target.code]
        named = [*([f"bias={bias.code}"] if bias else []), *self.loss.named(code)]
        order = target.order if self.loss.reduction is None else ()
        return Term(f"{code.helper('linear_cross_entropy')}({', '.join([*given, *named])})", order)

    def reference(self, types: Types, x: Named, weight: Named, target: Named, bias: Named | None = None) -> Named:
        names = types.inputs[2].names
        logits = x.to((*names, *self.on)) @ weight.to(("on", "units"))
        logits = logits if bias is None else logits + bias.to(("units",))
        kinds = TensorType((*types.inputs[2].axes, types.inputs[1]["units"]))
        loss = self.loss.model_copy(update={"on": ("units",)})
        return loss.reference(Types((kinds, types.inputs[2]), types.outputs), Named(logits, (*names, "units")), target)

    def memory(self, x: TensorType, weight: TensorType, target: TensorType, bias: TensorType | None = None) -> Memory:
        """The gradients, which are made with the loss, or what the backward pass makes the logits of again."""
        return Memory(kept=x.bytes + weight.bytes)

    def macs(self, x: TensorType, weight: TensorType, target: TensorType, bias: TensorType | None = None) -> Size:
        return x.numel * weight.size("units")

    def mixes(
        self, x: TensorType, weight: TensorType, target: TensorType, bias: TensorType | None = None
    ) -> frozenset[str]:
        return frozenset(x.names if self.loss.reduction is not None else self.on)
