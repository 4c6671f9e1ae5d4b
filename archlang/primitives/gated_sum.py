"""Sums of what was seen so far that forget, element by element."""

from collections.abc import Mapping
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    AxisName,
    Emission,
    Number,
    OpError,
    Primitive,
    Term,
    Types,
    axes_of,
    need_axes,
    register,
)
from archlang.primitives.broadcast import join
from archlang.shapes import TensorType, is_float


@register
class GatedSum(Primitive):
    """y[t] = decay[t] y[t - 1] + x[t] along one axis, element by element, from y = 0, or from `start`.

    x, decay: [.., t, ..] broadcast by name, start: [..] without t; `decay` may lack t, or be a number `factor`.
    With decay = 1 - z and x = z * candidate this is the minimal gated unit of HGRN (Qin et al., NeurIPS 2023) and of
    minGRU; with a constant decay an exponential moving average. `on` is the axis (default: the time axis, else the one
    space axis), `reverse` runs from its end. y is summed in float32 at least.
    """

    name: ClassVar[str] = "gated_sum"
    inputs: ClassVar[tuple[str, ...]] = ("x", "decay?", "start?")
    sequential: ClassVar[bool] = True

    factor: Number | None = None
    on: AxisName | None = None
    reverse: bool = False

    def axis(self, x: TensorType) -> str:
        """The axis that it runs along."""
        if self.on is not None:
            need_axes(x, (self.on,), "x")
            return axes_of((self.on,), x)[0]
        names = x.of_role("time") or x.of_role("space")
        if len(names) != 1:
            raise OpError("A205", f"`x` has {len(names) or 'no'} axes to run along: {x}", "x", "name one: `on = ..`")
        return names[0]

    def infer(
        self, facts: Facts, x: TensorType, decay: TensorType | None = None, start: TensorType | None = None
    ) -> TensorType:
        axis = self.axis(x)
        if (decay is None) == (self.factor is None):
            raise OpError("A301", "`gated_sum` takes either `decay` or a number `factor`")
        for name, type_ in (("x", x), ("decay", decay), ("start", start)):
            if type_ is not None and not is_float(type_.dtype):
                raise OpError("A214", f"a recurrence takes float tensors, and `{name}` is {type_}", name)
        made = x if decay is None else join(facts, x, decay)
        if start is not None and axis in start:
            raise OpError("A206", f"`start` is before all positions, and has their axis: {start}", "start")
        if start is not None and set(join(facts, made, start).names) != set(made.names):
            raise OpError("A205", f"`start` is {start}, which has axes that {made} lacks", "start")
        return made

    def mixes(self, x: TensorType, *others: TensorType | None) -> frozenset[str]:
        return frozenset({self.axis(x)})

    def looks_ahead(self, x: TensorType, *others: TensorType | None) -> frozenset[str]:
        return self.mixes(x) if self.reverse else frozenset()

    def algorithm(self, *types: TensorType | None) -> str:
        return "one position after another, by doubling where a compiler wants few operations: gates have no products"

    def emit(self, code: Emission, x: Term, decay: Term | None = None, start: Term | None = None) -> Term:
        return self._written(code, x, decay, start)

    def resume(self, code: Emission, x: Term, decay: Term | None = None, start: Term | None = None) -> Term:
        """From the sum at the position before."""
        if not (state := self.state(*code.inputs)):
            return self.emit(code, x, decay, start)
        (y,), axis = state.values(), self.axis(code.inputs[0])
        batch = y.of_role("batch")
        x = code.permute(x, (axis, *batch, *(name for name in x.order if name not in (axis, *batch))))
        return self._written(code, x, decay, start, y)

    def _written(
        self, code: Emission, x: Term, decay: Term | None, start: Term | None, y: TensorType | None = None
    ) -> Term:
        axis = self.axis(code.inputs[0])
        before, x = x.order, self._first(code, x, axis)
        if decay is None:
            arguments = f"{code.const(self.factor)}, {x.code}"
        else:
            laid = self._first(code, decay, axis), x
            decay, x = code.align(*laid)
            arguments = f"{decay.code}, {x.code}"
            if set(laid[0].order) != set(laid[1].order):
                arguments = f"*torch.broadcast_tensors({arguments})"
        if start is not None:
            _, start = code.align(Term("y", x.order[1:]), start)
            arguments += f", {start.code}"
        if y is not None:
            last = code.carried("last", "CarriedState", *(y.size(name) for name in x.order[1:]))
            text = f"{code.helper('resumed_scan')}({last}, {arguments})"
        else:
            text = f"{code.helper('linear_scan')}({arguments})"
        made = Term(f"{text}.flip(0)" if self.reverse else text, x.order)
        return code.permute(made, before) if set(before) == set(x.order) else made

    def memory(self, x: TensorType, decay: TensorType | None = None, start: TensorType | None = None) -> Memory:
        """The sum at every position if the decays have a gradient, and the decays, which in reverse are copies."""
        turned = x.bytes if self.reverse and decay is not None else 0
        made = 0 if decay is None else x.bytes if self.reverse and decay.numel == x.numel else 0
        return Memory({"decay": "", "start": ""}, not self.reverse and decay is not None, turned + made)

    def _first(self, code: Emission, term: Term, axis: str) -> Term:
        """The axis first, in the direction that the sum runs."""
        if axis not in term.order:
            return term
        term = code.permute(term, (axis, *(name for name in term.order if name != axis)))
        return Term(f"{term.safe}.flip(0)", term.order) if self.reverse else term

    # ---- meaning
    def reference(self, types: Types, x: Named, decay: Named | None = None, start: Named | None = None) -> Named:
        import torch

        decay = decay if decay is not None else self._constant(x)
        axis = self.axis(types.inputs[0])
        places = range(x.size(axis))
        state = {"y": start} if start is not None else {}
        rows = {}
        for at in reversed(places) if self.reverse else places:
            now, state = self._next(state, x.select(axis, at), decay.select(axis, at) if axis in decay.names else decay)
            rows[at] = now
        names = rows[0].names
        return Named(torch.stack([rows[at].to(names) for at in places], -1), (*names, axis))

    def _constant(self, x: Named) -> Named:
        return Named(x.tensor.new_full((), self.factor), ())

    def _next(self, state: Mapping[str, Named], x: Named, decay: Named) -> tuple[Named, dict[str, Named]]:
        before = state.get("y")
        now = before * decay + x if before is not None else decay * 0 + x
        return now, {"y": now}

    def state(self, *types: TensorType | None) -> Mapping[str, TensorType]:
        x, decay = types[:2]
        assert x is not None
        axis = self.axis(x)
        if x[axis].role != "time" or self.reverse:
            return {}
        return {"y": (join(Facts(), x, decay) if decay is not None else x).without(axis)}

    def step(
        self, types: Types, state: Mapping[str, Named], *inputs: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        x, decay, start = (*inputs, None)[:3]
        decay = decay if decay is not None else self._constant(x)
        return self._next(state or ({"y": start} if start is not None else {}), x, decay)
