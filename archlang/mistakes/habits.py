"""Mistakes in characters, and the habits of other languages."""

import re

from archlang.diagnostics import ArchError, error
from archlang.mistakes.mistake import OPERATORS, Mistake, quoted
from archlang.source import Span

HABITS = {
    "def": "a block is `block name(hyper-parameters)(inputs) { ... }`",
    "fn": "a block is `block name(hyper-parameters)(inputs) { ... }`",
    "class": "a network is `model name(hyper-parameters) { ... }`",
    "import": 'write `use std.conv: conv_stem` or `use "./file.arch": name`',
    "from": 'write `use std.conv: conv_stem` or `use "./file.arch": name`',
    "let": "write `name = value`",
    "var": "write `name = value`",
    "const": "write `name = value`",
    "elif": "write `else if`",
    "while": "the language is total: `repeat N { ... }` or `for x in list { ... }`",
    "assert": 'write `require condition, "message"`',
    "pass": "a body holds at least one statement",
    "print": "`archlang show` prints the typed tree",
    "lambda": "compose layers with `->`, or write a block",
}
SYMBOLS = {
    "'": "strings are written with double quotes",
    ";": "a line break ends a statement",
    "!": "negation is `not`, the opposite of `==` is `!=`",
    "@": "write `dot(a, b, on = axis)`, or `linear` for a layer",
    "^": "a power is `a ** b`",
    "“": "strings are written with straight double quotes",
    "”": "strings are written with straight double quotes",
    "→": "write `->`",
    "×": "write `*`",
    "−": "write `-`",
    "\\": "a line goes on inside brackets, after an operator and before `->`",
    "\N{NO-BREAK SPACE}": "write an ordinary space",
}
RANGE = "numbers that follow one another are `range(stop)` or `range(start, stop)`"
ESCAPES = 'the escapes are `\\n`, `\\t`, `\\"` and `\\\\`'


def bad_character(m: Mistake) -> ArchError | None:
    if m.token.kind != "BAD":
        return None
    char, start = m.token.text, m.token.start
    if m.source.text.startswith('"""', start):
        return error(
            "A004", "this docstring is never closed", Span(m.source, start, start + 3), help='end it with `"""`'
        )
    if char == '"':
        return bad_string(m)
    if char.isdecimal() and char.isascii():
        return bad_number(m)
    if char.isalpha() and char not in SYMBOLS:
        return error("A002", f"no name has the letter `{char}`", m.span, help="names are of a-z, A-Z, 0-9 and _")
    shown = f"`{char}`" if char.isprintable() else f"U+{ord(char):04X}"
    return error("A002", f"the character {shown} has no meaning here", m.span, help=SYMBOLS.get(char))


def bad_string(m: Mistake) -> ArchError:
    start = m.token.start
    match = re.compile(r'"(?:[^"\\\r\n]|\\["\\nt])*').match(m.source.text, start)
    end = match.end() if match else start
    if re.compile(r"\\[^\r\n]").match(m.source.text, end):
        place = Span(m.source, end, end + 2)
        return error("A005", f"`{place.text}` is no escape", place, help=ESCAPES)
    return error("A003", "this string is never closed", Span(m.source, start, end), help='end it with `"` on this line')


def bad_number(m: Mistake) -> ArchError:
    match = re.compile(r"[0-9](?:[\w.]|(?<=[eE])[+-])*").match(m.source.text, m.token.start)
    place = Span(m.source, m.token.start, match.end() if match else m.token.end)
    if ".." in place.text:
        return error("A023", "there is no `..` between numbers", place, help=RANGE)
    known = "numbers are written `12`, `1_000`, `0.5`, `1e-5`, `31M`, `128Ki`, `64MiB`"
    advice = "a digit follows the point" if place.text.endswith(".") else known
    return error("A006", f"{quoted(place.text)} is not a number", place, help=advice)


def leading_point(m: Mistake) -> ArchError | None:
    if m.token.kind != "DOT" or not m.wants_value or not m.follows("[0-9]"):
        return None
    return error("A006", "a number begins with a digit", m.span, help="write `0.5`, not `.5`")


def habit(m: Mistake) -> ArchError | None:
    word = m.token if m.head is m.token or m.token.text == "elif" else m.last
    if word.text not in HABITS or (word is m.last and word is not m.head and word.text != "lambda"):
        return None
    return error("A023", f"there is no `{word.text}`", m.at(word), help=HABITS[word.text])


def other_language(m: Mistake) -> ArchError | None:
    kind, after_value = m.token.kind, m.has_value
    if after_value and kind in OPERATORS and kind != "COMPARE" and m.follows("=(?!=)"):
        return error("A023", f"there is no `{m.token.text}=`", m.span, help=f"write `x = x {m.token.text} ...`")
    if kind in ("AND_SIGN", "OR_SIGN") and m.last.kind == kind:
        return error("A023", f"there is no `{m.token.text * 2}`", m.span, help="write `and`, `or`")
    if kind == "OPTIONAL" and after_value and "IF" in m.expected:
        return error("A023", "there is no `? :`", m.span, help="write `a if condition else b`")
    if kind == "NOT" and after_value and m.follows(r"\s+in\b"):
        return error("A023", "there is no `not in`", m.span, help="write `not (a in b)`")
    if kind == "_REST" and after_value:
        return error("A023", "there is no `..` between numbers", m.span, help=RANGE)
    if after_value and m.token.text == "is":
        return error("A023", "there is no `is`", m.span, help="write `==`")
    if kind == "COLON" and "EQUAL" in m.expected:
        return error("A023", "a value is not given with `:`", m.span, help="write `name = value`")
    if kind == "COLON" and ("LBRACE" in m.expected or m.last.kind == "ELSE"):
        return error("A023", "a body does not begin with `:`", m.span, help="it stands in braces: `{ ... }`")
    return None
