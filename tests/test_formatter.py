"""The canonical text: same meaning, same comments, at most 120 columns, and formatting it again changes nothing."""

from pathlib import Path

import pytest
from hypothesis import given, settings

from archlang import formatter
from archlang.diagnostics import ArchError
from archlang.formatter import WIDTH, format, same
from archlang.parser import deep_recursion, parse, tokens
from archlang.source import Source
from archlang.testing.syntax import files

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted([*(ROOT / "examples").rglob("*.arch"), *(ROOT / "stdlib").rglob("*.arch")])
CASES = sorted((Path(__file__).parent / "layouts").glob("*.txt"))


def formatted(text: str) -> str:
    return format(Source("test.arch", text))


def in_body(text: str) -> str:
    """The lines of a body in canonical form, without their indentation."""
    first, *lines, last = formatted(f"block z()(x: [b, c]) {{\n{text}\n}}\n").splitlines()
    assert (first, last) == ("block z()(x: [b, c]) {", "}")
    assert all(line[:2] in ("  ", "") for line in lines)
    return "\n".join(line[2:] for line in lines)


def check(text: str) -> None:
    """The promises of the formatter, for one program."""
    once = formatted(text)
    assert formatted(once) == once
    with deep_recursion():
        assert same(parse(Source("test.arch", once)), parse(Source("test.arch", text)))
    comments = [
        sorted(token.text.rstrip() for token in tokens(Source("", t)) if token.kind == "_COMMENT") for t in (text, once)
    ]
    assert comments[0] == comments[1]
    assert all(line == line.rstrip() and "\t" not in line.split('"')[0] for line in once.splitlines())


@given(files)
def test_generated_programs(text: str) -> None:
    check(text)


@pytest.mark.slow
@given(files)
@settings(max_examples=5000)
def test_many_generated_programs(text: str) -> None:
    check(text)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_our_own_programs_are_canonical(path: Path) -> None:
    text = path.read_text("utf-8")
    check(text)
    assert formatted(text) == text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_layout(case: Path, request: pytest.FixtureRequest) -> None:
    """A case is a text, then `--- formatted`, then its canonical form; `--update-golden` writes the latter."""
    before, mark, expected = case.read_text("utf-8").partition("--- formatted\n")
    found = formatted(before)
    if request.config.getoption("--update-golden"):
        case.write_text(before + mark + found, "utf-8")
        expected = found
    assert found == expected
    check(before)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y=a+b  *c", "y = a + b * c"),
        ("y = (a) + (f(x))", "y = a + f(x)"),
        ("y = (a * b) + c", "y = (a * b) + c"),
        ("y = (a + b)", "y = a + b"),
        ("y = -(a + b) ** (c)", "y = -(a + b) ** c"),
        ("y = not(a)", "y = not a"),
        ("y = (5).c", "y = (5).c"),
        ("y = f( a ,b=1, )", "y = f(a, b = 1)"),
        ("y = x [ 1 : ] [n=0 : : 2]", "y = x[1:][n = 0::2]"),
        ("y = x->f as g->(h->k)", "y = x -> f as g -> (h -> k)"),
        ('y = "a\\"\\\\	\\n"', 'y = "a\\"\\\\\\t\\n"'),
        ("y = match a{1=>b,2=>c}", "y = match a { 1 => b, 2 => c }"),
        ("y = match a {\n1=>b, 2=>c}", "y = match a {\n  1 => b\n  2 => c\n}"),
        ("if a{y=1}else{y=2}", "if a { y = 1 } else { y = 2 }"),
        ("if a {\ny = 1 }\nelse if b {y = 2}", "if a {\n  y = 1\n} else if b {\n  y = 2\n}"),
        ("if a { y = 1 } else {\n  if b { y = 2 } }", "if a {\n  y = 1\n} else {\n  if b { y = 2 }\n}"),
        ("repeat 3 as a [i] {y = 1}", "repeat 3 as a[i] { y = 1 }"),
        ("for (a,b) , c in x {\n\n y = 1\n\n\n\n z = 2\n\n}", "for (a, b), c in x {\n  y = 1\n\n  z = 2\n}"),
        ("y = x  # why", "y = x  # why"),
        ("y = x # a\nlonger = y # b", "y = x       # a\nlonger = y  # b"),
        ("y = f(a, # one\n b)", "y = f(\n  a,  # one\n  b,\n)"),
        ("y = a + # hidden\n b", "# hidden\ny = a + b"),
        ("y = x # one\n # two\n -> f # three", "y = x  # one\n  # two\n  -> f  # three"),
    ],
)
def test_statements(text: str, expected: str) -> None:
    assert in_body(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("\n\n# only\n\n\n# comments", "# only\n\n# comments\n"),
        ('"""  A file.  """\n\n\nuse   a : b', '"""A file."""\n\nuse a: b\n'),
        ('"""A\n     b\n       c"""', '"""A\nb\n  c"""\n'),
        ('"""\n\n  A\n    b\n"""', '"""\nA\n  b\n"""\n'),
        ('"""ends in "quotes\n"\n"""', '"""ends in "quotes\n" """\n'),
        ("block f ( ) (x:[b]) = x", "block f()(x: [b]) = x\n"),
        ("model m ( ) {input x:int[b,s:time=3,..r]?}", "model m { input x: int[b, s: time = 3, ..r]? }\n"),
        ("\ufeffuse a: b\r\n", "use a: b\n"),
    ],
)
def test_files(text: str, expected: str) -> None:
    from archlang.lexer import read

    assert format(read(text.encode())) == expected


def test_long_lines_break_before_arrows_and_in_lists() -> None:
    text = in_body("x = x -> " + " -> ".join(f"convolution_{i}(channels = {i})" for i in range(6)))
    assert [line.index("->") for line in text.splitlines()] == [6, 6]
    assert max(map(len, text.splitlines())) <= WIDTH - 2
    first, second = in_body("y = f(" + ", ".join(f"argument_{i} = {i}" for i in range(9)) + ")").splitlines()
    assert second.index("argument") == first.index("argument")


def test_the_users_breaks_between_stages_stay_where_the_pipe_is_long() -> None:
    long = "x = x -> " + "a" * 60 + "\n      -> " + "b" * 60 + " -> c"
    assert in_body(long) == long
    assert in_body("x = x -> a\n  -> b") == "x = x -> a -> b"


@pytest.mark.parametrize(
    ("before", "middle", "after"),
    [
        ("f(a = ", "x", ")"),
        ("x -> (f -> ", "x", ")"),
        ("match a { 1 => ", "x", " }"),
        ("scan t carry S: [b] = 0 { y = ", "x", " }"),
        ("a if b else ", "x", ""),
        ("a + ", "x", ""),
        ("-", "x", ""),
    ],
)
def test_the_deepest_programs(before: str, middle: str, after: str) -> None:
    check(f"block f()(x: [b]) {{ y = {before * 95}{middle}{after * 95} }}")


def test_mistakes_are_reported() -> None:
    with pytest.raises(ArchError, match="A015"):
        formatted("block f()(x: [b]) = (x, x)")


def test_a_formatter_that_changes_the_meaning_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formatter, "lay_out", lambda doc, width: "use a: c")
    with pytest.raises(ArchError, match="A031"):
        formatted("use a: b")


def test_a_formatter_that_drops_a_comment_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formatter, "lay_out", lambda doc, width: "use a: b")
    with pytest.raises(ArchError, match="A031"):
        formatted("use a: b  # why")
