"""Every error message, word for word. A case is `source`, then `--- message`, then what archlang says about it.

More files of a case stand under `--- file NAME`, links as `--- link NAME -> TARGET`, a budget that it is written for as
`--- memory 1KiB at b = 2`, a purpose as `--- for decoding`. `pytest tests/test_errors.py --update-golden` writes the messages.
"""

import re
from pathlib import Path

import pytest

import archlang
from archlang.codes import CODES
from archlang.diagnostics import ArchError, Diagnostic, render
from archlang.lexer import read
from archlang.parser import parse

ROOT = Path(__file__).parent.parent
CASES = Path(__file__).parent / "cases"
MARK = re.compile(r"^--- (message|file (?P<name>\S+))\n", re.MULTILINE)
MEMORY = re.compile(r"^--- memory (\S+) at (\w+) = (\d+)\n", re.MULTILINE)
PURPOSE = re.compile(r"^--- for (\w+)\n", re.MULTILINE)
LINK = re.compile(r"^--- link (\S+) -> (\S+)\n", re.MULTILINE)


def parts(case: Path) -> tuple[dict[str, str], str]:
    """The files of a case and the message that it expects."""
    text = PURPOSE.sub("", MEMORY.sub("", LINK.sub("", case.read_text("utf-8"))))
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
    if budget := MEMORY.search(case.read_text("utf-8")):
        with pytest.raises(ArchError) as refused:
            archlang.load(main).architecture().source(memory=budget[1], at={budget[2]: int(budget[3])})
        return list(refused.value.diagnostics)
    if purpose := PURPOSE.search(case.read_text("utf-8")):
        with pytest.raises(ArchError) as refused:
            archlang.load(main).architecture().source(purpose=purpose[1])
        return list(refused.value.diagnostics)
    if case.parent.name != "syntax":
        from archlang import check

        return check(main)
    try:
        parse(read(main))
    except ArchError as failure:
        return list(failure.diagnostics)
    return []


@pytest.mark.parametrize("case", sorted(CASES.rglob("*.txt")), ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_message(case: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    assert len(list(CASES.rglob("*.txt"))) >= 250


def test_codes_are_in_the_table() -> None:
    used = {
        (code, path.name)
        for path in (ROOT / "archlang").rglob("*.py")
        for code in re.findall(r'"(A\d{3})"', path.read_text("utf-8"))
        if path.name != "codes.py"
    }
    assert {(code, file) for code, file in used if code not in CODES} == set()
    assert {code for code in CODES if code not in {code for code, _ in used}} == set()


NET = """
model net(width: int = 64, dims = [8, 16], act: layer = relu, name: str = "a", rate: float = 0.1, on: axis = n) {
  input x: [b, n = 4, c = 8]
  output y = x -> linear(width) -> act -> softmax(on = on)
  variant wide { width = 128 }
}
"""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("width", "A901"),
        ("=3", "A901"),
        ("wid th=3", "A901"),
        ("width=", "A010"),
        ("width=[1", "A008"),
        ("width=1 2", "A021"),
        ("width=three", "A101"),
        ("width=1/3", "A207"),
        ("width=9**9**9", "A815"),
        ("width=1/0", "A306"),
        ("width=\0", "A002"),
        ("width=0", "A216"),
        ("widht=3", "A502"),
        ('width="3"', "A303"),
        ("width=none", "A303"),
        ("dims=3", "A303"),
        ("act=3", "A303"),
        ("act=linear", "A301"),
        ("name=3", "A303"),
        ("on=t", "A205"),
        ("on=3", "A303"),
    ],
)
def test_wrong_settings(text: str, code: str) -> None:
    with pytest.raises(ArchError) as caught:
        archlang.loads(NET).architecture("net", None, None, [text])
    assert [found.code for found in caught.value.diagnostics] == [code]
    assert render(caught.value.diagnostics[0])


def test_right_settings() -> None:
    texts = ["width=2*8", "dims=[1, 2]", "act=gelu", 'name="b"', "rate=1/3", "on=c"]
    network = archlang.loads(NET).architecture("net", "wide", {"rate": 0.5}, texts)
    assert str(network.outputs["y"]) == "[b, n = 4, c = 16]"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (float("nan"), "A306"),
        (float("inf"), "A306"),
        (2.5, "A207"),
        ("64", "A303"),
        (True, "A303"),
        (None, "A303"),
        ([64], "A303"),
        (object(), "A505"),
        ({"a": 1}, "A505"),
        (b"64", "A505"),
        (-1, "A216"),
        (10**30, "A815"),
    ],
)
def test_wrong_values(value: object, code: str) -> None:
    with pytest.raises(ArchError) as caught:
        archlang.loads(NET).net(width=value)
    assert [found.code for found in caught.value.diagnostics] == [code]
    assert render(caught.value.diagnostics[0])


def test_whole_floats_are_whole() -> None:
    assert archlang.loads(NET).net(width=64.0).params == 8 * 64 + 64


def test_unknown_models_and_variants() -> None:
    program = archlang.loads(NET + NET.replace("model net", "model other"))
    for model, variant, code in ((None, None, "A507"), ("nett", None, "A507"), ("net", "wied", "A503")):
        with pytest.raises(ArchError, match=code):
            program.architecture(model, variant)
    with pytest.raises(AttributeError, match="nett"):
        program.nett()
