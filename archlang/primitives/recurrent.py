"""Recurrent layers with gates, as PyTorch has them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, OpError, Param, Result, Term, Types, Whole, need_axes, register
from archlang.primitives.broadcast import refuse, spread
from archlang.primitives.sequential import Sequential
from archlang.shapes import TensorType, is_float
from archlang.sizes import Size, divide

State = dict[str, Any]  # tensors [.., units]


class Recurrent(Sequential):
    """A layer whose output h[t], of `units`, depends on x[t] and h[t - 1]. Weights as `torch.nn.LSTM` has them; with
    `bidirectional`, a second one runs from the end, and its outputs stand behind those of the first.

    It starts from states [.., c = units] where they are given, else from 0; with `final` the last ones are results too,
    those of the second layer behind those of the first.
    """

    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]] = ("h",)

    units: Whole
    bias: bool = True
    bidirectional: bool = False
    final: bool = False

    def infer(self, facts: Facts, x: TensorType, *starts: TensorType | None) -> Result:
        need_axes(x, ("c",))
        if not is_float(x.dtype):
            raise refuse(x, f"`{self.name}` takes float tensors", "`cast(x, float)`")
        if isinstance(self.units, int) and self.units < 1:
            raise OpError("A319", f"`units` must be at least 1, and is {self.units}", "units")
        if self.axis(x) == "c":
            raise OpError("A206", f"`{self.name}` runs along another axis than `c`", "on")
        if self.reverse and self.bidirectional:
            raise OpError("A319", f"`{self.name}` runs both ways already", "reverse", "leave one of the two out")
        left = self._left(x)
        self._check_starts(facts, left, starts)
        made = x.resized(c=left.size("c"))
        return (made, *[left] * len(self.states)) if self.final else made

    def _left(self, x: TensorType) -> TensorType:
        """A state after the last position, which has seen a time axis whole."""
        on, kept = self.axis(x), x.without(self.axis(x)).resized(c=self.units * len(self.ends))
        return replace(kept, lost=x.lost | ({on} if x[on].role == "time" else set()))

    def _check_starts(self, facts: Facts, left: TensorType, starts: Sequence[TensorType | None]) -> None:
        ports = [port.strip("?") for port in self.inputs[1:]]
        given = {name: type_ for name, type_ in zip(ports, starts, strict=False) if type_ is not None}
        if given and (lacking := [name for name in ports if name not in given]):
            raise OpError("A319", f"an `{self.name}` starts from all of its states, and `{lacking[0]}` is missing")
        for name, type_ in given.items():
            need_axes(type_, ("c",), name)
            if not is_float(type_.dtype):
                raise OpError("A214", f"`{self.name}` takes float tensors, and `{name}` is {type_}", name)
            for axis in type_:
                if axis.name not in left:
                    raise OpError("A205", f"`{name}` has {axis}, and is a state {left}", name)
                if not facts.equal(axis.size, left.size(axis.name)):
                    title = f"axis `{axis.name}` has {axis.size} in `{name}`, and {left.size(axis.name)} in the state"
                    raise OpError("A204", title, name)

    @property
    def ends(self) -> tuple[str, ...]:
        """How the names of the weights end, direction by direction."""
        return ("", "_reverse") if self.bidirectional else ("",)

    def params(self, x: TensorType, *starts: TensorType | None) -> dict[str, Param]:
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

    def macs(self, x: TensorType, *starts: TensorType | None) -> Size:
        weights: Size = self.gates * self.units * (x.size("c") + self.units)
        return x.without("c").numel * len(self.ends) * weights

    def algorithm(self, *inputs: Any) -> str:
        return "PyTorch's own layer, position after position: a gate that reads the state leaves no parallel form"

    # ---- meaning
    def cell(self, x: Any, h: Any, state: State) -> State:
        """The next state from the gates of x and of the last output, both [.., gates, units]."""
        raise NotImplementedError

    def reference(self, types: Types, x: Named, *starts: Named | None, **weights: Any) -> Named | tuple[Named, ...]:
        import torch

        time = self.axis(types.inputs[0])
        rest = tuple(name for name in x.names if name not in (time, "c"))
        rows, outputs, lasts = x.to((time, *rest, "c")), [], []
        first = self._first(rows[0], (*rest, "c"), starts)
        for i, end in enumerate(self.ends):
            own = {leaf.removesuffix(end): w for leaf, w in weights.items() if leaf.endswith(f"l0{end}")}
            backwards = self.reverse or bool(end)
            state, made = {name: x.chunk(len(self.ends), -1)[i] for name, x in first.items()}, []
            for row in rows.flip(0) if backwards else rows:
                state = self._next(row, state, own)
                made.append(state["h"])
            outputs.append(torch.stack(made[::-1] if backwards else made))
            lasts.append(state)
        y = Named(torch.cat(outputs, -1), (time, *rest, "c"))
        last = (torch.cat([state[name] for state in lasts], -1) for name in self.states)
        return (y, *(Named(state, (*rest, "c")) for state in last)) if self.final else y

    def _first(self, row: Any, names: Sequence[str], starts: Sequence[Named | None]) -> State:
        """The states before the first position, of both directions side by side."""
        zero = row.new_zeros((*row.shape[:-1], int(str(self.units)) * len(self.ends)))
        given = {name: x for name, x in zip(self.states, starts, strict=False) if x is not None}
        return {name: zero + given[name].to(names) if name in given else zero for name in self.states}

    def _next(self, row: Any, state: State, weights: Mapping[str, Any]) -> State:
        x, h = row @ weights["weight_ih_l0"].T, state["h"] @ weights["weight_hh_l0"].T
        if self.bias:
            x, h = x + weights["bias_ih_l0"], h + weights["bias_hh_l0"]
        parts = (self.gates, -1)
        return self.cell(x.unflatten(-1, parts), h.unflatten(-1, parts), state)

    def state(self, x: TensorType, *starts: TensorType | None) -> Mapping[str, TensorType]:
        if not self.steps_in_time(x) or self.bidirectional:
            return {}
        return dict.fromkeys(self.states, x.without(self.axis(x)).resized(c=self.units))

    def step(
        self, types: Types, state: Mapping[str, Named], x: Named, *starts: Named | None, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        time = self.axis(types.inputs[0])
        row = x.select(time, 0)
        kept = tuple(name for name in row.names if name != "c")
        values = row.to((*kept, "c"))
        before = {name: value.to((*kept, "c")) for name, value in state.items()} or self._first(
            values, (*kept, "c"), starts
        )
        after = self._next(values, before, weights)
        return Named(after["h"].unsqueeze(0), (time, *kept, "c")), {
            name: Named(value, (*kept, "c")) for name, value in after.items()
        }

    # ---- PyTorch
    def memory(self, x: TensorType, *starts: TensorType | None) -> Memory:
        """Gates, states and what they are made from, at every position."""
        kept = divide(x.bytes, x.size("c")) * self.units * 9 * (2 if self.bidirectional else 1)
        return Memory({"x": ""}, kept=kept)

    def resumes(self, x: TensorType, *starts: TensorType | None) -> bool:
        """The layer itself knows no samples but its rows; with states of its own it is no piece of a sequence."""
        return bool(self.state(x)) and len(x.names) == 3 and not self.final and not any(starts)

    def resume(self, code: Emission, x: Term, *starts: Term | None) -> Term | tuple[Term, ...]:
        """From the last position before."""
        if not self.state(*code.inputs):
            return self.emit(code, x, *starts)
        held = [code.carried(name, "CarriedState", None, self.units) for name in self.states]
        return self._written(code, x, held=held)

    def emit(self, code: Emission, x: Term, *starts: Term | None) -> Term | tuple[Term, ...]:
        return self._written(code, x, starts)

    def _written(
        self, code: Emission, x: Term, starts: Sequence[Term | None] = (), held: Sequence[str] = ()
    ) -> Term | tuple[Term, ...]:
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
        y, *lasts = self._run(code, layer, x, [self._laid(code, start, batch) for start in starts if start], held)
        y = Term(f"{y.code}.flip({y.order.index(time)})", y.order) if self.reverse else y
        axes = [type_[name] for name in batch]
        y, *lasts = (code.split(made, "*batch", axes) if len(batch) > 1 else made for made in (y, *lasts))
        return (y, *lasts) if self.final else y

    def _run(self, code: Emission, layer: str, x: Term, starts: Sequence[str], held: Sequence[str]) -> tuple[Term, ...]:
        """The outputs for x [b, t, c], and the last states where these are wanted."""
        if held:
            return (Term(f"{code.helper('resumed_layer')}({', '.join([layer, x.code, *held])})", x.order),)
        if not self.final and not starts:
            return (Term(f"{layer}({x.code})[0]", x.order),)
        text = f"{code.helper('layer_from')}({', '.join([layer, x.code, *starts])})"
        if not self.final:
            return (Term(f"{text}[0]", x.order),)
        state = (*x.order[:-2], "c")
        return code.unpack(text, x.order, *[state] * len(self.states))

    def _laid(self, code: Emission, start: Term, batch: tuple[str, ...]) -> str:
        """A state as [b, c], all samples on one axis."""
        start = spread(code, start, (*batch, "c"), self._left(code.inputs[0]))
        return f"{start.safe}.flatten(0, {len(batch) - 1})" if len(batch) > 1 else start.code


@register
class Lstm(Recurrent):
    """h[t] = o tanh(s[t]), s[t] = f s[t - 1] + i g; i, f, o are sigmoid and g tanh of W x[t] + U h[t - 1] + biases
    (Hochreiter and Schmidhuber, 1997; Gers et al., 2000). The axis `c` becomes the `units`.

    Weights as `torch.nn.LSTM`: weight_ih_l0 [4 units, c], weight_hh_l0 [4 units, units] and two biases, in the order i,
    f, g, o; with `bidirectional` also those of a layer that runs from the end, whose outputs stand behind.

    h and s before the first position are `start` and `cell` [.., c], or 0; with `final`, y, h and s after the last one
    are the results.
    """

    name: ClassVar[str] = "lstm"
    inputs: ClassVar[tuple[str, ...]] = ("x", "start?", "cell?")
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

    h before the first position is `start` [.., c], or 0; with `final`, y and h after the last one are the results.
    """

    name: ClassVar[str] = "gru"
    inputs: ClassVar[tuple[str, ...]] = ("x", "start?")
    gates: ClassVar[int] = 3

    def cell(self, x: Any, h: Any, state: State) -> State:
        r, z = (x + h)[..., :2, :].sigmoid().unbind(-2)
        candidate = (x[..., 2, :] + r * h[..., 2, :]).tanh()
        return {"h": (1 - z) * candidate + z * state["h"]}
