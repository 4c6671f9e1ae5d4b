"""Expressions of emitted code, with what is known of the tensors that they give."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Split:
    """What the last call of an expression did: it split the axis `name` of `code` into `members` of `sizes`. Several in
    a row are left as they are, for what follows mostly undoes them together.
    """

    code: str
    name: str
    members: tuple[str, ...]
    sizes: str
    alone: bool = True

    def joined(self, names: Sequence[str]) -> tuple[str, ...] | None:
        """Names of axes with the one that was split in the place of its members; None where these are not in a row."""
        if not self.alone or self.members[0] not in names:
            return None
        start = names.index(self.members[0])
        end = start + len(self.members)
        others = (*names[:start], *names[end:])
        in_a_row = tuple(names[start:end]) == self.members and self.name not in others
        return (*names[:start], self.name, *names[end:]) if in_a_row else None


@dataclass(frozen=True, slots=True)
class Term:
    """A Python expression for a tensor and the physical order of its axes. `tight`: a name, call or attribute, fit for
    `.method()`. `split`: what it was before its last call, where that split an axis.
    """

    code: str
    order: tuple[str, ...]
    tight: bool = True
    split: Split | None = field(default=None, compare=False)

    @property
    def safe(self) -> str:
        """The code, in parentheses where it must be."""
        return self.code if self.tight else f"({self.code})"

    def at(self, name: str) -> int:
        """The position of an axis, from the end for the last one, as people write it."""
        i = self.order.index(name)
        return -1 if i == len(self.order) - 1 else i

    def whole(self, names: Sequence[str]) -> tuple["Term", tuple[str, ...]]:
        """The term before its axis was split, and `names` of axes as that has them, where it is whole in them too."""
        order, wanted = (self.split.joined(self.order), self.split.joined(names)) if self.split else (None, None)
        if self.split is None or order is None or wanted is None:
            return self, tuple(names)
        return Term(self.split.code, order), wanted

    def filled(self, code: str) -> "Term":
        """The term with other code, in which slots are filled."""
        split, text = self.split, self.code.removeprefix(self.split.code if self.split else "")
        same = split is not None and text != self.code and code.endswith(text)
        return Term(code, self.order, split=replace(split, code=code.removesuffix(text)) if split and same else None)

    def unflatten(self, name: str, members: Sequence[str], sizes: str) -> "Term":
        """The term with an axis split into others."""
        at, place = self.at(name), self.order.index(name)
        order = (*self.order[:place], *members, *self.order[place + 1 :])
        split = Split(self.safe, name, tuple(members), sizes, alone=self.split is None)
        return Term(f"{self.safe}.unflatten({at}, {sizes})", order, split=split)
