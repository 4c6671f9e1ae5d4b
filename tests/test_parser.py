"""Text to syntax: what is accepted, how it nests, where it stands, and that nothing breaks the parser."""

import gc
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang import parser, resources, syntax
from archlang.diagnostics import ArchError, render
from archlang.formatter import same
from archlang.lexer import MAX_BYTES, read
from archlang.parser import parse, parse_expression
from archlang.source import Source
from archlang.syntax import Expr, Syntax
from archlang.testing.syntax import files

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted([*(ROOT / "examples").rglob("*.arch"), *(ROOT / "stdlib").rglob("*.arch")])
SAMPLE = '''"""A network with every form of the language."""
use std.conv: conv_stem, mbconv
use "./parts.arch": stem

foreign erode from python "kernels:erode" (x: [b, n, c]) -> [b, n, c]

block both(width: int = 4 * c, act: layer? = gelu, plan: list[list[int]] = [[1, 2], [3]])(
    x: [b, h, w, c], y: float32[.., c = d]?, when_: bool[b, s: time]) -> (left: [b, c], right: [..rest, c = 3]) {
  """Does both."""
  require h % 2 == 0 and w % 2 == 0, "even"
  param gamma: [c] = ones * 1e-6
  buffer table: int[n = 4]
  a, b_ = split(x, 2, on = c)
  for i, (p, q) in enumerate(zip(plan, plan)) as stages[s] {
    repeat depth as blocks { x = x -> f(1) as g -> (h -> k)[n = 0::2, 1:] }
    if i == 0 { y = x } else if not (i in [1, 2]) { y = -x ** 2 } else { y = 0 if i > 1 else 1 }
  }
  o = scan along(n, reverse = true) carry S: [b, c] = 0, T: [b] = 1 {
    S = a.weight * S + y[n = index]
    yield S, T
  }
  loss balance = sum([2 ** i for i in range(4)])
  return o, match i % 8 { 4 => attention(16), _ => none }
}

model net(dims = [1, 2], depth: int = 3) {
  input image: [b, c = 3, h, w]
  exit early: [b, c] = image -> head when confident(image)
  output logits: [b, c = classes] = image -> conv(dims[0]) as stem
  variant tiny { }
  variant base of tiny { dims = [2, 4], depth = 5 }
  expect params ~ 31M for tiny, macs <= 2GiB at [t = 128Ki, b = 1], causal(t)
  checkpoint timm {
    stages[s].blocks[i].mlp = "stages.{s}.blocks.{i}.mlp"
    none = "head.*"
  }
}
'''.replace("2GiB", "2G")


def nodes(tree: Any) -> Iterator[Syntax]:
    if isinstance(tree, tuple):
        for item in tree:
            yield from nodes(item)
    elif isinstance(tree, Syntax):
        yield tree
        for field in fields(tree):
            yield from nodes(getattr(tree, field.name))


def shape(node: Any) -> str:  # noqa: C901
    """An expression with all of its parentheses."""
    match node:
        case syntax.Binary():
            return f"({shape(node.left)} {node.op} {shape(node.right)})"
        case syntax.Unary():
            return f"({node.op} {shape(node.operand)})"
        case syntax.IfElse():
            return f"({shape(node.then)} if {shape(node.condition)} else {shape(node.otherwise)})"
        case syntax.Pipe():
            return f"({' -> '.join(map(shape, node.stages))})"
        case syntax.Named():
            return f"({shape(node.value)} as {node.label})"
        case syntax.Call():
            return f"{shape(node.function)}({', '.join(map(shape, node.arguments))})"
        case syntax.Index():
            return f"{shape(node.value)}[{', '.join(map(shape, node.subscripts))}]"
        case syntax.Argument() | syntax.Subscript():
            name = node.name if isinstance(node, syntax.Argument) else node.axis
            return (f"{name} = " if name else "") + shape(node.value)
        case syntax.Slice():
            return ":".join(shape(part) if part else "" for part in (node.start, node.stop, node.step))
        case syntax.Attribute():
            return f"{shape(node.value)}.{node.name}"
        case syntax.List():
            return f"[{', '.join(map(shape, node.items))}]"
        case syntax.Name():
            return node.id
        case syntax.Number():
            return node.text
    return type(node).__name__


def body(text: str) -> str:
    return f"block z()(x: [b, c]) {{\n{text}\n}}\n"


def value(text: str) -> Expr:
    return parse_expression(Source("test.arch", text))


def codes(text: str) -> list[str]:
    try:
        parse(Source("test.arch", text))
    except ArchError as failure:
        return [diagnostic.code for diagnostic in failure.diagnostics if render(diagnostic)]
    return []


# ---- what is accepted
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_programs_parse(path: Path) -> None:
    assert parse(read(path)).items


def test_sample_has_every_form() -> None:
    forms = {name for name, form in vars(syntax).items() if isinstance(form, type) and issubclass(form, Syntax)}
    abstract = {"Syntax", "Expr", "Statement"}
    assert forms - {type(node).__name__ for node in nodes(parse(Source("sample.arch", SAMPLE)))} == abstract


@pytest.mark.parametrize(
    "text",
    [
        "y = x\n  # a comment between\n\n  -> f\n  -> g(1,\n       2)",
        "if a { y = 1 }\n  # why\nelse if b { y = 2 }\nelse { y = 3 }",
        "y = x -> residual(norm -> match i % 8 {\n  4 => attention(16)\n  _ => mixer(16)\n})",
        "y = a +\n  b * (c\n  - d)\r\nz = -y ** -2",
        "for a, (b, d) in enumerate(zip(p, q)) as s[i] { y = [h = 1, w = 7] }",
        "y = x[h = 0::2, w = 1::2][n = -1, c = :3]\nz = d[1:][:-1]",
        "y = [2 ** i for i in range(4)]\nz = a in [1, 2] and not b",
        "y = f(\n  a,  # first\n  b,\n)",
        "\n\n  y = 1\n\n\n  # end\n",
        "y = 1\t# tabs\tare spaces",
    ],
)
def test_accepted(text: str) -> None:
    parse(Source("test.arch", body(text)))


@pytest.mark.parametrize(
    "text",
    [
        "y = a * b -> f",
        "y = x -> linear(64) + pos",
        "y = x -> f if a else g",
        "y = a\n  - b",
        "x -> linear(3)",
        "y = [h, w]) + 1",
        "y = (a, b)",
        "y = not x -> f",
        "y = a < b < c",
        "y = [1, 2 for i in x]",
        "y = x[]",
        "input y: [b]",
        "y = 1 z = 2",
        "if a\n{ y = 1 }",
    ],
)
def test_refused(text: str) -> None:
    assert codes(body(text))


def test_reserved_words_are_no_names() -> None:
    words = parser._tables().lexer.words
    assert {"block", "at", "carry", "none", "param"} <= set(words)
    assert {word for word in words if codes(body(f"  {word} = 1")) != ["A011"]} == set()
    assert {word for word in words if codes(body(f"y = f({word} = 1)")) != ["A011"]} == set()


# ---- how it nests
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("-a ** -b ** c", "(- (a ** (- (b ** c))))"),
        ("a or b and not c == d", "(a or (b and (not (c == d))))"),
        ("a | b & c + d", "(a | (b & (c + d)))"),
        ("a % b // c", "((a % b) // c)"),
        ("a if b else c if d else e", "(a if b else (c if d else e))"),
        ("x -> f as g -> h(1)", "(x -> (f as g) -> h(1))"),
        ("x -> (f -> g)", "(x -> (f -> g))"),
        ("f(a, k = x -> g)[n = 0::2, :-1].w(b)", "f(a, k = (x -> g))[n = 0::2, :(- 1):].w(b)"),
        ("[h = 1, w]", "[h = 1, w]"),
        ("(a)", "a"),
        ("a in b == c", None),
    ],
)
def test_nesting(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ArchError, match="A022"):
            value(text)
    else:
        assert shape(value(text)) == expected


# ---- numbers and strings
@pytest.mark.parametrize(
    ("text", "number", "whole"),
    [
        ("1_000", 1000, True),
        ("1.50", Fraction(3, 2), False),
        ("1e3", 1000, False),
        ("25e-1", Fraction(5, 2), False),
        ("1k", 1000, True),
        ("2.5k", 2500, False),
        ("31M", 31 * 10**6, True),
        ("15B", 15 * 10**9, True),
        ("3G", 3 * 10**9, True),
        ("2T", 2 * 10**12, True),
        ("128Ki", 128 * 1024, True),
        ("64MiB", 64 * 2**20, True),
        ("1GiB", 2**30, True),
        ("1e308", Fraction(10) ** 308, False),
    ],
)
def test_numbers(text: str, number: Fraction, whole: bool) -> None:
    found = value(text)
    assert isinstance(found, syntax.Number)
    assert (found.value, found.text, found.whole) == (number, text, whole)


@pytest.mark.parametrize("text", ["1.", ".5", "1e", "12abc", "1.2.3", "0x1F", "1__0", "1kB", "5Mb", "1K", "1_"])
def test_malformed_numbers(text: str) -> None:
    assert codes(body(f"y = {text}")) == ["A006"]


@pytest.mark.parametrize(
    "text", ["1e309", "1e-309", "1e999999999", "9" * 101, "9" * 5000, "0." + "0" * 5000, "1e" + "1" * 5000]
)
def test_numbers_out_of_range(text: str) -> None:
    assert codes(body(f"y = {text}")) == ["A007"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"a\"b"', 'a"b'),
        (r'"\\n"', "\\n"),
        (r'"\n\t"', "\n\t"),
        ('""', ""),
        (r'"\\\\"', "\\\\"),
        ('"# {{ %}"', "# {{ %}"),
    ],
)
def test_strings(text: str, expected: str) -> None:
    found = value(text)
    assert isinstance(found, syntax.String)
    assert found.value == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"""One line."""', "One line."),
        ('"""First\n  second\n    third"""', "First\nsecond\n  third"),
        ('"""\n    a\n      b\n    """', "a\n  b"),
        ('"""a\r\n  b "q" c"""', 'a\nb "q" c'),
        ('""""""', ""),
    ],
)
def test_docstrings(text: str, expected: str) -> None:
    assert parse(Source("test.arch", text)).doc == expected


# ---- where it stands
def test_every_expression_stands_where_its_span_says() -> None:
    for node in nodes(parse(Source("sample.arch", SAMPLE))):
        assert node.span.text == node.span.text.strip()
        if isinstance(node, Expr):
            assert same(value(f"({node.span.text})"), node), node.span.text


@given(files)
def test_spans_of_generated_programs(text: str) -> None:
    for node in nodes(parse(Source("test.arch", text))):
        assert node.span.text == node.span.text.strip()
        if isinstance(node, Expr):
            assert same(value(f"({node.span.text}\n)"), node), node.span.text


def test_positions_with_a_mark_and_long_line_ends() -> None:
    source = read(b"\xef\xbb\xbf# \xc3\xa9\r\nblock f()(x: [b]) =\r\n  x\r\n")
    block = parse(source).items[0]
    assert isinstance(block, syntax.Block)
    assert (block.span.position, block.body[0].span.position, block.name_span.text) == ((2, 1), (3, 3), "f")


def test_an_equation_returns_its_value() -> None:
    (block,) = parse(Source("test.arch", "block f()(x: [b]) = x")).items
    assert isinstance(block, syntax.Block)
    assert isinstance(block.body[0], syntax.Return)
    assert block.span.text == "block f()(x: [b]) = x"


# ---- mistakes
def test_every_item_with_a_mistake_is_reported() -> None:
    text = 'block a()(x: [b]) = (x, x)\nblock b()(x: [b]) = x\nuse std\nmodel c { x = 1 +\n}\nblock d()(x: [b]) = "a\n'
    assert codes(text) == ["A015", "A028", "A010", "A003"]


def test_not_more_than_twenty_mistakes() -> None:
    assert len(codes("block f()(x: [b]) = x x\n" * 1000)) == 20


@pytest.mark.parametrize(
    ("data", "line", "column"), [(b"\xff", 1, 1), (b"ab\r\nc\xe9", 2, 2), (b"\xef\xbb\xbfab\x80", 1, 3)]
)
def test_invalid_utf8(data: bytes, line: int, column: int) -> None:
    with pytest.raises(ArchError, match="UTF-8") as failure:
        read(data, "net.arch")
    (label,) = failure.value.diagnostics[0].labels
    assert label.span.position == (line, column)


def test_long_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.arch"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # a hole: reading it all would take minutes
    with pytest.raises(ArchError, match="A801"):
        read(path)
    assert len(read(b"#" * MAX_BYTES).text) == MAX_BYTES


HUGE = 100_000
HOSTILE = {
    "parentheses": body("y = " + "(" * HUGE + "x" + ")" * HUGE),
    "lists": body("y = " + "[" * HUGE),
    "minus": body("y = " + "- " * HUGE + "x"),
    "not": body("y = " + "not " * HUGE + "x"),
    "power": body("y = " + "x ** " * HUGE + "x"),
    "if": body("if a { " * HUGE),
    "else if": body("if a { y = 1 } " + "else if b { y = 2 } " * HUGE),
    "ternary": body("y = " + "a if b else " * HUGE + "c"),
    "sum": body("y = " + "a + " * HUGE + "b"),
    "calls": body("y = f" + "()" * HUGE),
    "attributes": body("y = f" + ".a" * HUGE),
    "kinds": "block f(a: " + "list[" * HUGE,
    "words": "a " * HUGE * 20,
    "quotes": '"' * HUGE,
    "null": "\0" * HUGE,
    "closers": ")" * HUGE,
    "docstring": '"""' + "a" * 3_000_000,
    "string": '"' + "\\\\" * 1_000_000,
}
CHECK = """
import sys, time
from archlang.diagnostics import ArchError, render
from archlang.parser import parse
from archlang.source import Source
parse(Source("warm", "block f()(x: [b]) = x"))
start = time.process_time()
try: parse(Source("hostile", sys.stdin.read()))
except ArchError as failure: assert len(str(failure)) < 10_000; print(failure.diagnostics[0].code, end=" ")
print(time.process_time() - start)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_fast_in_little_memory(name: str) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (500 << 20, 500 << 20))

    run = subprocess.run(
        [sys.executable, "-c", CHECK], input=HOSTILE[name], text=True, capture_output=True, preexec_fn=limit, cwd=ROOT
    )
    assert run.stderr == ""
    code, seconds = run.stdout.split()
    assert code[0] == "A"
    assert float(seconds) < 1


@pytest.mark.parametrize("unit", ["y = 1\n", "y = x -> f(a, [1, 2])\n", "# comment\n", "y = [" + "1, " * 9 + "]\n"])
def test_time_grows_with_length(unit: str) -> None:
    def seconds(count: int) -> float:
        source = Source("test.arch", unit * count if unit[0] == "#" else body(unit * count))
        start = time.process_time()
        parse(source)
        return time.process_time() - start

    gc.collect()
    gc.disable()  # what it costs depends on the tests before
    try:
        assert seconds(4000) < 40 * min(seconds(200) for _ in range(5))
    finally:
        gc.enable()


@given(text=st.sampled_from([SAMPLE, *map(Path.read_text, PROGRAMS)]), data=st.data())
@settings(max_examples=500)
def test_mutated_programs_never_break_the_parser(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        piece = st.sampled_from(
            [*"(){}[],.:=->\"'#\n\0é?", '"""', "->", "=>", "..", " if ", " else ", "block ", " as ", "1e"]
        )
        text = text[:start] + "".join(data.draw(st.lists(piece, max_size=3))) + text[end:]
    assert {code for code in codes(text) if code[:2] != "A0"} <= {"A802"}


# ---- the tables
def test_the_grammar_has_no_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    from lark import Lark, logger

    logger.propagate = True
    with caplog.at_level(logging.DEBUG, logger=logger.name):
        Lark(resources.read_text("grammar", "archlang.lark"), parser="lalr", lexer="basic", start="file", debug=True)
    assert [record.message for record in caplog.records if "conflict" in record.message.lower()] == []


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ARCHLANG_CACHE_DIR", str(tmp_path / "kept"))
    parser._tables.cache_clear()
    yield tmp_path / "kept"
    parser._tables.cache_clear()


def entry(kept: Path) -> Path:
    parser._tables.cache_clear()
    assert shape(value("a + 1")) == "(a + 1)"
    (file,) = kept.iterdir()
    return file


def test_tables_are_cached(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = entry(kept).read_text()
    monkeypatch.setattr(parser, "_compile", None)
    assert entry(kept).read_text() == text


def test_damaged_tables_are_made_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = entry(kept)
    file.write_bytes(file.read_bytes()[:-100])
    entry(kept)
    monkeypatch.setattr(parser, "_compile", None)  # from here on only a good entry will do
    entry(kept)


def test_a_warm_parser_imports_neither_lark_nor_torch() -> None:
    code = f"""
import sys
from archlang.parser import parse
from archlang.source import Source
parse(Source("sample", {SAMPLE!r}))
print(sorted({{"lark", "torch", "typing_extensions", "numpy"}} & set(sys.modules)))
"""
    runs = [subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True) for _ in range(2)]
    assert runs[1].stdout == "[]\n", runs[1].stderr
