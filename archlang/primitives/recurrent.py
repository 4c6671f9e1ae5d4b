"""Recurrent layers with gates, as PyTorch has them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, OpError, Param, Term, Types, Whole, need_axes, register
from archlang.primitives.broadcast import refuse
from archlang.primitives.sequential import Sequential
from archlang.shapes import Axis, TensorType, is_float
from archlang.sizes import Size, divide

State = dict[str, Any]  # tensors [.., units]


class Recurrent(Sequential):
    """A layer whose output h[t], of `units`, depends on x[t] and h[t - 1]. Weights as `torch.nn.LSTM` has them; with
    `bidirectional`, a second one runs from the end, and its outputs stand behind those of the first.
    """

    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]] = ("h",)

    units: Whole
    bias: bool = True
    bidirectional: bool = False

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, ("c",))
        if not is_float(x.dtype):
            raise refuse(x, f"`{self.name}` takes float tensors", "`cast(x, float)`")
        if isinstance(self.units, int) and self.units < 1:
            raise OpError("A319", f"`units` must be at least 1, and is {self.units}", "units")
        if self.axis(x) == "c":
            raise OpError("A206", f"`{self.name}` runs along another axis than `c`", "on")
        if self.reverse and self.bidirectional:
            raise OpError("A319", f"`{self.name}` runs both ways already", "reverse", "leave one of the two out")
        return x.resized(c=self.units * (2 if self.bidirectional else 1))

    @property
    def ends(self) -> tuple[str, ...]:
        """How the names of the weights end, direction by direction."""
        return ("", "_reverse") if self.bidirectional else ("",)

    def params(self, x: TensorType) -> dict[str, Param]:
        rows: Size = self.gates * self.units
        one = {"weight_ih_l0": Param((rows, x.size("c")), ("gates", "c"))}
        one["weight_hh_l0"] = Param((rows, self.units), ("gates", "units"))
        if self.bias:
            one |= {"bias_ih_l0": Param((rows,), ("gates",)), "bias_hh_l0": Param((rows,), ("gates",))}
        return {f"{leaf}{end}": param for end in self.ends for leaf, param in one.items()}

    def mixes(self, x: TensorType, *others: Any) -> frozenset[str]:
        return frozenset({self.axis(x), "c"})

    def looks_ahead(self, x: TensorType, *others: Any) -> frozenset[str]:
        return self.mixes(x) if self.reverse or self.bidirectional else frozenset({"c"})

    def macs(self, x: TensorType) -> Size:
        weights: Size = self.gates * self.units * (x.size("c") + self.units)
        return x.without("c").numel * len(self.ends) * weights

    def algorithm(self, *inputs: Any) -> str:
        return "PyTorch's own layer, position after position: a gate that reads the state leaves no parallel form"

    # ---- meaning
    def cell(self, x: Any, h: Any, state: State) -> State:
        """The next state from the gates of x and of the last output, both [.., gates, units]."""
        raise NotImplementedError

    def reference(self, types: Types, x: Named, **weights: Any) -> Named:
        import torch

        time = self.axis(types.inputs[0])
        rest = tuple(name for name in x.names if name not in (time, "c"))
        rows, outputs = x.to((time, *rest, "c")), []
        for end in self.ends:
            own = {leaf.removesuffix(end): w for leaf, w in weights.items() if leaf.endswith(f"l0{end}")}
            backwards = self.reverse or bool(end)
            state, made = self._empty(rows[0]), []
            for row in rows.flip(0) if backwards else rows:
                state = self._next(row, state, own)
                made.append(state["h"])
            outputs.append(torch.stack(made[::-1] if backwards else made))
        return Named(torch.cat(outputs, -1), (time, *rest, "c"))

    def _empty(self, row: Any) -> State:
        return {name: row.new_zeros((*row.shape[:-1], int(str(self.units)))) for name in self.states}

    def _next(self, row: Any, state: State, weights: Mapping[str, Any]) -> State:
        x, h = row @ weights["weight_ih_l0"].T, state["h"] @ weights["weight_hh_l0"].T
        if self.bias:
            x, h = x + weights["bias_ih_l0"], h + weights["bias_hh_l0"]
        parts = (self.gates, -1)
        return self.cell(x.unflatten(-1, parts), h.unflatten(-1, parts), state)

    def state(self, x: TensorType) -> Mapping[str, TensorType]:
        if not self.steps_in_time(x) or self.bidirectional:
            return {}
        return dict.fromkeys(self.states, x.without(self.axis(x)).resized(c=self.units))

    def step(
        self, types: Types, state: Mapping[str, Named], x: Named, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        time = self.axis(types.inputs[0])
        row = x.select(time, 0)
        kept = tuple(name for name in row.names if name != "c")
        values = row.to((*kept, "c"))
        before = {name: value.to((*kept, "c")) for name, value in state.items()} or self._empty(values)
        after = self._next(values, before, weights)
        return Named(after["h"].unsqueeze(0), (time, *kept, "c")), {
            name: Named(value, (*kept, "c")) for name, value in after.items()
        }

    # ---- PyTorch
    def memory(self, x: TensorType) -> Memory:
        """Gates, states and what they are made from, at every position."""
        kept = divide(x.bytes, x.size("c")) * self.units * 9 * (2 if self.bidirectional else 1)
        return Memory({"x": ""}, kept=kept)

    def resumes(self, x: TensorType) -> bool:
        """The layer itself knows no samples but its rows."""
        return bool(self.state(x)) and len(x.names) == 3

    def resume(self, code: Emission, x: Term) -> Term:
        """From the last position before."""
        if not self.state(*code.inputs):
            return self.emit(code, x)
        held = [code.carried(name, "CarriedState", None, self.units) for name in self.states]
        return self._written(code, x, held)

    def emit(self, code: Emission, x: Term) -> Term:
        return self._written(code, x)

    def _written(self, code: Emission, x: Term, held: Sequence[str] = ()) -> Term:
        type_, time = code.inputs[0], self.axis(code.inputs[0])
        batch = tuple(name for name in x.order if name not in (time, "c"))
        x = code.last(x, (time, "c"))
        if len(batch) > 1:
            x = Term(f"{x.safe}.flatten(0, {len(batch) - 1})", ("*batch", time, "c"))
        if self.reverse:
            x = Term(f"{x.safe}.flip({x.order.index(time)})", x.order)
        flags = ({} if self.bias else {"bias": "False"}) | {"batch_first": "True"}
        flags |= {"bidirectional": "True"} if self.bidirectional else {}
        layer = code.module(f"nn.{self.name.upper()}", code.size(type_.size("c")), code.size(self.units), **flags)
        resumed = f"{code.helper('resumed_layer')}({', '.join([layer, x.code, *held])})" if held else ""
        y = Term(resumed or f"{layer}({x.code})[0]", x.order)
        if self.reverse:
            y = Term(f"{y.code}.flip({y.order.index(time)})", y.order)
        axes: list[Axis] = [type_[name] for name in batch]
        return code.split(y, "*batch", axes) if len(batch) > 1 else replace(y, order=(*batch, time, "c"))


@register
class Lstm(Recurrent):
    """h[t] = o tanh(s[t]), s[t] = f s[t - 1] + i g; i, f, o are sigmoid and g tanh of W x[t] + U h[t - 1] + biases
    (Hochreiter and Schmidhuber, 1997; Gers et al., 2000). The axis `c` becomes the `units`.

    Weights as `torch.nn.LSTM`: weight_ih_l0 [4 units, c], weight_hh_l0 [4 units, units] and two biases, in the order i,
    f, g, o; with `bidirectional` also those of a layer that runs from the end, whose outputs stand behind.
    """

    name: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4
    states: ClassVar[tuple[str, ...]] = ("h", "s")

    def cell(self, x: Any, h: Any, state: State) -> State:
        i, f, g, o = (x + h).unbind(-2)
        s = f.sigmoid() * state["s"] + i.sigmoid() * g.tanh()
        return {"h": o.sigmoid() * s.tanh(), "s": s}


@register
class Gru(Recurrent):
    """h[t] = (1 - z) tanh(W x[t] + r (U h[t - 1])) + z h[t - 1] with gates r, z = sigmoid(W x[t] + U h[t - 1]), each
    product with biases (Cho et al., 2014). The axis `c` becomes the `units`.

    Weights as `torch.nn.GRU`: weight_ih_l0 [3 units, c], weight_hh_l0 [3 units, units] and two biases, in the order r,
    z, candidate; with `bidirectional` also those of a layer that runs from the end, whose outputs stand behind.
    """

    name: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3

    def cell(self, x: Any, h: Any, state: State) -> State:
        r, z = (x + h)[..., :2, :].sigmoid().unbind(-2)
        candidate = (x[..., 2, :] + r * h[..., 2, :]).tanh()
        return {"h": (1 - z) * candidate + z * state["h"]}
