"""Every error message, word for word. A case is `source`, then `--- message`, then what archlang says about it.

More files of a case stand under `--- file NAME`, links as `--- link NAME -> TARGET`. `pytest tests/test_errors.py --update-golden` writes the messages.
"""

import re
from pathlib import Path

import pytest

from archlang.codes import CODES
from archlang.diagnostics import ArchError, Diagnostic, render
from archlang.lexer import read
from archlang.parser import parse

ROOT = Path(__file__).parent.parent
CASES = Path(__file__).parent / "cases"
MARK = re.compile(r"^--- (message|file (?P<name>\S+))\n", re.MULTILINE)
LINK = re.compile(r"^--- link (\S+) -> (\S+)\n", re.MULTILINE)


def parts(case: Path) -> tuple[dict[str, str], str]:
    """The files of a case and the message that it expects."""
    text = LINK.sub("", case.read_text("utf-8"))
    marks = list(MARK.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    files = {f"{case.stem}.arch": text[: marks[0].start()]}
    files |= {m["name"]: text[m.end() : end] for m, end in zip(marks, ends, strict=True) if m["name"]}
    return files, next(text[m.end() : end] for m, end in zip(marks, ends, strict=True) if not m["name"])


def found(case: Path, files: dict[str, str]) -> list[Diagnostic]:
    """What archlang finds in the files of a case, which stand in the working folder. Syntax cases are only parsed."""
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, "utf-8", newline="")
    for name, target in LINK.findall(case.read_text("utf-8")):
        Path(name).symlink_to(target)
    main = Path(next(iter(files)))
    if case.parent.name != "syntax":
        from archlang import check

        return check(main)
    try:
        parse(read(main))
    except ArchError as failure:
        return list(failure.diagnostics)
    return []


@pytest.mark.parametrize("case", sorted(CASES.rglob("*.txt")), ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_message(
    case: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files, expected = parts(case)
    monkeypatch.chdir(tmp_path)
    message = "\n\n".join(map(render, found(case, files))) + "\n"
    if request.config.getoption("--update-golden"):
        text = case.read_text("utf-8")
        case.write_text(text[: text.rindex("--- message\n")] + "--- message\n" + message, "utf-8")
        expected = message
    assert message == expected


def test_there_are_enough_cases() -> None:
    assert len(list((CASES / "syntax").glob("*.txt"))) >= 60


def test_codes_are_in_the_table() -> None:
    used = {
        (code, path.name)
        for path in (ROOT / "archlang").rglob("*.py")
        for code in re.findall(r'"(A\d{3})"', path.read_text("utf-8"))
        if path.name != "codes.py"
    }
    assert {(code, file) for code, file in used if code not in CODES} == set()
    assert {code for code in CODES if code not in {code for code, _ in used}} == set()
