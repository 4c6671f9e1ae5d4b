"""Linear recurrences: matrix states that decay and are written to, one position after another."""

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
    Result,
    Term,
    Types,
    Whole,
    axes_of,
    need_axes,
    register,
)
from archlang.primitives.recurrence_code import (
    chunk_of,
    chunked,
    chunked_macs,
    form,
    is_bounded,
    is_stepwise,
    resumed,
    stepwise,
    stepwise_macs,
)
from archlang.primitives.recurrence_memory import chunked_memory, stepwise_memory
from archlang.shapes import Axis, TensorType, is_float, promote
from archlang.shapes import axis as axis_
from archlang.sizes import Size

VALUE = "c_value"  # how the `c` of v is called where the `c` of k stands beside it


@register
class LinearRecurrence(Primitive):
    """S_t = a_t S_{t-1} (I - b_t k_t k_t^T) + b_t v_t k_t^T, out_t = scale * S_t q_t, along one axis.

    q[.., t, c], k[.., t, c] and v[.., t, c = d] give out[.., t, c = d]; S is [.., d, c] and starts at 0, or at `start`
    [.., c, c_value], where `c_value` is the c of v. `decay` is a, in (0, 1]: absent (linear attention), or [.., t] (one
    a head: RetNet, Mamba-2), [.., t, c] (one a key channel: GLA, HGRN-2), [.., t, c, c_value] (one a pair); it may lack
    `t`. Where it is given as `exp(x)`, x is taken. `beta`[.., t] is b, the strength of the delta rule; without it there
    is no factor (I - b k k^T) (Yang et al., NeurIPS 2024). With `inner`, k, v and beta have that axis too: so many
    factors and writes a position, one after another, after one decay (DeltaProduct, Siems et al., 2025). Every other
    axis agrees or broadcasts by name.

    `on` is the axis (default: the time axis, else the one space axis), `reverse` runs from its end, `chunk` is how many
    positions are taken at once (default 32). No decay is below `least`: the compiler finds it out where
    it can, and decays a key channel are faster where it is not too small for a chunk. `segments`[.., t] are documents:
    S is 0 again where one starts. With `final` the last S is the second result, [.., c, c_value] with the other axes of
    out: what a recurrence of the positions that follow starts from.
    """

    name: ClassVar[str] = "linear_recurrence"
    inputs: ClassVar[tuple[str, ...]] = ("q", "k", "v", "decay?", "beta?", "log_decay?", "segments?", "start?")
    logarithms: ClassVar[Mapping[str, str]] = {"decay": "log_decay"}
    sequential: ClassVar[bool] = True

    scale: Number = 1
    on: AxisName | None = None
    reverse: bool = False
    inner: AxisName | None = None
    chunk: Whole | None = None
    least: Number = 0
    final: bool = False

    # ---- types
    def infer(self, facts: Facts, q: TensorType, k: TensorType, v: TensorType, *extras: TensorType | None) -> Result:
        names = ("q", "k", "v", "decay", "beta", "decay", "segments", "start")
        named = {name: x for name, x in zip(names, (q, k, v, *extras), strict=False) if x is not None}
        for name, type_ in named.items():
            if name != "segments" and not is_float(type_.dtype):
                raise OpError("A214", f"a recurrence takes float tensors, and `{name}` is {type_}", name)
        for name in ("q", "k", "v"):
            need_axes(named[name], ("c",), name)
            need_axes(named[name], (self.axis(q, k, v).name,), name)
        if self.inner is not None:
            need_axes(k, (self.inner,), "k")
            need_axes(v, (self.inner,), "v")
        if extras[:1] != (None,) and extras[2:3] not in ((), (None,)):
            raise OpError("A319", "the decay is given twice: as itself and as its logarithm", "log_decay")
        self._check_decay(named)
        self._check_start(named)
        self._check_sides(facts, named)
        self._check_chunk()
        lead = form(self, q, k, v, *extras).lead
        kept = (*q.without("c"), *(axis for axis in lead if axis.name not in q))
        made = TensorType((*kept, v["c"]), promote(q.dtype, k.dtype, v.dtype))
        return (made, self._state(named, made)) if self.final else made

    def _state(self, named: Mapping[str, TensorType], made: TensorType) -> TensorType:
        """The state after the last position, which has seen a time axis whole; it stays in the dtype of its start."""
        on = self.axis(named["q"])
        start, lost = named.get("start", made), frozenset({on.name} if on.role == "time" else ())
        axes = (*made.without(on.name, "c"), named["k"]["c"], axis_(VALUE, named["v"].size("c")))
        return TensorType(axes, start.dtype, lost)

    def axis(self, *types: TensorType | None) -> Axis:
        """The axis that it runs along."""
        q = types[0]
        assert q is not None
        if self.on is not None:
            need_axes(q, (self.on,), "q")
            return q[axes_of((self.on,), q)[0]]
        names = axes_of(("time",), q) or axes_of(("space",), q)
        if len(names) != 1:
            found = " and ".join(f"`{name}`" for name in names)
            title = f"`q` has the space axes {found}: {q}" if names else f"`q` has no axis to run along: {q}"
            help = "say which, `on = h`, or an order: `over = along(h, w)`" if names else "name it: `on = ..`"
            raise OpError("A205", title, "q", help=help)
        return q[names[0]]

    def _check_sides(self, facts: Facts, named: Mapping[str, TensorType]) -> None:
        """Equal sizes of equal axes; decay and beta have no others."""
        known = {(axis.name, "key" if axis.name == "c" else ""): ("q", axis.size) for axis in named["q"]}
        for name, type_ in named.items():
            for axis in type_:
                value = axis.name == VALUE or (name == "v" and axis.name == "c")
                place = ("c", "value" if value else "key") if axis.name in ("c", VALUE) else (axis.name, "")
                if place not in known and name not in ("q", "k", "v"):
                    raise OpError("A205", f"`{name}` has {axis}, which is no axis of `q`, `k` or `v`", name)
                other, size = known.setdefault(place, (name, axis.size))
                if not facts.equal(size, axis.size):
                    title = f"axis `{axis.name}` has {axis.size} in `{name}` and {size} in `{other}`"
                    raise OpError("A204", title, name)

    def _check_decay(self, named: Mapping[str, TensorType]) -> None:
        for name in ("q", "decay"):
            if self.inner is not None and name in named and self.inner in named[name]:
                title = f"`{name}` stands once a position, without `{self.inner}`, and is {named[name]}"
                raise OpError("A319", title, name)
        for name in ("beta", "segments"):
            if name in named and ("c" in named[name] or VALUE in named[name]):
                raise OpError("A319", f"`{name}` is one number a position, without `c`, and is {named[name]}", name)

    def _check_start(self, named: Mapping[str, TensorType]) -> None:
        if "start" not in named:
            return
        need_axes(named["start"], ("c",), "start")
        need_axes(named["start"], (VALUE,), "start")
        if found := [name for name in (self.axis(named["q"]).name, self.inner) if name and name in named["start"]]:
            raise OpError("A319", f"`start` is one state, without `{found[0]}`, and is {named['start']}", "start")
        if "segments" in named:
            raise OpError("A319", "documents start from nothing, and not from a state", "start")

    def _check_chunk(self) -> None:
        if self.chunk is not None and (not isinstance(self.chunk, int) or self.chunk not in [2**i for i in range(13)]):
            raise OpError("A319", f"`chunk` must be a power of 2 up to 4096, and is {self.chunk}", "chunk")
        if not 0 <= self.least <= 1:
            raise OpError("A319", f"`least` is a decay, from 0 to 1, and here {self.least}", "least")

    def mixes(self, *types: TensorType | None) -> frozenset[str]:
        return frozenset({self.axis(*types).name, "c"} | ({self.inner} if self.inner else set()))

    def looks_ahead(self, *types: TensorType | None) -> frozenset[str]:
        return self.mixes(*types) - (frozenset() if self.reverse else {self.axis(*types).name})

    def algorithm(self, *types: TensorType | None) -> str:
        parts = form(self, *types)
        if parts.decay == "pair":
            return "one position after another: a decay for every pair of channels has no form of matrix products"
        if is_stepwise(parts):
            return "one position: the state is read and written as it is"
        how = {"": "no decay", "head": "a decay per head", "key": "a decay per key channel"}[parts.decay]
        bound = f", never below {self.least:.3g}" if is_bounded(self, parts) else ""
        return f"chunks of {chunk_of(self, parts)}: {how}{bound}{', delta rule' if parts.beta else ''}"

    def macs(self, *types: TensorType | None) -> Size:
        parts = form(self, *types)
        return stepwise_macs(parts, *types) if is_stepwise(parts) else chunked_macs(self, parts, *types)

    # ---- meaning
    def reference(self, types: Types, *inputs: Named | None) -> Named | tuple[Named, ...]:
        import torch

        axis = self.axis(*types.inputs)
        places = range(int(str(axis.size)))
        state: Mapping[str, Named] = {}
        rows: dict[int, Named] = {}
        for at in reversed(places) if self.reverse else places:
            rows[at], state = self.step(types, state, *(_at(x, axis.name, at) for x in inputs))
        names = rows[0].names
        y = Named(torch.stack([rows[at].to(names) for at in places], -1), (*names, axis.name))
        return (y, _filled(state["S"], types.outputs[1])) if self.final else y

    def step(
        self, types: Types, state: Mapping[str, Named], *inputs: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        q, k, v, decay, beta, log_decay, segments, start = (*inputs, None, None, None, None, None)[:8]
        decay = log_decay.map(lambda x: x.exp()) if log_decay is not None else decay
        now, values = state.get("S", start), v.rename(c=VALUE)
        now = now * decay if now is not None and decay is not None else now
        if now is not None and segments is not None:
            now = now * segments.combine(state["segments"], lambda here, before: here == before)
        for i in range(k.size(self.inner) if self.inner else 1):
            key, value, strength = (_at(x, self.inner, i) for x in (k, values, beta))
            assert key is not None
            assert value is not None
            if strength is not None:
                value = (value - (now * key).sum(["c"]) if now is not None else value) * strength
            now = now + key * value if now is not None else key * value
        assert now is not None
        return (now * q).sum(["c"]).rename(**{VALUE: "c"}) * self.scale, {"S": now} | (
            {} if segments is None else {"segments": segments}
        )

    def state(self, *types: TensorType | None) -> Mapping[str, TensorType]:
        axis = self.axis(*types)
        if axis.role != "time" or self.reverse:
            return {}
        k, v = types[1], types[2]
        assert k is not None
        assert v is not None
        lead = form(self, *types).lead
        kept = TensorType((*lead, k["c"], axis_(VALUE, v.size("c"))), promote(k.dtype, v.dtype))
        segments = types[6] if len(types) > 6 else None
        return {"S": kept} | ({} if segments is None else {"segments": segments.without(axis.name)})

    # ---- PyTorch
    def memory(self, q: TensorType, k: TensorType, v: TensorType, *others: TensorType | None) -> Memory:
        parts = form(self, q, k, v, *others)
        decay = next((given for given in (*others[2:3], *others[:1]) if given is not None), None)
        return stepwise_memory(parts, k, v) if is_stepwise(parts) else chunked_memory(self, parts, k, v, decay)

    def resumes(self, *types: TensorType | None) -> bool:
        """The last state is that of a sequence which is over."""
        return bool(self.state(*types)) and not self.final

    def resume(self, code: Emission, *inputs: Term | None) -> Term | tuple[Term, ...]:
        if not self.state(*code.inputs):
            return self.emit(code, *inputs)
        names = (name.strip("?") for name in self.inputs)
        return resumed(self, code, form(self, *code.inputs), dict(zip(names, inputs, strict=False)))

    def emit(self, code: Emission, *inputs: Term | None) -> Term | tuple[Term, ...]:
        parts = form(self, *code.inputs)
        write = stepwise if is_stepwise(parts) else chunked
        names = (name.strip("?") for name in self.inputs)
        return write(self, code, parts, dict(zip(names, inputs, strict=False)))


def _filled(x: Named, type_: TensorType) -> Named:
    """The same with all axes of a type, repeated along those that it lacks."""
    return Named(x.to(type_.names).expand([int(str(axis.size)) for axis in type_]), type_.names)


def _at(x: Named | None, name: str | None, at: int) -> Named | None:
    """One position of an axis; what lacks it is the same at all."""
    if x is None or name is None or name not in x.names:
        return x
    return x.select(name, at)
