"""Text to syntax. lark compiles the grammar to LALR tables once; `Machine` runs them.

The tables are kept in the cache: plain data, which can be read safely, unlike a pickle.
"""

import functools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from archlang import cache, resources
from archlang.builder import NODES, PARTS, VALUES
from archlang.diagnostics import ArchError, Collector, error
from archlang.lexer import DEEP, Lexer, Token
from archlang.mistakes import Mistake, explain, without_statement
from archlang.source import Source, Span
from archlang.syntax import Expr, File

MAX_DEPTH = 200
MAX_STACK = 12 * MAX_DEPTH  # no form has more than twelve symbols
MAX_ERRORS = 20
MAX_REREAD = 2**14  # characters: an item is read again from its start after a mistake in a statement
FORMAT = "1"  # of the tables below: a new one makes old cache entries unknown


class ParseError(Exception):
    """An error, and where the parser was when it found it."""

    def __init__(self, error: ArchError, mistake: Mistake) -> None:
        self.error = error
        self.mistake = mistake


def parse(source: Source) -> File:
    """The syntax of a file, or every mistake in it, one for each statement."""
    collector, code, start = Collector(), source.text, 0
    for _ in range(MAX_ERRORS):
        try:
            file: File = Machine(source, "file").run(code, start)
        except ParseError as failure:
            collector.add(*failure.error.diagnostics)
            go_on = _after(code, failure, start)
            if go_on is None:
                break
            code, start = go_on
        else:
            break
    collector.check()
    return file


def parse_expression(source: Source) -> Expr:
    """The expression that is the whole of a text, as in `--set depths=[2, 2]`."""
    try:
        expression: Expr = Machine(source, "expression").run(source.text, 0)
    except ParseError as failure:
        raise failure.error from None
    return expression


def _after(code: str, failure: ParseError, start: int) -> tuple[str, int] | None:
    """How to go on after a mistake: without its statement, or else from the next item of the file."""
    mistake, found = failure.mistake, failure.error.diagnostics[0].code
    lexer = _tables().lexer
    sound = without_statement(code, mistake, found, lambda place: lexer.tokens(mistake.source, code, place))
    if sound is not None and mistake.token.start - start < MAX_REREAD:
        return sound, start
    item = re.compile(r"^(?:use|foreign|block|model)\b", re.MULTILINE)
    following = item.search(code, max(mistake.token.start, start + 1))
    return (code, following.start()) if following and found != "A004" else None


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Room for functions that follow trees and blocks as deep as the limits allow."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 50_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def tokens(source: Source) -> list[Token]:
    """Every token of a file, comments and newlines among them."""
    return list(_tables().lexer.raw(source.text))


# ---- the machine
class Rule(NamedTuple):
    origin: str
    size: int
    name: str  # of the node it makes; "" for a list of parts that another rule takes
    picks: list[int | None]  # the parts it keeps: a place, ~place for a list to be spliced, None for an absent optional
    expand: bool  # a single part stands for itself


class Tables:
    """LALR tables ready to run: `states[state][symbol]` is the next state, or ~rule for a reduction."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.lexer = Lexer(data["terminals"])
        self.states: list[dict[str, int]] = data["states"]
        self.start: dict[str, int] = data["start"]
        self.end: dict[str, int] = data["end"]
        self.rules = [Rule(*rule) for rule in data["rules"]]
        self._after: dict[tuple[int, str, str], int] = {}

    def after(self, state: int, symbol: str, kind: str) -> int:
        """The state when `symbol` was found in `state` and `kind` is next; `sum: product` and its like are skipped."""
        found = self._after.get((state, symbol, kind))
        if found is None:
            found = self.states[state][symbol]
            action = self.states[found].get(kind, 0)
            if action < 0 and (rule := self.rules[~action]).expand and rule.size == 1:
                found = self.after(state, rule.origin, kind)
            self._after[state, symbol, kind] = found
        return found


class Machine:
    """Shifts tokens and reduces rules. Each value on the stack has its start, its end and the depth of its tree."""

    def __init__(self, source: Source, goal: str) -> None:
        self.source = source
        self.goal = goal
        self.tables = _tables()
        self.states = [self.tables.start[goal]]
        self.values: list[Any] = []
        self.places: list[tuple[int, int, int]] = []
        self.seen: list[Token] = []

    def run(self, code: str, begin: int) -> Any:
        """The value of the goal that `code` is, from `begin` on."""
        token = Token("_NEWLINE", "", begin, begin)
        try:
            for token in self.tables.lexer.tokens(self.source, code, begin):
                self.feed(token)
        except ArchError as failure:
            raise ParseError(failure, self.mistake(token)) from None
        return self.values[-1]

    def mistake(self, token: Token) -> Mistake:
        expected = frozenset(filter(str.isupper, self.tables.states[self.states[-1]]))
        return Mistake(self.source, token, self.seen, expected)

    def feed(self, token: Token) -> None:
        """Reduce what ends before `token`, then shift it."""
        tables, states, kind = self.tables, self.states, token.kind
        while (action := tables.states[states[-1]].get(kind)) is not None and action < 0:
            rule = tables.rules[~action]
            self.reduce(rule)
            if rule.size:
                del states[-rule.size :]
            states.append(tables.after(states[-1], rule.origin, kind))
        if action is not None:
            self.shift(token, action)
        elif kind != "$END" or states[-1] != tables.end[self.goal]:
            raise explain(self.mistake(token))

    def shift(self, token: Token, state: int) -> None:
        self.states.append(state)
        if len(self.states) > MAX_STACK:
            raise error("A802", f"code nests deeper than {MAX_DEPTH} levels", token.span(self.source), help=DEEP)
        self.seen.append(token)
        value = VALUES[token.kind](token) if token.kind in VALUES else token.text
        self.push(value, token.start, token.end)

    def push(self, value: Any, start: int, end: int, depth: int = 0) -> None:
        self.values.append(value)
        self.places.append((start, end, depth))

    def reduce(self, rule: Rule) -> None:
        """Replace the last values by what the rule makes of them."""
        first = len(self.values) - rule.size
        values, places = self.values[first:], self.places[first:] or [(self.end, self.end, 0)]
        del self.values[first:], self.places[first:]
        start, end, depth = places[0][0], places[-1][1], max([depth for _, _, depth in places])
        parts = _parts(values, rule.picks)
        if rule.expand and len(parts) == 1:
            return self.push(parts[0], start, end, depth)
        if not rule.name:
            return self.push(parts, start, end, depth)
        span = Span(self.source, start, end)
        if depth == MAX_DEPTH:
            raise error("A802", f"code nests deeper than {MAX_DEPTH} levels", span, help=DEEP)
        return self.push(NODES[rule.name](span, *parts), start, end, depth + (rule.name not in PARTS))

    @property
    def end(self) -> int:
        return self.places[-1][1] if self.places else 0


def _parts(values: list[Any], picks: list[int | None]) -> list[Any]:
    """The values that a rule keeps."""
    parts: list[Any] = []
    for pick in picks:
        if pick is None:
            parts.append(None)
        elif pick >= 0:
            parts.append(values[pick])
        elif parts:
            parts += values[~pick]
        else:
            parts = values[~pick]  # taken over, not copied: a list of n items is built in n steps
    return parts


# ---- the tables
@functools.cache
def _tables() -> Tables:
    """The tables from the cache, or made from the grammar and put there."""
    grammar = resources.read_text("grammar", "archlang.lark")
    key = cache.digest(FORMAT, grammar)
    data = cache.get("grammar", key)
    if data is None:
        data = _compile(grammar)
        cache.put("grammar", key, data)
    return Tables(data)


def _compile(grammar: str) -> dict[str, Any]:
    """lark's LALR(1) tables as plain data."""
    from lark import Lark
    from lark.grammar import Rule as LarkRule
    from lark.lexer import Lexer as LarkLexer
    from lark.lexer import TerminalDef

    class Unused(LarkLexer):
        def __init__(self, _: Any) -> None: ...

        def lex(self, *_: Any) -> Iterator[Any]:
            return iter(())

    lark = Lark(grammar, parser="lalr", lexer=Unused, start=["file", "expression"], maybe_placeholders=True)
    data, memo = lark.memo_serialize([TerminalDef, LarkRule])
    table, names = data["parser"]["parser"], data["parser"]["parser"]["tokens"]
    rules = [at for at, entry in memo.items() if entry["__type__"] == "Rule"]
    numbers = {at: number for number, at in enumerate(rules)}

    def move(reduces: int, target: Any) -> int:
        return ~numbers[target["@"]] if reduces else int(target)

    return {
        "terminals": _terminals([memo[at["@"]] for at in data["parser"]["lexer_conf"]["terminals"]]),
        "states": [
            {names[symbol]: move(*action) for symbol, action in state.items()}
            for _, state in sorted(table["states"].items())
        ],
        "start": table["start_states"],
        "end": table["end_states"],
        "rules": [_rule(memo[at]) for at in rules],
    }


def _terminals(terminals: list[Any]) -> list[tuple[str, str]]:
    """Names and patterns in the order to try them: expressions as in the grammar, then strings, longest first."""
    patterns = [(terminal["name"], terminal["pattern"]) for terminal in terminals]
    expressions = [(name, pattern["value"]) for name, pattern in patterns if pattern["__type__"] == "PatternRE"]
    strings = [(name, re.escape(pattern["value"])) for name, pattern in patterns if pattern["__type__"] == "PatternStr"]
    return expressions + sorted(strings, key=lambda terminal: -len(terminal[1]))


def _rule(rule: dict[str, Any]) -> Rule:
    """What lark's tree builder would do for a rule."""
    origin, options, expansion = rule["origin"]["name"], rule["options"], rule["expansion"]
    absent = options["empty_indices"] or [False] * len(expansion)
    picks: list[int | None] = []
    place = 0
    for is_absent in absent:
        if is_absent:
            picks.append(None)
            continue
        symbol = expansion[place]
        if symbol["__type__"] == "NonTerminal":
            picks.append(~place if symbol["name"].startswith("_") else place)
        elif not symbol["filter_out"]:
            picks.append(place)
        place += 1
    name = rule["alias"] or ("" if origin.startswith("_") else origin)
    return Rule(origin, len(expansion), name, picks, options["expand1"] and not rule["alias"])
