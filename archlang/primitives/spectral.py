"""Signals in time and frequency."""

from typing import Any, ClassVar, Literal

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import AxisName, Emission, OpError, Primitive, Term, Types, Whole, need_named, register
from archlang.primitives.broadcast import known, need_new, one_axis, refuse
from archlang.primitives.complex import OF_PARTS, PARTS
from archlang.shapes import Axis, TensorType, default_role
from archlang.sizes import Size, divide

Shape = Literal["hann", "hamming", "rectangle"]
WINDOWS = {
    "hann": "torch.hann_window({size})",
    "hamming": "torch.hamming_window({size})",
    "rectangle": "torch.ones({size})",
}


class _Frames(Primitive):
    """What the transform and its inverse share."""

    size: Whole
    hop: Whole
    window: Shape = "hann"
    center: bool = True
    on: AxisName | None = None
    axis: AxisName = "freq"

    def check(self) -> None:
        """Refuse frames that are none."""
        if not isinstance(self.size, int) or self.size < 2 or self.size % 2:
            raise OpError("A319", f"`size` must be an even number of at least 2, and is {self.size}", "size")
        if not isinstance(self.hop, int) or not 1 <= self.hop <= self.size:
            raise OpError("A319", f"`hop` must be from 1 to the size of {self.size}, and is {self.hop}", "hop")

    def along(self, x: TensorType) -> str:
        """The axis of the signal, which becomes that of the frames."""
        return one_axis([self.on or ("time" if x.of_role("time") else "space")], x)

    def spell(self, code: Emission) -> str:
        """The arguments that both transforms take."""
        window = code.buffer("window", WINDOWS[self.window].format(size=code.size(self.size)))
        text = f"{code.size(self.size)}, {code.size(self.hop)}, window={window}"
        return text if self.center else f"{text}, center=False"

    def shape(self) -> Any:
        """The window as a torch tensor in double precision."""
        import torch

        turns = torch.arange(known(self.size), dtype=torch.float64) / known(self.size)
        low = {"hann": 0.5, "hamming": 0.54, "rectangle": 1.0}[self.window]
        return low - (1 - low) * torch.cos(2 * torch.pi * turns)

    def waves(self) -> Any:
        """exp(-2 pi i f k / size), [size // 2 + 1, size]."""
        import torch

        size = known(self.size)
        turns = torch.outer(torch.arange(size // 2 + 1), torch.arange(size)) % size
        return torch.exp(-2j * torch.pi * turns.to(torch.float64) / size)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset({self.along(x), self.axis} & set(x.names))


@register
class Stft(_Frames):
    """The short-time Fourier transform: y[m, f] = sum over k of window[k] x[m hop + k] exp(-2 pi i f k / size).

    The axis of the signal, of time or else of space, becomes that of the frames m; `freq`, with the frequencies from 0
    to size / 2, is new. With `center` the signal is mirrored by size / 2 at both ends, so that frame m is around m hop.
    """

    name: ClassVar[str] = "stft"

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        self.check()
        if x.dtype not in OF_PARTS:
            raise refuse(x, "`stft` takes float tensors", "`cast(x, float)`")
        axis = self.along(x)
        need_new(x, self.axis, "axis")
        least = self.size // 2 + 1 if self.center else self.size
        if not facts.require(Condition("<=", least, x.size(axis)), f"`stft` along `{axis}`"):
            title = f"`stft` in frames of {self.size} needs {least} positions of `{axis}`, and it has {x.size(axis)}"
            raise OpError("A204", title, "size")
        frames: Size = (x.size(axis) - (0 if self.center else self.size)) // self.hop + 1
        made = [Axis(self.axis, self.size // 2 + 1, default_role(self.axis)), Axis(axis, frames, x[axis].role)]
        return x.swapped([axis], made).cast(OF_PARTS[x.dtype])

    def emit(self, code: Emission, x: Term) -> Term:
        axis = self.along(code.inputs[0])
        signals = [code.inputs[0][name] for name in x.order if name != axis]
        x = code.last(x, (axis,))
        flat = x if len(signals) <= 1 else Term(f"{x.safe}.flatten(0, -2)", ("signals", axis))
        text = f"torch.stft({flat.code}, {self.spell(code)}, return_complex=True)"
        if len(signals) <= 1:
            return Term(text, (*(axis.name for axis in signals), self.axis, axis))
        return code.split(Term(text, ("signals", self.axis, axis)), "signals", signals)

    def memory(self, x: TensorType) -> Memory:
        """The frames under the window; what is mirrored reads its size."""
        axis = self.along(x)
        frames = self.infer(Facts(), x).size(axis)
        kept = divide(x.bytes, x.size(axis)) * frames * self.size
        if self.center and x.names[-1] != axis:
            return Memory(kept=kept + x.bytes)
        return Memory({"x": ""} if self.center else {}, kept=kept)

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        axis, size = self.along(types.inputs[0]), known(self.size)
        rest = tuple(name for name in x.names if name != axis)
        signal, half = x.to((*rest, axis)), size // 2
        if self.center:
            count = signal.shape[-1]
            places = [min(abs(i), 2 * count - 2 - i) if i >= count else abs(i) for i in range(-half, count + half)]
            signal = signal[..., places]
        weights = self.waves() * self.shape()
        starts = range(0, signal.shape[-1] - size + 1, known(self.hop))
        frames = torch.stack([signal[..., start : start + size] for start in starts], -2)
        made = torch.einsum("...mk,fk->...fm", frames.to(weights.dtype), weights)
        return Named(made, (*rest, self.axis, axis))


@register
class Istft(_Frames):
    """The signal whose `stft` is nearest to x: frames back in time, times the window, added up, over the sum of the
    squares of the windows. Of `length` positions, by default all that the frames are around.
    """

    name: ClassVar[str] = "istft"

    length: Whole | None = None

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        self.check()
        if x.dtype not in PARTS:
            raise refuse(x, "`istft` takes complex tensors", "`complex(re, im)`")
        if not self.center:
            raise OpError("A319", "`istft` undoes frames around their positions: `center` is true", "center")
        axis = self.along(x)
        need_named(x, [self.axis])
        if not facts.equal(x.size(self.axis), self.size // 2 + 1):
            has = f"`{self.axis}` has {x.size(self.axis)}"
            title = f"frames of {self.size} have {self.size // 2 + 1} frequencies, and {has}"
            raise OpError("A204", title, "size")
        length = self.hop * (x.size(axis) - 1) if self.length is None else self.length
        made = Axis(axis, length, x[axis].role)
        return x.without(self.axis).swapped([axis], [made]).cast(PARTS[x.dtype])

    def emit(self, code: Emission, x: Term) -> Term:
        axis = self.along(code.inputs[0])
        signals = [code.inputs[0][name] for name in x.order if name not in (axis, self.axis)]
        x = code.last(x, (self.axis, axis))
        flat = x if len(signals) <= 1 else Term(f"{x.safe}.flatten(0, -3)", ("signals", self.axis, axis))
        length = "" if self.length is None else f", length={code.size(self.length)}"
        text = f"torch.istft({flat.code}, {self.spell(code)}{length})"
        if len(signals) <= 1:
            return Term(text, (*(axis.name for axis in signals), axis))
        return code.split(Term(text, ("signals", axis)), "signals", signals)

    def memory(self, x: TensorType) -> Memory:
        """How much of windows meets at each position."""
        length = self.hop * (x.size(self.along(x)) - 1) + self.size
        return Memory(kept=divide(x.without(*x.names).bytes, 2) * length)

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        axis, size, hop = self.along(types.inputs[0]), known(self.size), known(self.hop)
        rest = tuple(name for name in x.names if name not in (axis, self.axis))
        values, window = x.to((*rest, axis, self.axis)), self.shape()
        twice = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)
        twice[0] = twice[-1] = 1  # the others stand for their conjugates too
        ends = values.real[..., [0, -1]] + 0j
        values = torch.cat([ends[..., :1], values[..., 1:-1], ends[..., 1:]], -1)
        frames = torch.einsum("...f,fk->...k", values * twice, self.waves().conj()).real / size
        count = frames.shape[-2]
        total = torch.zeros((*frames.shape[:-2], hop * (count - 1) + size), dtype=torch.float64)
        weight = torch.zeros(total.shape[-1], dtype=torch.float64)
        for m in range(count):
            here = slice(m * hop, m * hop + size)
            pad = (m * hop, total.shape[-1] - m * hop - size)
            total = total + torch.nn.functional.pad(frames[..., m, :] * window, pad)
            weight[here] += window**2
        length = known(types.outputs[0].size(axis))
        kept = slice(size // 2, size // 2 + length)
        signal, scale = total[..., kept], weight[kept]
        missing = length - signal.shape[-1]
        made = torch.nn.functional.pad(signal / scale, (0, missing))
        return Named(made, (*rest, axis))
