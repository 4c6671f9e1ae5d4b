"""Diagonal state space models that do not change with time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, OpError, Term, Types, need_named, register
from archlang.primitives.broadcast import placed, refuse
from archlang.primitives.long_conv import padded_memory
from archlang.primitives.sequential import Sequential
from archlang.shapes import TensorType, is_float
from archlang.sizes import Size, maximum, product


@register
class LtiScan(Sequential):
    """y = sum over n of read[c, n] x[c, n] + skip[c] u[c] for the linear system x' = a x + b u, u held constant during
    each step of dt[c] (S4D: Gu et al., NeurIPS 2022).

    x[t] = exp(dt a) x[t - 1] + (exp(dt a) - 1) / a b u[t], from x = 0. n is the axis of `a` that u lacks; the real part
    of a is negative, so that states fade. Where a is complex (so are b and read), each of its states stands for its
    conjugate too: y is twice the real part. b is 1 by default.

    One parameterisation, two modes: "convolution" with what a step leaves, by the fast Fourier transform, or
    "recurrence", step after step.
    """

    name: ClassVar[str] = "lti_scan"
    inputs: ClassVar[tuple[str, ...]] = ("u", "dt", "a", "read", "b?", "skip?")

    mode: Literal["convolution", "recurrence"] = "convolution"

    # ---- types
    def infer(self, facts: Facts, u: TensorType, *others: TensorType | None) -> TensorType:
        names = [port.strip("?") for port in self.inputs]
        given = {name: type_ for name, type_ in zip(names, (u, *others), strict=False) if type_ is not None}
        for name, type_ in given.items():
            allowed = name in ("a", "b", "read") and type_.dtype.startswith("complex")
            if not (is_float(type_.dtype) or allowed):
                raise refuse(type_, "`lti_scan` takes float tensors", "a, b and read may be complex", name)
        if given["read"].dtype != given["a"].dtype:
            title = f"`a` is {given['a'].dtype} and `read` {given['read'].dtype}: both are complex, or none"
            raise OpError("A214", title, "read", "`complex(re, im)` makes one")
        self._check_axes(facts, given)
        return u

    def _check_axes(self, facts: Facts, given: Mapping[str, TensorType]) -> None:
        u, a = given["u"], given["a"]
        time, state = self.axis(u), self.states(u, a)
        channels = [name for name in u.names if name != time]
        sizes = {axis.name: axis.size for axis in (*a, *u)}
        for name, type_ in given.items():
            known = u.names if name == "u" else channels if name in ("dt", "skip") else (*channels, state)
            for axis in type_:
                if axis.name not in known:
                    raise OpError("A205", f"`{name}` has {axis}, and may have {', '.join(known)}", name)
                if not facts.equal(sizes[axis.name], axis.size):
                    other = "u" if axis.name in u else "a"
                    title = f"axis `{axis.name}` has {axis.size} in `{name}` and {sizes[axis.name]} in `{other}`"
                    raise OpError("A204", title, name)
        need_named(given["read"], [state], "read")

    @staticmethod
    def states(u: TensorType, a: TensorType) -> str:
        """The axis of the state: the one of a that u lacks."""
        own = [axis.name for axis in a if axis.name not in u]
        if len(own) != 1:
            said = " and ".join(f"`{name}`" for name in own) or "none"
            raise OpError("A205", f"`a` has one axis that `u` lacks, the state, and here {said}: {a}", "a")
        return own[0]

    def channels(self, *types: TensorType | None) -> tuple[str, ...]:
        """The axes of u that the system has too."""
        u = types[0]
        assert u is not None
        system = {axis.name for type_ in types[1:] if type_ is not None for axis in type_}
        return tuple(name for name in u.names if name in system)

    def macs(self, u: TensorType, dt: TensorType, a: TensorType, read: TensorType, *others: Any) -> Size:
        if self.mode == "recurrence":
            return 0
        weight = {axis.name: axis.size for type_ in (dt, a, read, *others[:1]) if type_ is not None for axis in type_}
        return product(weight.values()) * u.size(self.axis(u))

    def algorithm(self, *inputs: Any) -> str:
        if self.mode == "recurrence":
            return 'step after step, as `mode = "recurrence"` asks'
        return "a convolution by the fast Fourier transform: the system is the same at every position"

    # ---- meaning
    def memory(self, u: TensorType, dt: TensorType, a: TensorType, *others: TensorType | None) -> Memory:
        """The powers of the step at all times and the long convolution with them, or the states of all times."""
        axis = self.axis(u)
        channels = product(u.size(name) for name in self.channels(u, dt, a, *others))
        length, one = u.size(axis), a.without(*a.names).bytes
        if self.mode == "recurrence":
            states = u.numel * a.size(self.states(u, a)) * one
            return Memory({"u": ""}, kept=states, work=u.bytes, back=u.bytes)
        powers = channels * a.size(self.states(u, a)) * length * one
        kernel = u.without(*(name for name in u.names if name in u.of_role("batch")))
        convolved = padded_memory(length * 2, u, kernel, axis)
        work = maximum(powers * 2, convolved.work or 0)
        return replace(convolved, kept=convolved.kept + powers, work=work)

    def reference(self, types: Types, u: Named, *others: Any) -> Named:
        import torch

        time, outputs = self.axis(types.inputs[0]), []
        places, state = range(u.size(time)), dict[str, Named]()
        for at in reversed(places) if self.reverse else places:
            made, state = self.step(types, state, u.select(time, [at]), *others)
            outputs.append(made.to(u.names))
        return Named(torch.cat(outputs[::-1] if self.reverse else outputs, u.at(time)), u.names)

    def step(
        self, types: Types, state: Mapping[str, Named], u: Named, *others: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        dt, a, read, b, skip = (*others, None, None)[:5]
        decay = (a * dt).map(lambda z: z.exp())
        x = decay.map(lambda z: z - 1) / a * u
        x = x if b is None else x * b
        x = x + decay * state["x"] if state else x
        y = (x * read).sum([self.states(types.inputs[0], types.inputs[2])])
        y = y.map(lambda z: z.real * 2 if z.is_complex() else z)
        return (y if skip is None else y + u * skip), {"x": x}

    def state(self, u: TensorType, dt: TensorType, a: TensorType, *others: Any) -> Mapping[str, TensorType]:
        if not self.steps_in_time(u):
            return {}
        kept = u.without(self.axis(u))
        return {"x": replace(kept, axes=(*kept.axes, a[self.states(u, a)]), dtype=a.dtype)}

    # ---- PyTorch
    def resume(self, code: Emission, *terms: Any) -> Term:
        """From the state of the position before."""
        return self._written(code, terms, resumed=bool(self.state(*code.inputs)))

    def emit(self, code: Emission, *terms: Any) -> Term:
        return self._written(code, terms)

    def _written(self, code: Emission, terms: Sequence[Any], resumed: bool = False) -> Term:
        types = code.inputs
        time, n, channels = self.axis(types[0]), self.states(types[0], types[2]), self.channels(*types)
        u, dt, a, read, b, skip = (*terms, None, None)[:6]
        batch = tuple(name for name in u.order if name != time and name not in channels)
        batch = tuple(sorted(batch, key=lambda name: types[0][name].role != "batch")) if resumed else batch

        def laid(x: Term, last: str) -> str:
            """[channels, last] for a part of the system, the channels as one axis."""
            x = placed(code, x, (*channels, last))
            if len(channels) == 1:
                return x.code
            missing = Term(x.code, x.order, x.tight)
            flat = f".expand({', '.join(code.size(types[0].size(name)) for name in channels)}, -1).flatten(0, -2)"
            return f"{missing.safe}{flat}"

        u = placed(code, u, (*batch, *channels, time))
        if len(channels) != 1:
            u = code.permute(code.flat(u, channels, "channels"), (*batch, "channels", time))
        if self.reverse:
            u = Term(f"{u.safe}.flip(-1)", u.order)
        arguments = [u.code, laid(dt, "one"), laid(a, n), laid(read, n)]
        arguments += [f"b={laid(b, n)}"] if b is not None else []
        arguments += [f"skip={laid(skip, 'one')}"] if skip is not None else []
        if resumed:
            sizes = (
                *(types[0].size(name) for name in batch[1:]),
                product(map(types[0].size, channels)),
                types[2].size(n),
            )
            pair = [2] if types[2].dtype.startswith("complex") else []
            arguments.insert(0, code.carried("last", "CarriedState", None, *sizes, *pair))
        plain = "lti_scan" if self.mode == "convolution" else "lti_steps"
        helper = code.helper("resumed_lti_scan" if resumed else plain)
        y = Term(f"{helper}({', '.join(arguments)})", (*batch, "channels", time))
        if self.reverse:
            y = Term(f"{y.code}.flip(-1)", y.order)
        return code.split(y, "channels", [types[0][name] for name in channels])
