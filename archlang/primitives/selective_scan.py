"""The selective state space model of Mamba (Gu and Dao, 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, OpError, Result, Term, Types, need_named, register
from archlang.primitives.broadcast import placed, spread
from archlang.primitives.sequential import Sequential
from archlang.shapes import TensorType, is_float
from archlang.sizes import Size, maximum, minimum, product


@register
class SelectiveScan(Sequential):
    """y[t, c] = sum over n of C[t, n] h[t, c, n] + D[c] u[t, c],
    h[t, c, n] = exp(dt[t, c] A[c, n]) h[t - 1, c, n] + dt[t, c] B[t, n] u[t, c], from h = 0, or from
    `start` [.., c, n].

    t is the axis that it runs along, n the axis of A that u lacks; A is negative, so that states fade. The other axes
    of A are channels, those of u that are neither (batch, heads) stand for themselves. dt may lack channels, D has only
    such. The state is computed in float32 at least. With `final` the last h is the second result, [.., c, n] with the
    other axes of u: what a scan of the positions that follow starts from.
    """

    name: ClassVar[str] = "selective_scan"
    inputs: ClassVar[tuple[str, ...]] = ("u", "dt", "A", "B", "C", "D?", "segments?", "start?")

    final: bool = False

    # ---- types
    def infer(self, facts: Facts, u: TensorType, *others: TensorType | None) -> Result:
        given = dict(zip((port.strip("?") for port in self.inputs), (u, *others), strict=False))
        for name, type_ in given.items():
            if type_ is not None and name != "segments" and not is_float(type_.dtype):
                raise OpError("A214", f"`selective_scan` takes float tensors, and `{name}` is {type_}", name)
        named = {name: type_ for name, type_ in given.items() if type_ is not None}
        self._check_axes(facts, named)
        if "start" in named and "segments" in named:
            raise OpError("A319", "documents start from nothing, and not from a state", "start")
        return (u, self._state(u, named["A"], named.get("start", u).dtype)) if self.final else u

    def _state(self, u: TensorType, a: TensorType, dtype: str) -> TensorType:
        """The state after the last position, which has seen a time axis whole; it stays in the dtype of its start."""
        on, kept = self.axis(u), u.without(self.axis(u))
        lost = frozenset({on} if u[on].role == "time" else ())
        return TensorType((*kept.axes, a[self.states(u, a)]), dtype, lost)

    def _check_axes(self, facts: Facts, given: Mapping[str, TensorType]) -> None:
        u, a = given["u"], given["A"]
        time, state, channels = self.axis(u), self.states(u, a), self.channels(u, a)
        if time in a:
            raise OpError("A205", f"`a` is the same at every `{time}`: {a}", "A")
        for name in ("dt", "B", "C", "segments"):
            if name in given:
                need_named(given[name], (time,), name)
        batch = [axis.name for axis in u if axis.name != time and axis.name not in channels]
        known = {"dt": u.names, "B": (time, state, *batch), "C": (time, state, *batch), "D": channels}
        known |= {"segments": (time, *batch), "start": (state, *channels, *batch)}
        sizes = {axis.name: axis.size for axis in (*a, *u)}
        for name, type_ in given.items():
            for axis in type_:
                if axis.name not in known.get(name, sizes):
                    allowed = ", ".join(known[name]) or "none"
                    raise OpError("A205", f"`{name}` has {axis}, and may have {allowed}", name)
                if not facts.equal(sizes[axis.name], axis.size):
                    other = "u" if axis.name in u else "A"
                    title = f"axis `{axis.name}` has {axis.size} in `{name}` and {sizes[axis.name]} in `{other}`"
                    raise OpError("A204", title, name)
        for name in ("B", "C", "start"):
            if name in given:
                need_named(given[name], (state,), name)

    @staticmethod
    def states(u: TensorType, a: TensorType) -> str:
        """The axis of the state: the one of A that u lacks."""
        own = [axis.name for axis in a if axis.name not in u]
        if len(own) != 1:
            said = " and ".join(f"`{name}`" for name in own) or "none"
            title = f"`A` has one axis that `u` lacks, the state, and here {said}: {a}"
            raise OpError("A205", title, "A", "as in `-exp(a_log)` with `param a_log: [c, state]`")
        return own[0]

    @staticmethod
    def channels(u: TensorType, a: TensorType) -> tuple[str, ...]:
        """The axes that A and u share, in the order of u."""
        return tuple(name for name in u.names if name in a)

    # ---- meaning
    def memory(self, u: TensorType, dt: TensorType, a: TensorType, *others: TensorType | None) -> Memory:
        """The states and decays of all positions for the backward pass; else 2 ** 18 of them at a time."""
        exact = u if u.dtype in ("float32", "float64") else u.cast("float32")
        count, axis = a.size(self.states(u, a)), self.axis(u)
        states = exact.bytes * count
        one = exact.without(axis).bytes * count
        some = minimum(states, maximum(one, 2**18 * replace(exact, axes=()).bytes))
        return Memory({"u": "", "dt": ""}, False, states * 2 + exact.bytes * 2, some * 2 + one + u.bytes, some * 4)

    def reference(self, types: Types, u: Named, *others: Any) -> Named | tuple[Named, ...]:
        import torch

        time, named = self.axis(types.inputs[0]), zip(self.inputs[1:], others, strict=False)
        moving = [(port, x) for port, x in named if x is not None]
        state: dict[str, Named] = {}
        outputs: dict[int, Named] = {}
        count = range(u.size(time))
        for at in reversed(count) if self.reverse else count:
            now = {port.strip("?"): x.select(time, [at]) if time in x.names else x for port, x in moving}
            rest = [now.get(port.strip("?")) for port in self.inputs[1:]]
            outputs[at], state = self.step(types, state, u.select(time, [at]), *rest)
        rows = [outputs[at].to(u.names) for at in count]
        y = Named(torch.cat(rows, u.at(time)), u.names)
        return (y, state["h"].select(time, 0)) if self.final else y

    def step(
        self, types: Types, state: Mapping[str, Named], u: Named, *others: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        dt, a, b, c, d, segments, start = (*others, None, None, None)[:7]
        n = self.states(types.inputs[0], types.inputs[2])
        h, before = (dt * u) * b, state.get("h", start)
        if before is not None:
            decay = (dt * a).map(lambda x: x.exp())
            if segments is not None:
                decay = decay * segments.combine(state["segments"], lambda here, before: here == before)
            h = decay * before + h
        y = (h * c).sum([n])
        y = y if d is None else y + d * u
        return y, {"h": h} | ({} if segments is None else {"segments": segments})

    def state(self, u: TensorType, dt: TensorType, a: TensorType, *others: Any) -> Mapping[str, TensorType]:
        if not self.steps_in_time(u):
            return {}
        h = self._state(u, a, u.dtype)
        segments = others[3] if len(others) > 3 else None
        return {"h": h} | ({} if segments is None else {"segments": segments.without(self.axis(u))})

    def macs(self, u: TensorType, dt: TensorType, a: TensorType, *others: Any) -> Size:
        return u.numel * a.size(self.states(u, a))

    def algorithm(self, *inputs: Any) -> str:
        return (
            "step after step, 2 ** 18 states at a time; by doubling under a compiler: "
            "a decay for each channel and state leaves no matrix product to win"
        )

    # ---- PyTorch
    def resumes(self, *types: Any) -> bool:
        """The last state is that of a sequence which is over."""
        return bool(self.state(*types)) and not self.final

    def resume(self, code: Emission, *terms: Any) -> Term | tuple[Term, ...]:
        """From the state of the position before."""
        return self._written(code, terms, resumed=bool(self.state(*code.inputs)))

    def emit(self, code: Emission, *terms: Any) -> Term | tuple[Term, ...]:
        return self._written(code, terms)

    def _written(self, code: Emission, terms: Sequence[Any], resumed: bool = False) -> Term | tuple[Term, ...]:
        u_type, a_type = code.inputs[0], code.inputs[2]
        time, n, channels = self.axis(u_type), self.states(u_type, a_type), self.channels(u_type, a_type)
        u, dt, a, b, c, d, segments, start = (*terms, None, None, None)[:8]
        batch = tuple(name for name in u.order if name != time and name not in channels)
        batch = tuple(sorted(batch, key=lambda name: u_type[name].role != "batch")) if resumed else batch

        def laid(x: Term, *last: str) -> str:
            """[batch, .., last] with the channels as one axis."""
            if set(last) & set(channels) and not set(channels) <= set(x.order):
                missing = [axis.name for axis in u_type if axis.name in channels]
                x = spread(code, x, (*(name for name in x.order if name not in channels), *missing), u_type)
            axes = (*(name for name in batch if name in x.order), *last)
            x = placed(code, x, axes if len(axes) == len(last) else (*batch, *last))
            return (
                code.flat(x, channels, "channels").code if len(channels) > 1 and set(last) & set(channels) else x.code
            )

        arguments = [laid(u, time, *channels), laid(dt, time, *channels), laid(a, n, *channels)]
        arguments += [laid(b, time, n), laid(c, time, n)]
        if d is not None:
            arguments.append(laid(d, *channels))
        if segments is not None:
            starts = code.helper("segment_starts")
            arguments.append(f"starts={starts}({laid(segments, time)}{', reverse=True' if self.reverse else ''})")
        arguments += ["reverse=True"] if self.reverse else []
        arguments += [f"start={laid(start, n, *channels)}"] if start is not None else []
        arguments += ["final=True"] if self.final else []
        if resumed:
            sizes = (*(u_type.size(name) for name in batch[1:]), a_type.size(n), product(map(u_type.size, channels)))
            arguments.insert(0, code.carried("last", "CarriedState", None, *sizes))
            arguments += [f"core={code.helper('selective_scan')}"] if code.kernel("selective_scan") else []
        helper = code.helper("resumed_selective_scan" if resumed else "selective_scan")
        text, order = f"{helper}({', '.join(arguments)})", (*batch, time, "channels")
        apart = [u_type[name] for name in channels]
        if not self.final:
            return code.split(Term(text, order), "channels", apart)
        made = code.unpack(text, order, (*batch, n, "channels"))
        y, state = (code.split(term, "channels", apart) for term in made)
        return y, state
