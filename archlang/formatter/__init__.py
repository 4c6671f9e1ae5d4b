"""Syntax to canonical text: two spaces a level, at most 120 columns, comments and single blank lines kept.

A form that fits on one line stands on one; a longer one breaks before `->`, after an operator and in its lists.
"""

from dataclasses import fields
from typing import Any

from archlang.diagnostics import error
from archlang.formatter.layout import lay_out
from archlang.formatter.statements import Statements
from archlang.parser import deep_recursion, parse, tokens
from archlang.source import Source, Span
from archlang.syntax import Syntax

WIDTH = 120


def format(source: Source) -> str:
    """The canonical text of a file; the same syntax and the same comments, or an error."""
    file = parse(source)
    with deep_recursion():
        text = lay_out(Statements(source).on_file(file), WIDTH).strip("\n")
        formatted = Source(source.name, text + "\n" if text else "")
        if same(parse(formatted), file) and _comments(formatted) == _comments(source):
            return formatted.text
    title = f"the formatter would change the meaning of {source.name}"
    raise error("A031", title, help="this is a bug in archlang; the file was left as it is")


def _comments(source: Source) -> list[str]:
    return sorted(token.text.rstrip() for token in tokens(source) if token.kind == "_COMMENT")


def same(one: Any, other: Any) -> bool:
    """Whether two pieces of syntax are equal but for where they stand."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if not isinstance(one, Syntax):
        return bool(one == other)
    names = [field.name for field in fields(one) if field.type != "Span" and field.type is not Span]
    return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in names)
