"""How an error looks: lines, underlines, several labels and files, colour, JSON; and the table of codes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archlang.codes import CODES
from archlang.diagnostics import ArchError, Collector, Diagnostic, Label, error, render, suggest, to_json
from archlang.source import Source, Span

ROOT = Path(__file__).parent.parent
NET = Source(
    "examples/net.arch", "block net()(x: [b, c = 64]) {\n" + "\n" * 10 + "  y = x -> linear(96)\n\n  z = x + y\n}\n"
)


def at(source: Source, text: str, nth: int = 0) -> Span:
    start = -1
    for _ in range(nth + 1):
        start = source.text.index(text, start + 1)
    return Span(source, start, start + len(text))


def shown(text: str, *labels: tuple[str, str], help: str | None = None) -> str:
    """The lines of a message about `text`, from the first line of code on."""
    source = Source("a.arch", text)
    made = tuple(Label(at(source, piece), words) for piece, words in labels)
    return "\n".join(render(Diagnostic("A204", "title", made, help)).splitlines()[3:])


def test_the_shape_of_the_language_page() -> None:
    labels = Label(at(NET, "+"), "`x` has c = 64, `y` has c = 96"), Label(at(NET, "linear(96)"), "c = 96 here")
    advice = "`x -> linear(96)` before the sum, or `linear(c)` in line 12"
    assert render(Diagnostic("A204", "axis sizes do not agree", labels, advice)) == (
        "error[A204]: axis sizes do not agree\n"
        "  --> examples/net.arch:14:9\n"
        "   |\n"
        "12 |   y = x -> linear(96)\n"
        "   |            ---------- c = 96 here\n"
        "14 |   z = x + y\n"
        "   |         ^ `x` has c = 64, `y` has c = 96\n"
        "   |\n"
        "   = help: `x -> linear(96)` before the sum, or `linear(c)` in line 12"
    )


def test_without_labels_or_help() -> None:
    assert render(Diagnostic("A901", "no such file", severity="warning")) == "warning[A901]: no such file"
    assert (
        render(Diagnostic("A901", "no such file", help="a\nb")) == "error[A901]: no such file\n  = help: a\n          b"
    )


def test_several_labels_on_a_line() -> None:
    text = shown("z = x + y", ("+", "sum"), ("z", "first"), ("x", "second"))
    assert text == "1 | z = x + y\n  | -   - ^ sum\n  | |   second\n  | first"


def test_labels_without_words() -> None:
    assert shown("z = x + y", ("+", ""), ("z", "")) == "1 | z = x + y\n  | -     ^"


def test_overlapping_labels() -> None:
    assert shown("f(x)", ("x", "inner"), ("f(x)", "outer")) == "1 | f(x)\n  | --^- inner\n  | outer"


def test_a_label_over_several_lines() -> None:
    assert shown("f(\n  a,\n  b)\n", ("(\n  a,\n  b)", "all")) == "1 | f(\n  |  ^\n3 |   b)\n  |   ^^ all"


def test_several_files() -> None:
    one, other = Source("one.arch", "a\nb\n"), Source("two.arch", "c")
    text = render(Diagnostic("A204", "t", (Label(at(other, "c"), "C"), Label(at(one, "b"), "B"))))
    assert text == (
        "error[A204]: t\n --> two.arch:1:1\n  |\n1 | c\n  | ^ C\n  |\n ::: one.arch:2:1\n  |\n2 | b\n  | - B"
    )


@pytest.mark.parametrize(
    ("line", "piece", "expected"),
    [
        ("\tx = y", "y", "1 |     x = y\n  |         ^ here"),
        ('"漢字" + y', "y", '1 | "漢字" + y\n  |          ^ here'),
        ('"漢字" + y', "漢字", '1 | "漢字" + y\n  |  ^^^^ here'),
        ("e\u0301 + y", "y", "1 | e\u0301 + y\n  |     ^ here"),
        ("\x00\x1b[2J y", "y", "1 | \ufffd\ufffd[2J y\n  |       ^ here"),
        ("x = y\r\nz", "y", "1 | x = y\n  |     ^ here"),
    ],
)
def test_characters_that_are_not_one_column(line: str, piece: str, expected: str) -> None:
    assert shown(line, (piece, "here")) == expected


def test_long_lines_are_cut_to_the_labels() -> None:
    line, underline = shown("a" * 1000 + "+" + "b" * 1000, ("+", "here")).splitlines()
    assert len(line) < 170
    assert line[underline.index("^")] == "+"
    assert line.endswith("b…")


def test_the_end_of_a_file() -> None:
    source = Source("a.arch", "x\n")
    assert render(error("A008", "t", Span(source, 2, 2)).diagnostics[0]).endswith("2 |\n  | ^")


def test_colour() -> None:
    diagnostic = error("A204", "t", at(NET, "+"), help="h").diagnostics[0]
    coloured = render(diagnostic, color=True)
    assert coloured.startswith("\x1b[1;31merror[A204]\x1b[0m")
    import re

    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == render(diagnostic)


def test_json() -> None:
    labels = Label(at(NET, "linear(96)"), "a"), Label(at(NET, "y", 1), "b")
    (found,) = json.loads(to_json([Diagnostic("A204", "t", labels, "h", "warning")]))
    place = {"file": "examples/net.arch", "line": 12, "column": 12, "end_line": 12, "end_column": 22}
    assert found == {
        "code": "A204",
        "severity": "warning",
        "title": "t",
        **place,
        "labels": [
            {**place, "text": "a"},
            {"file": "examples/net.arch", "line": 14, "column": 11, "end_line": 14, "end_column": 12, "text": "b"},
        ],
        "help": "h",
    }
    assert json.loads(to_json([Diagnostic("A901", "t")]))[0]["line"] is None


@given(
    st.text(max_size=60), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.text(max_size=3)), max_size=4)
)
def test_any_labels_can_be_shown(text: str, places: list[tuple[int, int, str]]) -> None:
    source = Source("any.arch", text)
    spans = [(min(a, b, len(text)), min(max(a, b), len(text)), words) for a, b, words in places]
    diagnostic = Diagnostic("A204", "t", tuple(Label(Span(source, start, end), words) for start, end, words in spans))
    assert render(diagnostic).startswith("error[A204]: t")
    json.loads(to_json([diagnostic]))


def test_a_collector_keeps_each_error_once() -> None:
    collector = Collector()
    for _ in range(2):
        with collector.catch():
            raise error("A204", "t", at(NET, "+"))
    with pytest.raises(ArchError) as failure:
        collector.check()
    assert len(failure.value.diagnostics) == 1


def test_suggestions() -> None:
    assert suggest("linaer", ["linear", "conv"]) == "did you mean `linear`?"
    assert suggest("xyz", ["linear"]) is None


# ---- codes
def test_the_page_of_codes_is_the_table(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "errors.md"
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in sorted(CODES.items()))
    head = "# Errors\n\nEvery diagnostic has a code that never changes its meaning.\n\n| Code | Meaning |\n|---|---|\n"
    if request.config.getoption("--update-golden"):
        page.write_text(head + rows, "utf-8")
    assert page.read_text("utf-8") == head + rows


def test_codes_are_well_formed() -> None:
    assert list(CODES) == sorted(CODES)
    assert len(set(CODES.values())) == len(CODES)
