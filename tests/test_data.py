"""Data classes: what is frozen is hashed as it is compared."""

from dataclasses import replace

from archlang.data import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    x: int


@dataclass(frozen=True)
class Coarse:
    x: int

    def __hash__(self) -> int:
        return self.x // 10


@dataclass
class Counter:
    count: int = 0


def test_by_value() -> None:
    assert {Point(1), replace(Point(2), x=1), Point(1, 0)} == {Point(1)}


def test_by_identity() -> None:
    assert len({Place(1), Place(1)}) == 2


def test_a_hash_of_its_own() -> None:
    assert hash(Coarse(13)) == 1
    assert Coarse(13) != Coarse(14)


def test_what_changes_has_no_hash() -> None:
    assert Counter.__hash__ is None
    assert Counter() == Counter(0)
