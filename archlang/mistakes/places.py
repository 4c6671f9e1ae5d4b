"""Brackets that do not match, and lines that belong elsewhere."""

from archlang.diagnostics import ArchError, Label, error
from archlang.lexer import CLOSERS, OPENERS, SIGNS
from archlang.mistakes.mistake import ITEMS, OF_A_MODEL, STARTERS, Mistake


def unbalanced(m: Mistake) -> ArchError | None:
    kind = m.token.kind
    if kind in CLOSERS and (not m.opened or (m.inside == "LBRACE" and kind != "RBRACE")):
        return error("A009", f"{m.text} closes nothing", m.span, help="remove it, or open it before")
    if kind in CLOSERS and kind != OPENERS[m.inside] and kind != "RBRACE":
        labels = Label(m.span, f"closed by {m.text}"), Label(m.at(m.opened[-1]), "opened here")
        return error("A008", f"`{SIGNS[m.inside]}` is closed by {m.text}", *labels)
    if m.opened and (kind == "$END" or kind == "RBRACE" != OPENERS[m.inside] or begins_elsewhere(m)):
        here = Label(m.span, "still open here") if kind != "$END" else None
        return error("A008", f"`{SIGNS[m.inside]}` is never closed", Label(m.at(m.opened[-1]), "opened here"), here)
    return None


def begins_elsewhere(m: Mistake) -> bool:
    """Whether the token begins an item of the file, or a statement while ( or [ is open."""
    if not m.on_new_line:
        return False
    if m.token.kind in ITEMS:
        return m.span.position[1] == 1
    line = m.source.line(m.at(m.opened[-1]).position[0])
    indented = m.span.position[1] > len(line) - len(line.lstrip()) + 1
    begins = m.token.kind in STARTERS or (m.token.kind == "NAME" and m.follows(r"[ \t]*=(?!=)"))
    return m.inside != "LBRACE" and begins and not indented


def misplaced(m: Mistake) -> ArchError | None:
    if not m.opened and m.expected & ITEMS and m.token.kind != "_NEWLINE":
        title = "only `use`, `foreign`, `block` and `model` stand at the top of a file"
        return error("A020", title, m.span, help="statements stand in the body of a block or model")
    if m.wants_statement and m.token.kind in ITEMS:
        return error("A020", f"a {m.text} stands at the top of the file, not in a body", m.span)
    if m.wants_statement and m.token.kind in OF_A_MODEL:
        advice = "move it out of the block, loop or branch"
        return error("A020", f"{m.text} stands in the body of a model itself", m.span, help=advice)
    if m.token.kind == "ELSE" and m.last.kind in ("RBRACE", "LBRACE", "_NEWLINE"):
        return error("A020", "this `else` has no `if`", m.span)
    return None


def docstring(m: Mistake) -> ArchError | None:
    if m.token.kind != "DOC":
        return None
    advice = "elsewhere write a comment: `# ...`"
    return error("A027", "a docstring stands first, in a file or a body", m.span, help=advice)


def bad_use(m: Mistake) -> ArchError | None:
    if m.head.kind != "USE" or m.is_word:
        return None
    advice = 'write `use std.conv: conv_stem, mbconv` or `use "./file.arch": name`'
    return error("A028", "`use` names a module and what it takes from it", m.span, help=advice)


def body(m: Mistake) -> ArchError | None:
    kind, last = m.token.kind, m.last.kind
    if kind == "RBRACE" and last in ("LBRACE", "DOC") and (m.wants_statement or m.wants_value):
        return error("A019", "this body is empty", m.at(m.opened[-1]).to(m.span))
    if "LBRACE" not in m.expected or kind not in ("_NEWLINE", "$END", "RBRACE"):
        return None
    if kind == "_NEWLINE" and m.follows(r"\{"):
        return error("A019", "`{` stands at the end of the line that it belongs to", m.span)
    return error("A019", "a body is missing", m.at(m.last), help="`{ ... }`, or for a block `= expression`")


def lists(m: Mistake) -> ArchError | None:
    """The two lists of a block, and types in them."""
    if m.expected == {"LPAR"}:
        advice = "`block name(hyper-parameters)(inputs)`: either may be empty, `()`"
        return error("A025", "a block has two lists", Label(m.span, "a list is missing here"), help=advice)
    in_kind = m.head.kind in ("BLOCK", "MODEL") and m.expected <= {"NAME", "RSQB", "LSQB", "OPTIONAL"}
    if not in_kind or m.token.kind not in ("LSQB", "COMMA"):
        return None
    advice = "tensors stand in the second list of a block, `block name()(x: [b, c])`, or after `input`"
    return error("A025", "a tensor is not a hyper-parameter", m.span, help=advice)


def tensor_type(m: Mistake) -> ArchError | None:
    advice = "a type is `[b, n, c]`, `[b, c = 3]`, `int[b, t]` or `[.., c]`"
    if m.expected == {"COLON"}:
        return error("A024", f"`{m.last.text}` needs a type", m.at(m.last), help=advice)
    if m.expected == {"LSQB"} or m.expected == {"LSQB", "NAME"}:
        return error("A024", "a type names the axes of a tensor", m.span, help=advice)
    in_axes = m.inside == "LSQB" and m.expected <= {"COMMA", "RSQB", "COLON", "EQUAL"}
    if "_REST" in m.expected or m.last.kind == "_REST" or in_axes:
        return error("A024", f"{m.text} cannot stand in a tensor type", m.span, help=advice)
    return None
