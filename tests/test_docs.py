"""The documentation is true: its code compiles, what it says is printed is printed, its links lead somewhere.

Code stands in fences. `arch` is a whole program, or statements of a model with the inputs of docs/operations.md; it may
use the blocks of fences before it, and its errors are those in the `text` behind it. `console` and `pycon` are run, and
`python emitted` is a class that the network before it becomes. `pytest tests/test_docs.py --update-golden` writes what
the compiler says into `text` and `console`.
"""

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from archlang.primitives import CONSTRUCTS
from archlang.primitives.score import SCORES
from docs import make_operations, make_pictures

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<kind>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
WHOLE = re.compile(r"^(use|block|model|foreign) ", re.MULTILINE)
SECONDS = re.compile(r"\d+\.\d\d s$", re.MULTILINE)


@dataclass(frozen=True)
class Fence:
    """One piece of code of a page; `before` are those that stand before it."""

    page: Path
    number: int
    kind: str
    info: str
    text: str
    before: "tuple[Fence, ...]"

    @property
    def id(self) -> str:
        return f"{self.page.stem}-{self.number}"

    @property
    def file(self) -> str:
        return self.info or "net.arch"

    def blocks(self) -> str:
        """The fences before it that define a block which it mentions."""
        texts = [f.text for f in self.before if f.kind == "arch" and "model " not in f.text and WHOLE.search(f.text)]
        return "".join(
            t for t in texts if any(re.search(rf"\b{n}\b", self.text) for n in re.findall(r"block (\w+)", t))
        )

    def program(self) -> str:
        """The text as a whole program."""
        if WHOLE.search(self.text):
            return self.text
        output = "" if "output " in self.text else "output result = x\n"
        inputs = "" if "input " in self.text else f"{make_operations.INPUTS}\n"
        return f"{self.blocks()}model fragment {{\n{inputs}{self.text}{output}}}\n"


def fences(page: Path) -> list[Fence]:
    found: list[Fence] = []
    for number, m in enumerate(FENCE.finditer(page.read_text("utf-8"))):
        found.append(Fence(page, number, m["kind"], m["info"].strip(), m["text"], tuple(found)))
    return found


def of_kind(kind: str, info: str = "") -> list[Fence]:
    return [f for page in PAGES for f in fences(page) if f.kind == kind and info in f.info]


def cases(found: list[Fence]) -> list[object]:
    return [pytest.param(fence, id=fence.id) for fence in found]


def expect(fence: Fence, said: str, request: pytest.FixtureRequest) -> None:
    """The fence holds what is said, or is made to with --update-golden."""
    if request.config.getoption("--update-golden"):
        page = fence.page.read_text("utf-8")
        fence.page.write_text(page.replace(fence.text, said), "utf-8")
    else:
        assert said == fence.text


def diagnostics(fence: Fence) -> str:
    import archlang
    from archlang.diagnostics import render

    try:
        found = archlang.loads(fence.program(), fence.file).check()
    except archlang.ArchError as failure:
        found = list(failure.diagnostics)
    return "\n\n".join(map(render, found))


@pytest.mark.parametrize("fence", cases(of_kind("arch")))
def test_programs_compile(fence: Fence, request: pytest.FixtureRequest) -> None:
    said = diagnostics(fence)
    behind = fences(fence.page)[fence.number + 1 : fence.number + 2]
    if behind and behind[0].kind == "text" and re.match(r"(error|warning)\[", behind[0].text):
        expect(behind[0], f"{said}\n", request)
    else:
        assert said == ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("fence", cases(of_kind("console")))
def test_commands_print_this(fence: Fence, folder: Path, request: pytest.FixtureRequest) -> None:
    for other in fence.before:
        if other.kind == "arch" and other.info:
            (folder / other.info).write_text(other.text, "utf-8")
    expect(fence, "".join(printed(line) for line in fence.text.splitlines() if line.startswith("$ ")), request)


def printed(line: str) -> str:
    """A command line and what it prints; how long it took is not compared."""
    command = [sys.executable, "-m", "archlang", *line.removeprefix("$ archlang ").split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return f"{line}\n{SECONDS.sub('0.30 s', done.stdout + done.stderr.rstrip() + chr(10) * bool(done.stderr))}"


@pytest.mark.parametrize("page", sorted({f.page for f in of_kind("pycon")}), ids=lambda page: page.stem)
def test_sessions_go_like_this(page: Path, folder: Path) -> None:
    for fence in fences(page):
        if fence.kind == "arch" and fence.info:
            (folder / fence.info).write_text(fence.text, "utf-8")
    session = "\n".join(fence.text for fence in fences(page) if fence.kind == "pycon")
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, str(page), 0)
    said: list[str] = []
    failed, ran = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
    assert (failed, ran > 0) == (0, True), "".join(said)


@pytest.mark.parametrize("fence", cases(of_kind("python", "emitted")))
def test_networks_become_this(fence: Fence, request: pytest.FixtureRequest) -> None:
    import archlang

    made = next(f for f in reversed(fence.before) if f.kind == "arch" and "model " in f.text)
    purpose = next((word for word in ("inference", "decoding") if word in fence.info), "training")
    source = archlang.loads(made.text, made.file).architecture().source(purpose=purpose)  # type: ignore[arg-type]
    head = re.escape(fence.text.partition("(")[0])
    part = re.search(rf"^{head}\(.*?(?=\n\n\n|\Z)", source, re.MULTILINE | re.DOTALL)
    assert part, f"no {head} in\n{source}"
    expect(fence, f"{part[0].rstrip()}\n", request)


def test_the_primitive_of_the_page_keeps_the_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    import archlang
    from archlang import primitive
    from archlang.primitives import CONSTRUCTS
    from archlang.testing import check_law
    from archlang.testing.strategies import tensor

    (fence,) = of_kind("python", "primitive")
    monkeypatch.setattr(primitive, "_REGISTRY", dict(primitive._REGISTRY))
    space = {"__name__": "centring"}
    exec(fence.text, space)
    monkeypatch.setattr("archlang.primitives._REGISTRY", primitive._REGISTRY)
    monkeypatch.setitem(CONSTRUCTS.families, "centre", "centring")
    made = CONSTRUCTS["centre"]
    check_law(made(), tensor(b="b", n=3, c=4))
    check_law(made(on=("n", "c")), tensor(c=4, b=2, n=3))
    network = archlang.loads("model net { input x: [b, n, c = 4]\n output y = x -> centre -> centre(on = n) }").net()
    assert str(network.outputs["y"]) == "[b, n, c = 4]"
    with pytest.raises(archlang.ArchError, match="there is no axis `w`"):
        archlang.loads("model net { input x: [b, c = 4]\n output y = x -> centre(on = w) }").net()


def test_operations_are_up_to_date(request: pytest.FixtureRequest) -> None:
    page = make_operations.page()
    if request.config.getoption("--update-golden"):
        make_operations.PAGE.write_text(page, "utf-8")
    assert make_operations.PAGE.read_text("utf-8") == page, "run `python -m docs.make_operations`"


def test_every_operation_is_told() -> None:
    page = make_operations.PAGE.read_text("utf-8")
    told = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    assert set(CONSTRUCTS) | set(SCORES) <= told


def test_pictures_are_up_to_date() -> None:
    drawn = {file.name: file.read_text("utf-8") for file in make_pictures.FOLDER.iterdir()}
    assert drawn == make_pictures.pictures(), "run `python -m docs.make_pictures`"


def reserved() -> set[str]:
    return set(re.findall(r'"([a-z]+)"', (ROOT / "grammar/archlang.lark").read_text("utf-8")))


def test_every_reserved_word_and_function_is_told() -> None:
    from archlang.elaborate.operators import BUILTINS

    page = (ROOT / "docs/language.md").read_text("utf-8")
    words = page[page.index("These words are reserved") : page.index("- A comment runs")]
    assert set(re.findall(r"[a-z]+", words.partition("`")[2].partition("`")[0])) == reserved()
    table = page[page.index("| of | functions |") : page.index("`round_up(x, 256)` is")]
    assert set(" ".join(re.findall(r"`([^`]*)`", table)).split()) == set(BUILTINS)


def test_limits_are_those_of_the_compiler() -> None:
    from archlang import lexer
    from archlang.elaborate import limits

    page = (ROOT / "docs/language.md").read_text("utf-8")
    told = re.findall(r"\b[\d,]+\b", page[page.index("## Limits") : page.index("## Not in this version")])
    bounds = [lexer.MAX_BYTES // 2**10, lexer.MAX_NESTING, limits.MAX_DEPTH]
    bounds += [limits.MAX_LIST, limits.MAX_LOOP, limits.MAX_NODES]
    assert told == [f"{bound:,}" for bound in bounds]


def test_the_editor_knows_every_reserved_word() -> None:
    grammar = (ROOT / "editors/vscode/archlang.tmLanguage.json").read_text("utf-8")
    told = {word for group in re.findall(r"\\\\b\(([a-z|]+)\)\\\\b", grammar) for word in group.split("|")}
    assert told == reserved()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
    places = [link.partition("#") for link in links if not re.match(r"https?:", link)]
    lost = [
        f"{file}#{anchor}"
        for file, _, anchor in places
        if not (target := page.parent / file if file else page).exists() or (anchor and anchor not in anchors(target))
    ]
    assert lost == []


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
