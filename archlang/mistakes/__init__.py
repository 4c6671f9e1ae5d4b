"""What to say about a syntax error: a table of the mistakes that people make, tried in order."""

from collections.abc import Callable, Sequence

from archlang.diagnostics import ArchError, Label, error
from archlang.lexer import SIGNS
from archlang.mistakes import expressions, habits, places
from archlang.mistakes.mistake import Mistake
from archlang.mistakes.recovery import without_statement

__all__ = ["Mistake", "explain", "without_statement"]

READABLE = {
    "NAME": "a name", "NUMBER": "a number", "STRING": "a string", "DOC": "a docstring", "_NEWLINE": "a line break",
    "$END": "the end of the file", "COMPARE": "a comparison", "_ARROW": "`->`", "_GIVES": "`=>`", "_REST": "`..`",
    "COMMA": "`,`", "COLON": "`:`", "DOT": "`.`", "EQUAL": "`=`", "OPTIONAL": "`?`",
    **{kind: f"`{sign}`" for kind, sign in SIGNS.items()},
}  # fmt: skip


def explain(mistake: Mistake) -> ArchError:
    """The words for a mistake: those of the first rule that knows it."""
    return next(filter(None, (rule(mistake) for rule in RULES)))


def unexpected(m: Mistake) -> ArchError | None:
    wanted = sorted(READABLE.get(kind, f"`{kind.lower()}`") for kind in m.expected)
    expected = "expected " + " or ".join(wanted) if len(wanted) <= 4 else ""
    advice = "a scan is `scan t carry S: [b, c] = 0 { ... }`" if "CARRY" in m.expected else None
    return error("A030", f"{m.text} cannot stand here", Label(m.span, expected), help=advice)


RULES: Sequence[Callable[[Mistake], ArchError | None]] = (
    habits.bad_character,
    habits.leading_point,
    places.unbalanced,
    places.docstring,
    expressions.reserved_word,
    habits.habit,
    habits.other_language,
    places.misplaced,
    places.bad_use,
    expressions.missing_on_last_line,
    places.lists,
    places.tensor_type,
    expressions.equal_sign,
    expressions.bad_target,
    expressions.lone_expression,
    expressions.pipe,
    expressions.bad_label,
    expressions.tuple_,
    places.body,
    expressions.chain,
    expressions.missing_value,
    expressions.missing_comma,
    unexpected,
)
