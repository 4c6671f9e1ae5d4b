"""Mistakes in names, bindings, pipes and values."""

from archlang.diagnostics import ArchError, Label, error
from archlang.lexer import CLOSERS, Token
from archlang.mistakes.mistake import ENDS, OPERATORS, STARTERS, VALUES, Mistake, quoted

BESIDE = OPERATORS | {"IF", "NOT"}
PLUS = Token("PLUS", "+", 0, 0)
PATTERN = 'a pattern is a string: `rearrange("h -> h p", p = 7)`'


def reserved_word(m: Mistake) -> ArchError | None:
    if m.token.kind == "EQUAL" and m.last.text.isidentifier() and m.last.kind != "NAME":
        word = m.last
    elif m.is_word and "NAME" in m.expected and (m.follows(r"[ \t]*=(?![=>])") or m.wants_name):
        word = m.token
    else:
        return None
    advice = f"`{word.text}_` is free, for instance"
    return error("A011", f"`{word.text}` is a reserved word and cannot be a name", m.at(word), help=advice)


def missing_on_last_line(m: Mistake) -> ArchError | None:
    """`x =` and on the next line `y = 2`: the second `=` is where the parser stops."""
    if m.token.kind != "EQUAL" or m.last.kind != "NAME" or len(m.before) < 2 or m.inside != "LBRACE":
        return None
    left = m.before[-2]
    if "\n" not in m.source.text[left.end : m.last.start] or left.kind in ("_NEWLINE", "LBRACE"):
        return None
    return error("A010", f"a value is missing after `{left.text}`", m.at(left))


def equal_sign(m: Mistake) -> ArchError | None:
    if m.token.text == "==" and "EQUAL" in m.expected:
        return error("A013", "`==` compares: a name is bound with `=`", m.span, help=f"write `{m.last.text} = ...`")
    if m.token.kind != "EQUAL" or not m.has_value:
        return None
    if any(token.kind == "EQUAL" for token in m.statement) and m.inside == "LBRACE" and m.head.kind == "NAME":
        return error("A017", "a statement binds once", m.span, help="write `a = value` and `b = a` on two lines")
    advice = None if m.inside in ("", "LBRACE") else "an argument is `name = value`"
    return error("A012", "`=` binds a name: a comparison is `==`", m.span, help=advice)


def bad_target(m: Mistake) -> ArchError | None:
    changed = {"LSQB": r"[^\n]*\][ \t]*=(?!=)", "DOT": r"[ \t]*[\w.]+[ \t]*=(?!=)", "LPAR": r"[^\n]*\)[ \t]*=(?!=)"}
    if m.last is not m.head or m.last.kind != "NAME" or not m.follows(changed.get(m.token.kind, r"(?!)")):
        return None
    advice = "nothing is changed in place: bind the name to a new value"
    return error("A017", "only a name can stand on the left of `=`", m.span, help=advice)


def lone_expression(m: Mistake) -> ArchError | None:
    begun = m.head.kind == "NAME" and m.statement and all(token.kind in ("NAME", "COMMA") for token in m.statement)
    unbound = begun and m.last.kind == "NAME" and "EQUAL" in m.expected and m.inside == "LBRACE"
    starts = m.wants_statement and m.token.kind not in CLOSERS | {"_ARROW"} and (not m.is_word or m.begins_value)
    if not unbound and not starts:
        return None
    advice = "bind it, `x = ...`, or `return` it"
    if starts and m.token.kind in OPERATORS:
        advice = "a statement goes on after an operator: end the line before with it"
    return error("A016", "an expression alone does nothing", m.at(m.head) if unbound else m.span, help=advice)


def pipe(m: Mistake) -> ArchError | None:
    if m.token.kind == "_ARROW" and "_ARROW" not in m.expected:
        if not m.has_value:
            return error("A026", "`->` has no value on its left", m.span, help="a pipe is `value -> layer -> layer`")
        arm = "_GIVES" in m.expected and m.inside == "LBRACE" and m.head.kind in VALUES
        if arm and all(t.kind != "EQUAL" for t in m.statement):
            return error("A030", "`->` cannot stand here", m.span, help="an arm of `match` is `pattern => value`")
        return beside(m, BESIDE, "operator", "a pipe")
    if m.token.kind in OPERATORS | {"IF"} and m.has_value and "_ARROW" in m.expected:
        return beside(m, frozenset(("_ARROW", "AS")), "pipe", "an operator")
    if m.token.kind == "AS" and m.has_value and m.last.kind != "RBRACE" and m.before[-2].kind != "AS":
        return beside(m, BESIDE, "operator", "`as`")
    return None


def beside(m: Mistake, others: frozenset[str], other: str, what: str) -> ArchError:
    """An operator and a pipe side by side can be read two ways."""
    found = next((t for t in reversed(m.statement) if t.kind in others and (t is not m.head or t.kind == "NOT")), None)
    labels = [Label(m.span), *([Label(m.at(found), f"the {other}")] if found else [])]
    operator = (found if other == "operator" else m.token) or PLUS
    return error("A014", f"{what} needs parentheses here", *labels, help=readings(operator, what, is_sign(m, operator)))


def is_sign(m: Mistake, operator: Token) -> bool:
    """Whether it has no value on its left: `-a`, `not a`."""
    at = m.before.index(operator) if operator in m.before else -1
    return at == 0 or (at > 0 and m.before[at - 1].kind not in ENDS)


def readings(operator: Token, what: str, sign: bool) -> str:
    """How an operator and what stands beside it are read with parentheses."""
    if what == "an operator":
        rest = "if p else b" if operator.kind == "IF" else f"{operator.text} b"
        return f"say what flows: `(a -> f) {rest}`"
    f = "f as name" if what == "`as`" else "f"
    left = (
        f"{operator.text} ".replace("- ", "-")
        if sign
        else "a if p else "
        if operator.kind == "IF"
        else f"a {operator.text} "
    )
    return f"say what flows: `({left}b) -> {f}` or `{left}(b -> {f})`"


def bad_label(m: Mistake) -> ArchError | None:
    before = m.before[-2].kind if len(m.before) > 1 else ""
    if m.last.kind == "AS":
        return error("A018", "a name follows `as`", m.span, help="a bare word: `linear(64) as head`")
    if before == "AS" and m.token.kind == "LSQB":
        advice = "index the value: `(x -> f as name)[n = 0]`; a loop has `as name[i]`"
        return error("A018", "the name of a layer has no index", m.span, help=advice)
    if m.head.kind in ("REPEAT", "FOR") and m.last.kind == "LSQB" and m.expected == {"NAME"}:
        return error("A018", "the index of a loop is a name", m.span, help="`repeat 4 as blocks[i]`")
    if m.token.kind == "AS" and m.wants_statement:
        return error("A018", "`as` stands on the line of the layer that it names", m.span)
    if before == "AS" and m.token.kind == "AS":
        return error("A018", "a layer has one name", m.span)
    return None


def tuple_(m: Mistake) -> ArchError | None:
    if m.token.kind != "COMMA" or m.inside != "LPAR" or not m.has_value:
        return None
    advice = "write a list, `[a, b]`, or bind several names, `a, b = c, d`"
    return error("A015", "there are no tuples", m.span, help=advice)


def chain(m: Mistake) -> ArchError | None:
    compared = [token for token in m.statement if token.kind in ("COMPARE", "IN")]
    if m.token.kind not in ("COMPARE", "IN") or not m.has_value or not compared:
        return None
    labels = Label(m.span), Label(m.at(compared[-1]), "the first comparison")
    return error("A022", "comparisons do not chain", *labels, help="write `a < b and b < c`")


def missing_value(m: Mistake) -> ArchError | None:
    if not m.wants_value:
        return None
    if m.last.kind == "_NEWLINE":
        return error("A010", f"a value is missing before {m.text}", m.span)
    place = m.at(m.last) if m.on_new_line or m.token.kind in ("_NEWLINE", "$END") else m.span
    advice = "an axis map is `[h = 1, w = 7]`" if m.token.kind == "LBRACE" and m.last.kind == "EQUAL" else None
    return error("A010", f"a value is missing after {quoted(m.last.text)}", place, help=advice)


def missing_comma(m: Mistake) -> ArchError | None:
    if not m.has_value or not (m.begins_value or m.token.kind in STARTERS | {"FOR", "IF"}):
        return None
    if m.inside in ("", "LBRACE") and (m.token.kind in STARTERS or m.follows(r"[ \t]*=(?!=)")):
        return error("A029", "two statements on one line", m.span, help="a line break ends a statement")
    opener = m.before.index(m.opened[-1]) if m.opened else 0
    patterned = opener and m.before[opener - 1].text == "rearrange"
    title = f"a comma or an operator is missing between {quoted(m.last.text)} and {m.text}"
    quote = m.last.kind == "STRING" and m.last.end == m.token.start
    advice = PATTERN if patterned else 'inside of a string a quote is `\\"`' if quote else None
    return error("A021", title, m.span, help=advice)
