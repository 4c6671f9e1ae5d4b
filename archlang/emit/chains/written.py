"""A tape as statements: what is read several times gets a name, the rest stands in place."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from archlang.emit import names
from archlang.emit.chains.tape import COLUMN, Tape

# how tightly each binds, and its text
TEXTS: dict[str, tuple[int, str]] = {
    "add": (4, "{} + {}"),
    "sub": (4, "{} - {}"),
    "mul": (5, "{} * {}"),
    "div": (5, "{} / {}"),
    "neg": (6, "-{}"),
    **{
        op: (1, f"{{}} {sign} {{}}")
        for op, sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="))
    },
    **{op: (9, f"tl.{op}({{}})") for op in "exp log sqrt rsqrt sin cos erf abs sigmoid".split()},
    **{op: (9, f"tl.{op}({{}}, {{}})") for op in ("maximum", "minimum")},
    "where": (9, "tl.where({}, {}, {})"),
    **{op: (9, f"chain_{op}({{}})") for op in "tanh softplus log1p expm1".split()},
    "sum": (9, "chain_sum({}, {lane})"),
    "peak": (9, "chain_peak({}, {lane})"),
    "below": (9, "chain_below({}, {lane})"),
    "turn": (9, "tl.trans({})"),
}
WORDS = {
    "sum": "total",
    "peak": "top",
    "below": "less",
    "turn": "turned",
    "abs": "size",
    "exp": "power",
    "sigmoid": "gate",
    "mul": "product",
    "div": "ratio",
}
WORDS |= {"lt": "below", "le": "below", "gt": "above", "ge": "above", "eq": "equal", "neg": "minus", "sub": "gap"}
ALONG = {COLUMN: "inside"}
LONG = 70  # of an expression that stands in place


class Written:
    """The statements that lead to some steps of a tape, and what these are called after them.

    `lanes` say how sums along a lane are told which numbers are there, `loads` how what is not at hand is read where
    it is needed, `known` what has a name already.
    """

    def __init__(
        self,
        tape: Tape,
        results: Sequence[int],
        taken: set[str],
        lanes: Mapping[str, str] = ALONG,
        loads: Mapping[str, str] = {},
        known: Mapping[int, str] = {},
    ) -> None:
        self.tape, self.lanes, self.loads, self.lines = tape, lanes, loads, list[str]()
        self._taken = taken
        self._texts = {step: (9, name) for step, name in known.items()}
        needed = [step for step in tape.needed(results, known) if step not in known]
        self._uses = Counter(arg for step in needed for arg in tape.steps[step].args)
        self._uses.update(results)
        for step in needed:
            self._write(step)
        self.results = [self._texts[step][1] for step in results]
        self.reads = [tape.steps[step].text for step in needed if not tape.steps[step].args]

    def _write(self, step: int) -> None:
        op, args = self.tape.steps[step].op, self.tape.steps[step].args
        if not args:
            word = self.tape.steps[step].text
            self._texts[step] = (9, self.loads.get(word, word))
            return
        if op == "same":
            self._texts[step] = self._texts[args[0]]
            return
        level, form = TEXTS[op]
        text = form.format(*self._operands(level, args), lane=self.lanes.get(self.tape.steps[step].text))
        if self._uses[step] > 1 or len(text) > LONG:
            name = names.numbered(self.tape.hints.get(step, WORDS.get(op, op)), lambda n: n not in self._taken)
            self._taken.add(name)
            self.lines.append(f"{name} = {text}")
            level, text = 9, name
        self._texts[step] = (level, text)

    def _operands(self, level: int, args: Sequence[int]) -> Iterator[str]:
        for i, arg in enumerate(args):
            inner, text = self._texts[arg]
            yield f"({text})" if level < 9 and inner < level + (i > 0) else text
