"""Axes split and merged, in a notation that names only those that change."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import AxisMap, Emission, OpError, PerName, Primitive, Term, Types, register
from archlang.primitives.broadcast import known
from archlang.shapes import Axis, TensorType, default_role
from archlang.sizes import Size, divide, product


@dataclass(frozen=True, slots=True)
class Part:
    """`a b -> c d`: the axes on the left, the first the slowest, become those on the right."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    text: str

    def error(self, problem: str, help: str | None = None) -> OpError:
        return OpError("A209", f"`{self.text}`: {problem}", "pattern", help)


@dataclass(slots=True)
class Step:
    """One part with its axes: those that it takes and those that it makes."""

    part: Part
    old: tuple[Axis, ...]
    new: tuple[Axis, ...]
    unknown: str | None


@register
class Rearrange(Primitive):
    """Splits and merges axes: `rearrange("h -> h p, w -> w q, p q -> n", p = 7, q = 7)`.

    Each part maps a group of axes to a group; parts apply from left to right. The first name of a group is the slowest:
    the element at (i, j) of axes a, b is at i * |b| + j of their merger. The size of at most one axis that a part makes
    may be left out. A time axis stays causal where it is the slowest on both sides (`t -> t p` is a step of p).
    """

    name: ClassVar[str] = "rearrange"

    pattern: str
    sizes: PerName = AxisMap(())

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        made = {name for part in _parts(self.pattern) for name in part.right}
        for name, _ in self.sizes.items:
            if name not in made:
                raise OpError("A209", f"no part of the pattern makes an axis `{name}`", name)
        for step in self.steps(facts, x):
            x = x.swapped(step.part.left, step.new)
        return x

    def steps(self, facts: Facts, x: TensorType) -> Iterator[Step]:
        """The parts with their axes and sizes. A given size is that of the first axis of its name that is made."""
        sizes = dict(self.sizes.items)
        for part in _parts(self.pattern):
            for name in part.left:
                if name not in x:
                    raise part.error(f"there is no axis `{name}` in {x}")
            for name in part.right:
                if name in x and name not in part.left:
                    raise part.error(f"there already is an axis `{name}` in {x}")
            step = self.move(facts, part, x, {name: sizes.pop(name) for name in part.right if name in sizes})
            yield step
            x = x.swapped(part.left, step.new)

    def move(self, facts: Facts, part: Part, x: TensorType, given: dict[str, Size]) -> Step:
        old = tuple(x[name] for name in part.left)
        total = product(axis.size for axis in old)
        unknown = [name for name in part.right if name not in given]
        if len(unknown) > 1:
            raise part.error(
                f"the sizes of {' and '.join(f'`{n}`' for n in unknown)} are unknown", f"give one: `{unknown[0]} = ...`"
            )
        count = product(given.values())
        if unknown:
            if count == 0 or not facts.divides(count, total):
                raise part.error(f"{count} does not divide {' * '.join(part.left)} = {total}")
            given[unknown[0]] = divide(total, count)
        elif not facts.equal(total, count):
            raise part.error(f"{' * '.join(part.left)} = {total}, and {' * '.join(part.right)} = {count}")
        roles = {axis.name: axis.role for axis in old}
        new = tuple(Axis(name, given[name], roles.get(name) or default_role(name)) for name in part.right)
        return Step(part, old, new, unknown[0] if unknown else None)

    def emit(self, code: Emission, x: Term) -> Term:
        chain = _Chain(code, x)
        for step in self.steps(Facts(), code.inputs[0]):
            chain.apply(step)
        return chain.finish()

    def reference(self, types: Types, x: Named) -> Named:
        for step in self.steps(Facts(), types.inputs[0]):
            kept = tuple(name for name in x.names if name not in step.part.left)
            rows = x.to((*kept, *step.part.left))
            shape = (*rows.shape[: len(kept)], *(known(axis.size) for axis in step.new))
            x = Named(rows.reshape(shape), (*kept, *step.part.right))
        return x

    def memory(self, x: TensorType) -> Memory:
        """A view, but where axes are merged that do not lie side by side."""
        atoms, groups, fresh = list(x.names), {name: [name] for name in x.names}, itertools.count()
        for step in self.steps(Facts(), x):
            group = [atom for name in step.part.left for atom in groups.pop(name)]
            if len(step.new) > 1:
                if len(group) > 1:
                    return Memory()
                names = [f"{axis.name}.{next(fresh)}" for axis in step.new]
                at = atoms.index(group[0])
                atoms[at : at + 1] = names
                groups |= {axis.name: [name] for axis, name in zip(step.new, names, strict=True)}
            else:
                groups[step.new[0].name] = group
        order = sorted(groups, key=lambda name: max(atoms.index(atom) for atom in groups[name]))
        view = [atom for name in order for atom in groups[name]] == atoms
        return Memory(view=view, order=tuple(order))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(name for part in _parts(self.pattern) for name in part.left if name in x)

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        parts = _parts(self.pattern)
        slowest = {part.left[0] for part in parts if part.left[0] == part.right[0]}
        others = {name for part in parts for name in part.left[1:]}
        return self.mixes(x) - (slowest - others)

    def resumes(self, x: TensorType) -> bool:
        """A block of time is one step at its rate."""
        return self.looks_ahead(x).isdisjoint(x.of_role("time"))


@cache
def _parts(pattern: str) -> tuple[Part, ...]:
    return tuple(_parse(text.strip(), pattern) for text in pattern.split(","))


def _parse(text: str, pattern: str) -> Part:
    part = Part((), (), text or pattern)
    sides = [side.split() for side in text.split("->")]
    if len(sides) != 2 or not all(sides):
        raise part.error("a part is `names -> names`", '`rearrange("h -> h p, w -> w q, p q -> n", p = 7, q = 7)`')
    for side in sides:
        for name in side:
            if not name.isidentifier():
                at = pattern.index(name) + 1
                raise part.error(
                    f"`{name}` at column {at} is not the name of an axis", "names apart from each other, no parentheses"
                )
            if side.count(name) > 1:
                raise part.error(f"`{name}` stands twice on one side")
    if len(sides[0]) > 1 and set(sides[0]) == set(sides[1]):
        raise part.error("only the order differs, and axes have no order")
    return Part(tuple(sides[0]), tuple(sides[1]), text)


@dataclass(slots=True)
class _Chain:
    """Emitted text under way: splits at once, one permute, merges at the end.

    An axis of the result is a group of axes of `term`.
    """

    code: Emission
    term: Term
    groups: dict[str, list[str]] = field(init=False)
    fresh: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.groups = {name: [name] for name in self.term.order}

    def apply(self, step: Step) -> None:
        group = [atom for name in step.part.left for atom in self.groups.pop(name)]
        if len(step.new) == 1:
            self.groups[step.new[0].name] = group
            return
        if len(group) > 1:
            self.groups["merged"] = group
            self.finish()
            group = self.groups.pop("merged")
        self.split(group[0], step)

    def split(self, atom: str, step: Step) -> None:
        names = [f"{axis.name}.{next(self.fresh)}" for axis in step.new]
        sizes = ", ".join("-1" if axis.name == step.unknown else self.code.size(axis.size) for axis in step.new)
        place = self.term.order.index(atom)
        order = (*self.term.order[:place], *names, *self.term.order[place + 1 :])
        self.term = Term(f"{self.term.safe}.unflatten({self.term.at(atom)}, ({sizes}))", order)
        self.groups.update((axis.name, [name]) for axis, name in zip(step.new, names, strict=True))

    def finish(self) -> Term:
        """The groups brought together, each in the place of its last axis, and merged."""
        places = {name: max(self.term.order.index(atom) for atom in group) for name, group in self.groups.items()}
        names = sorted(places, key=places.__getitem__)
        self.term = self.code.permute(self.term, [atom for name in names for atom in self.groups[name]])
        for name in names:
            self.term, (*self.groups[name],) = self.term.whole(self.groups[name])
        text, order = self.term.safe, tuple(names)
        for place, name in enumerate(names):
            if len(self.groups[name]) > 1:
                last = f", {place + len(self.groups[name]) - 1}" if place < len(names) - 1 else ""
                text += f".flatten({place}{last})"
        self.term = Term(text, order, self.term.tight or text != self.term.safe)
        self.groups = {name: [name] for name in names}
        return self.term
