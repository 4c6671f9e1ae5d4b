"""How rotary positions reach further than they were trained for: `rope(scaling = S)`.

Pair i of `pairs` turns by base^(-i / pairs) a position. A scaling slows pairs down, some by as much as `factor`.
"""

from math import ceil, floor, log, pi
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator

from archlang.primitive import Construct, Emission, Number, OpError, describe, register


class Scaling(Construct):
    """Slower turns, for about `factor` times as many positions."""

    kind: ClassVar[str] = "scaling"

    factor: Number

    def check(self) -> None:
        """Refuse numbers that make no sense; raises `OpError`."""
        if self.factor < 1:
            raise OpError("A319", f"`factor` of `{self.name}` must be at least 1, and is {self.factor}", "scaling")

    def speed(self, i: int, pairs: int, base: float) -> float:
        """The angle of pair i from one position to the next."""
        raise NotImplementedError

    def gain(self) -> float:
        """What queries and keys are multiplied by."""
        return 1.0

    def keywords(self, code: Emission, pairs: int, base: float) -> dict[str, str]:
        """The arguments of the helper `rotary` that say the same."""
        raise NotImplementedError


def _scaling(value: Any) -> Any:
    if value is not None and not isinstance(value, Scaling):
        raise ValueError(f"must be a scaling, as `ntk(2)`, and is {describe(value)}")
    return value


Reach: TypeAlias = Annotated[Any, BeforeValidator(_scaling)]  # a Scaling


@register
class PositionInterpolation(Scaling):
    """All pairs turn `factor` times slower (Chen et al., arXiv:2306.15595); "linear" in transformers."""

    name: ClassVar[str] = "position_interpolation"

    def speed(self, i: int, pairs: int, base: float) -> float:
        return float(base ** (-i / pairs) / self.factor)

    def keywords(self, code: Emission, pairs: int, base: float) -> dict[str, str]:
        return {"base": code.const(base), "step": code.const(1 / float(self.factor))}


@register
class Ntk(Scaling):
    """The slowest pair turns `factor` times slower, the fastest as before: the base becomes
    base * factor^(pairs / (pairs - 1)) (NTK-aware scaling; Peng et al., arXiv:2309.00071).
    """

    name: ClassVar[str] = "ntk"

    def speed(self, i: int, pairs: int, base: float) -> float:
        return float(self._base(pairs, base) ** (-i / pairs))

    def keywords(self, code: Emission, pairs: int, base: float) -> dict[str, str]:
        return {"base": code.const(self._base(pairs, base))}

    def _base(self, pairs: int, base: float) -> float:
        return float(base * self.factor ** (pairs / max(pairs - 1, 1)))


class ByTurns(Scaling):
    """Pairs that make many turns in `original` positions stay as they are, those that make few are `factor` times
    slower: the speed is multiplied by s + (1 - s) / factor.
    """

    original: Number

    def check(self) -> None:
        super().check()
        if self.original < 1:
            raise OpError("A319", f"`original` of `{self.name}` is a length, not {self.original}", "scaling")

    def speed(self, i: int, pairs: int, base: float) -> float:
        kept = min(max(self.kept(i, pairs, base), 0.0), 1.0)
        return float(base ** (-i / pairs) * (kept + (1 - kept) / self.factor))

    def kept(self, i: int, pairs: int, base: float) -> float:
        """s of pair i, before it is cut to lie from 0 to 1."""
        raise NotImplementedError

    def bounds(self) -> tuple[float, float]:
        """The turns that are few, and many."""
        raise NotImplementedError

    def options(self) -> list[str]:
        """Further arguments of the helper that makes the speeds."""
        return []

    def keywords(self, code: Emission, pairs: int, base: float) -> dict[str, str]:
        numbers = [base, float(self.factor), self.original, *map(float, self.bounds())]
        given = ", ".join([code.size(pairs), *map(code.const, numbers), *self.options()])
        helper = code.helper(f"{self.name}_speeds")
        speeds = f"{helper}({given}, dtype={code.working()}, device={code.device()})"
        return {"speeds": speeds} | ({"gain": code.const(self.gain())} if self.gain() != 1 else {})


@register
class Llama3(ByTurns):
    """s = (turns - low) / (high - low), cut to lie from 0 to 1, for a pair that makes so many turns in `original`
    positions: Llama 3.1 (Grattafiori et al., arXiv:2407.21783).
    """

    name: ClassVar[str] = "llama3"

    low: Number = 1
    high: Number = 4

    def check(self) -> None:
        super().check()
        if not 0 < self.low < self.high:
            raise OpError("A319", f"`low` must be above 0 and below `high` = {self.high}, and is {self.low}", "scaling")

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def kept(self, i: int, pairs: int, base: float) -> float:
        turns = self.original * base ** (-i / pairs) / (2 * pi)
        return float((turns - self.low) / (self.high - self.low))


@register
class Yarn(ByTurns):
    """s falls from 1 to 0 along the pairs, from the one that makes `fast` turns in `original` positions to the one that
    makes `slow`, with `truncate` rounded down and up; queries and keys are multiplied by `attention_factor`, by
    default 0.1 log(factor) + 1 (Peng et al., ICLR 2024).
    """

    name: ClassVar[str] = "yarn"

    fast: Number = 32
    slow: Number = 1
    truncate: bool = True
    attention_factor: Number | None = None

    def check(self) -> None:
        super().check()
        if not 0 < self.slow < self.fast:
            raise OpError(
                "A319", f"`slow` must be above 0 and below `fast` = {self.fast}, and is {self.slow}", "scaling"
            )

    def bounds(self) -> tuple[float, float]:
        return self.fast, self.slow

    def gain(self) -> float:
        return 0.1 * log(self.factor) + 1 if self.attention_factor is None else float(self.attention_factor)

    def options(self) -> list[str]:
        return [] if self.truncate else ["truncate=False"]

    def kept(self, i: int, pairs: int, base: float) -> float:
        first, last = (pairs * log(self.original / (turns * 2 * pi)) / log(base) for turns in self.bounds())
        if self.truncate:
            first, last = floor(first), ceil(last)
        start, end = max(first, 0), min(last, 2 * pairs - 1)
        return 1 - (i - start) / max(end - start, 1e-3)
