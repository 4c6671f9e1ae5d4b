"""Hypothesis strategies for programs: text of the grammar, with comments and line breaks where they may stand."""

from functools import cache

from hypothesis import strategies as st

Text = st.SearchStrategy[str]

names = st.sampled_from(["x", "y", "c", "heads", "layer_norm", "_", "a1"])
numbers = st.sampled_from(["0", "1", "64", "1_000", "0.5", "1e-5", "31M", "128Ki", "64MiB", "2.5k"])
strings = st.text(st.sampled_from('ab {"\\\n\t%é'), max_size=6).map(
    lambda text: '"' + "".join({'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}.get(c, c) for c in text) + '"'
)
documents = st.sampled_from(["", '"""One line."""', '"""First\n  second\n    third\n"""', '"""\n  a "b"\n\n  c\n  """'])
comments = st.sampled_from(["# why", "#", "# {[(", '# """'])
blanks = st.sampled_from(["", " ", "\t"])
ends = st.one_of(st.just("\n"), st.just("\n\n\n"), comments.map(lambda text: f"  {text}\n"))
gaps = st.one_of(blanks, blanks, st.just("\n  "), comments.map(lambda text: f" {text}\n "))  # inside brackets
arrows = st.one_of(st.just(" -> "), st.just("\n    -> "), comments.map(lambda text: f"  {text}\n  -> "))
operators = st.sampled_from(
    ["or", "and", "in", "==", "!=", "<=", ">=", "<", ">", "~", "|", "&", "+", "-", "*", "/", "//", "%", "**"]
)


def form(template: str, *parts: Text) -> Text:
    """The template with each `{}` replaced by a part."""
    return st.tuples(*parts).map(lambda texts: template.format(*texts))


def joined(parts: Text, separator: str | Text = ", ", least: int = 1, most: int = 3) -> Text:
    """Some parts with separators between."""
    between = st.just(separator) if isinstance(separator, str) else separator
    pairs = st.lists(st.tuples(between, parts), min_size=least, max_size=most)
    return pairs.map(lambda found: "".join((gap if i else "") + part for i, (gap, part) in enumerate(found)))


def listed(opening: str, parts: Text, closing: str, least: int = 0) -> Text:
    """Parts between brackets, with line breaks and comments among them."""
    items = joined(form("{}{}", gaps, parts), ",", least)
    tails = st.sampled_from(["", ","]) if least else st.just("")
    return form(opening.replace("{", "{{") + "{}{}{}" + closing.replace("}", "}}"), items, tails, gaps)


def optional(parts: Text) -> Text:
    return st.one_of(st.just(""), parts)


# ---- expressions
simple = st.one_of(names, numbers, strings, st.sampled_from(["true", "false", "none"]))


@cache
def expressions(depth: int = 2) -> Text:
    """A pipe, a named layer or a value."""
    if depth <= 0:
        return simple
    atom = atoms(depth)
    stage = st.one_of(atom, form("{} as {}", atom, names))
    return st.one_of(simple, ternaries(depth), stage, joined(stage, arrows, least=2))


@cache
def ternaries(depth: int = 2) -> Text:
    """A value that is not a pipe."""
    if depth <= 0:
        return simple
    inner = st.deferred(lambda: expressions(depth - 1))
    operand = st.one_of(atoms(depth), form("({})", inner), form("-{}", atoms(depth)))
    binary = form("({} {} {})", operand, operators, operand)
    chain = joined(operand, st.sampled_from([" + ", " - ", " * ", " ** ", " and ", " or ", " +\n"]))
    choice = form("{} if {} else {}", operand, operand, operand)
    return st.one_of(operand, binary, chain, choice, form("not {}", operand))


@cache
def atoms(depth: int) -> Text:
    """What can be called, indexed and piped without parentheses."""
    if depth <= 0:
        return names
    inner = st.deferred(lambda: expressions(depth - 1))
    value = st.deferred(lambda: ternaries(depth - 1))
    argument = st.one_of(inner, form("{} = {}", names, inner))
    cut = st.one_of(value, form("{}:{}", optional(value), optional(value)), form("::{}", value))
    subscript = st.one_of(cut, form("{} = {}", names, cut))
    arms = joined(form("{} => {}", value, inner), st.sampled_from([", ", "\n", "  # arm\n"]))
    return st.one_of(
        names,
        numbers,
        form("{}{}", names, listed("(", argument, ")")),
        form("{}{}", names, listed("[", subscript, "]", least=1)),
        form("{}.{}", names, names),
        listed("[", argument, "]"),
        form("[{} for {} in {}]", inner, patterns, value),
        form("match {} {{ {} }}", value, arms),
        form("({}{})", gaps, inner),
    )


# ---- types and signatures
patterns = joined(st.one_of(names, form("({})", joined(names))))
axes = st.one_of(
    names, form("{} = {}", names, ternaries(1)), form("{}: {}", names, names), st.sampled_from(["..", "..m"])
)
types = form("{}{}{}", optional(names), listed("[", axes, "]", least=1), st.sampled_from(["", "?"]))
ports = form("{}: {}", names, types)
kinds = st.sampled_from([": int", ": float?", ": list[list[int]]", ""])
hypers = form("{}{}{}", names, kinds, optional(form(" = {}", expressions(1))))
results = optional(st.one_of(form(" -> {}", types), form("\n  -> {}", listed("(", ports, ")", least=1))))


# ---- statements
begins = st.one_of(blanks, ends)
documented = st.one_of(begins, documents.map(lambda text: f"\n  {text}\n"))


def bodies(statement: Text, first: Text = begins) -> Text:
    """Statements in braces, one on each line."""
    rest = st.lists(st.tuples(ends, statement), max_size=2).map(lambda found: "".join(map("".join, found)))
    return form("{{{}{}{}{}}}", first, statement, rest, ends)


@cache
def statements(depth: int = 1) -> Text:
    """A statement that any body may hold."""
    value = st.deferred(lambda: expressions(depth + 1))
    condition = ternaries(1)
    labels = optional(st.one_of(form(" as {}", names), form(" as {}[{}]", names, names)))
    plain = st.one_of(
        form("{} = {}", joined(names), joined(value)),
        form("return {}", joined(value)),
        form("require {}{}", condition, optional(form(", {}", strings))),
        form("param {} = {}", ports, value),
        form("loss {} = {}", names, value),
    )
    if depth <= 0:
        return plain
    body = bodies(st.deferred(lambda: statements(depth - 1)))
    return st.one_of(
        plain,
        form("repeat {}{} {}", condition, labels, body),
        form("for {} in {}{} {}", patterns, condition, labels, body),
        form("if {} {}", condition, body),
        form("if {} {} else if {} {}\n  else {}", condition, body, condition, body, body),
        form("y = scan t carry {} = 0 {}", ports, body),
    )


# ---- files
values = form("{} = {}", names, expressions(1))
facts = form("{} ~ {}{}{}", atoms(1), atoms(1), optional(st.just(" for tiny")), optional(form(" at {}", values)))
entries = form("{} = {}", atoms(1), ternaries(1))
of_models = st.one_of(
    statements(),
    form("input {}", ports),
    form("output {}: {} = {}", names, types, expressions(1)),
    form("exit {} = {} when {}", names, expressions(1), ternaries(1)),
    form("variant {}{} {{ {} }}", names, optional(st.just(" of tiny")), joined(values, ", ", least=0)),
    form("variant {} {}", names, bodies(values)),
    form("expect {}", joined(facts, st.sampled_from([", ", ",\n  ", ",  # paper\n"]))),
    form("checkpoint {} {}", names, bodies(entries)),
)
heads = form("{}{}{}{}", names, listed("(", hypers, ")"), listed("(", ports, ")"), results)


items = st.one_of(
    form("use std.{}: {}", names, joined(names, ",\n")),
    form('use "./x.arch": {}', joined(names)),
    form('foreign {} from python "m:f" {}{}', names, listed("(", ports, ")"), results),
    form("block {} = {}", heads, expressions(2)),
    form("block {} {}", heads, bodies(statements(), documented)),
    form("model {}{} {}", names, optional(listed("(", hypers, ")")), bodies(of_models, documented)),
)
files = form(
    "{}{}{}{}", optional(ends), documents.map(lambda text: text and text + "\n"), joined(items, ends), optional(ends)
)
