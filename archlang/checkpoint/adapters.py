"""How weights of ours are made of a checkpoint's, and back. Every adapter is invertible, so what loads also saves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING

from archlang.diagnostics import ArchError, Collector, Label, error, suggest
from archlang.source import Span

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Key:
    """One tensor of theirs."""

    key: str

    def names(self) -> Iterator[str]:
        yield self.key

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        return theirs[self.key]

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        theirs[self.key] = value


@dataclass(frozen=True)
class Rows:
    """Part `part` of `parts` equal parts of the rows (axis 0) of theirs."""

    inner: "Adapter"
    part: int
    parts: int

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        whole = self.inner.read(theirs, (shape[0] * self.parts, *shape[1:]))
        return whole.chunk(self.parts)[self.part]

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        """The rows of the whole that belong to this part; the whole is made with the first part."""
        (key,) = self.inner.names()
        shape = (value.shape[0] * self.parts, *value.shape[1:])
        whole = theirs[key].reshape(shape) if key in theirs else value.new_zeros(shape)
        whole[self.part * value.shape[0] : (self.part + 1) * value.shape[0]] = value
        self.inner.write(whole, theirs)


@dataclass(frozen=True)
class Concat:
    """Theirs one after the other along axis 0; `sizes` are their rows where these are not equal."""

    inner: tuple["Adapter", ...]
    sizes: tuple[int, ...] | None

    def names(self) -> Iterator[str]:
        for part in self.inner:
            yield from part.names()

    def _rows(self, rows: int) -> tuple[int, ...]:
        return self.sizes or (rows // len(self.inner),) * len(self.inner)

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        import torch

        rows = self._rows(shape[0])
        return torch.cat([part.read(theirs, (size, *shape[1:])) for part, size in zip(self.inner, rows, strict=True)])

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        import torch

        for part, piece in zip(self.inner, torch.split(value, list(self._rows(value.shape[0]))), strict=True):
            part.write(piece.contiguous(), theirs)


@dataclass(frozen=True)
class Transpose:
    """Theirs with its axes in the order `order` (of a matrix: transposed)."""

    inner: "Adapter"
    order: tuple[int, ...] | None

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def _order(self, rank: int) -> tuple[int, ...]:
        return self.order or tuple(reversed(range(rank)))

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        order = self._order(len(shape))
        before = tuple(shape[order.index(i)] for i in range(len(shape)))
        return self.inner.read(theirs, before).permute(order)

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        order = self._order(value.ndim)
        self.inner.write(value.permute([order.index(i) for i in range(value.ndim)]).contiguous(), theirs)


@dataclass(frozen=True)
class Reshape:
    """Theirs, which has the shape `shape`, in the shape of ours."""

    inner: "Adapter"
    shape: Shape

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        whole = self.inner.read(theirs, self.shape)
        if tuple(whole.shape) != self.shape:
            raise ValueError(f"what is reshaped has the shape {list(whole.shape)}, not {list(self.shape)}")
        return whole.reshape(shape)

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        self.inner.write(value.reshape(self.shape), theirs)


@dataclass(frozen=True)
class Flip:
    """Theirs reversed along the axes `axes`."""

    inner: "Adapter"
    axes: tuple[int, ...]

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        return self.inner.read(theirs, shape).flip(self.axes)

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        self.inner.write(value.flip(self.axes), theirs)


@dataclass(frozen=True)
class Reorder:
    """Theirs with the equal parts of an axis, as many as `order` has, in another order."""

    inner: "Adapter"
    order: tuple[int, ...]
    axis: int

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        return self._moved(self.inner.read(theirs, shape), self.order)

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        self.inner.write(self._moved(value, [self.order.index(i) for i in range(len(self.order))]), theirs)

    def _moved(self, x: "Tensor", order: Sequence[int]) -> "Tensor":
        import torch

        parts = x.chunk(len(order), self.axis)
        return torch.cat([parts[i] for i in order], self.axis)


@dataclass(frozen=True)
class Plus:
    """Theirs plus a number (norms that store `weight - 1`)."""

    inner: "Adapter"
    number: float

    def names(self) -> Iterator[str]:
        yield from self.inner.names()

    def read(self, theirs: Tensors, shape: Shape) -> "Tensor":
        return self.inner.read(theirs, shape) + self.number

    def write(self, value: "Tensor", theirs: "dict[str, Tensor]") -> None:
        self.inner.write(value - self.number, theirs)


Adapter = Key | Rows | Concat | Transpose | Reshape | Flip | Reorder | Plus


def misfit(adapter: Adapter, shape: Shape) -> str | None:
    """Why an adapter can never make a tensor of this shape; None where the shapes of theirs decide."""
    rank = len(shape)
    match adapter:
        case Rows(inner, _, parts):
            return misfit(inner, (shape[0] * parts, *shape[1:])) if shape else "a number has no rows"
        case Concat(inner, sizes):
            return _misfit_of_parts(inner, sizes, shape)
        case Transpose(inner, order):
            order = order or tuple(reversed(range(rank)))
            if sorted(order) != list(range(rank)):
                return f"{list(order)} is no order of {rank} axes"
            return misfit(inner, tuple(shape[order.index(i)] for i in range(rank)))
        case Reshape(inner, before):
            return misfit(inner, before) if prod(before) == prod(shape) else f"{list(before)} has other elements"
        case Flip(inner, axes):
            beyond = [axis for axis in axes if not -rank <= axis < rank]
            return f"it has no axis {beyond[0]}" if beyond else misfit(inner, shape)
        case Reorder(inner, order, axis):
            return _misfit_of_order(order, axis, shape) or misfit(inner, shape)
        case Plus(inner, _):
            return misfit(inner, shape)
    return None


def _misfit_of_order(order: Sequence[int], axis: int, shape: Shape) -> str | None:
    if not -len(shape) <= axis < len(shape):
        return f"it has no axis {axis}"
    fits = order and sorted(order) == list(range(len(order))) and shape[axis] % len(order) == 0
    return None if fits else f"{list(order)} is no order of equal parts of {shape[axis]}"


def _misfit_of_parts(parts: Sequence[Adapter], sizes: Sequence[int] | None, shape: Shape) -> str | None:
    if not parts or not shape:
        return "nothing is put together"
    rows = sizes or (shape[0] // len(parts),) * len(parts)
    if len(rows) != len(parts) or sum(rows) != shape[0]:
        return f"{shape[0]} rows are not those of {len(parts)} parts{f' of {list(sizes)}' if sizes else ''}"
    found = (misfit(part, (size, *shape[1:])) for part, size in zip(parts, rows, strict=True))
    return next((why for why in found if why), None)


@dataclass(frozen=True)
class WeightMap:
    """A map for one network: how each weight of ours is read, and which keys of theirs have no counterpart."""

    name: str
    reads: Mapping[str, tuple[Adapter, Span | None]]  # `None`: under its own name, without a map
    without: tuple[str, ...]  # globs over their keys
    own: frozenset[str] = frozenset()  # weights of ours that theirs does not have

    def load(self, theirs: Tensors, ours: Tensors) -> "dict[str, Tensor]":
        """Tensors of ours from theirs; raises `ArchError` with all that is missing, left over or of another shape."""
        collector = Collector()
        found: dict[str, Tensor] = {}
        for absent in self.absent(theirs):
            collector.add(*absent.diagnostics)
        for key, (adapter, span) in self.reads.items():
            if all(name in theirs for name in adapter.names()):
                with collector.catch():
                    found[key] = _read(key, adapter, theirs, ours[key], span)
        used = {key for adapter, _ in self.reads.values() for key in adapter.names()}
        left = [key for key in theirs if key not in used and not any(fnmatchcase(key, glob) for glob in self.without)]
        if left:
            title, advice = f"the network has no {some(left)}, which the checkpoint has", None
            if self.name:
                title = f"the map `{self.name}` leaves out {some(left)} of the checkpoint"
                advice = 'map them, or write `none = "GLOB"`'
            collector.add(*error("A604", title, help=advice).diagnostics)
        collector.check()
        return found

    def absent(self, theirs: Tensors) -> Iterator[ArchError]:
        """What theirs lacks: one error for each entry of the map."""
        lacks: dict[Span | None, tuple[list[str], list[str]]] = {}
        for key, (adapter, span) in self.reads.items():
            if names := [name for name in adapter.names() if name not in theirs]:
                keys, missing = lacks.setdefault(span, ([], []))
                keys.append(key)
                missing.extend(name for name in names if name not in missing)
        for place, (keys, missing) in lacks.items():
            label = place and Label(place, f"for {some(keys)}")
            yield error("A605", f"the checkpoint has no {some(missing)}", label, help=suggest(missing[0], theirs))

    def save(self, ours: Tensors) -> "dict[str, Tensor]":
        """Tensors of theirs from ours."""
        theirs: dict[str, Tensor] = {}
        for key, (adapter, _) in self.reads.items():
            adapter.write(ours[key], theirs)
        return theirs


def _read(key: str, adapter: Adapter, theirs: Tensors, ours: "Tensor", span: Span | None) -> "Tensor":
    shape = tuple(ours.shape)
    try:
        tensor = adapter.read(theirs, shape)
    except (RuntimeError, IndexError, ValueError) as failure:
        raise error(
            "A606", f"`{key}` cannot be made of the checkpoint: {str(failure).partition(chr(10))[0]}", span
        ) from None
    if tuple(tensor.shape) != shape:
        names = " and ".join(f"`{name}` {list(theirs[name].shape)}" for name in adapter.names())
        raise error(
            "A606",
            f"`{key}` has the shape {list(shape)}, and the checkpoint gives {list(tensor.shape)}",
            span and Label(span, f"from {names}"),
            help=_reshaped(adapter, tuple(tensor.shape), shape),
        )
    if tensor.is_complex() and not ours.is_complex():
        kind = str(ours.dtype).removeprefix("torch.")
        raise error("A609", f"`{key}` is {kind}, and the checkpoint gives complex numbers", span)
    return tensor


def _reshaped(adapter: Adapter, theirs: Shape, ours: Shape) -> str | None:
    """What a map says where shapes differ in axes of size 1 alone, as of a 1 x 1 convolution and a linear layer."""
    if not isinstance(adapter, Key) or [n for n in theirs if n > 1] != [n for n in ours if n > 1]:
        return None
    return f'`reshape("{adapter.key}", {list(theirs)})` is theirs in the shape of ours'


def some(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")
