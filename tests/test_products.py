"""What `build` and `check` answer from the cache is what they would answer without it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archlang import cache, cli, products

NET = """\
use "parts/mix.arch": mix

model net(width: int = 4) {
  input x: [b, c = 2]
  output y: [b, c = 3] = x -> mix(width) -> linear(3) as head

  variant wide { width = 8 }
  expect params == 53
}
"""
MIX = """\
use std.ffn: mlp
use "deep.arch": scale

block mix(width: int)(x: [.., c]) -> [.., c] {
  return x -> linear(width) as up -> relu -> linear(c) as down -> mlp(2) -> scale
}
"""
DEEP = """\
block scale()(x: [.., c]) -> [.., c] { return x * 2 }
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in a folder with a program of three files and a cache of its own."""
    monkeypatch.setenv("ARCHLANG_CACHE_DIR", str(tmp_path / "kept"))
    (tmp_path / "work" / "parts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    Path("net.arch").write_text(NET)
    Path("parts/mix.arch").write_text(MIX)
    Path("parts/deep.arch").write_text(DEEP)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["archlang", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return Done(left.value.code or 0, re.sub(r"\d\.\d\d s", "", out), err)

    return run


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were compiled, in order."""
    from archlang import compile as compiler

    files: list[str] = []
    read = compiler.read_file
    monkeypatch.setattr(compiler, "read_file", lambda path: (files.append(str(path)), read(path))[1])
    return files


def built(run: Run, *arguments: str) -> tuple[Done, str]:
    done = run("build", "net.arch", "-o", "made.py", *arguments)
    return done, Path("made.py").read_text()


def test_a_second_build_is_the_first(run: Run, compiled: list[str]) -> None:
    first = built(run)
    Path("made.py").unlink()
    assert built(run) == first
    assert compiled == ["net.arch"]
    assert built(run, "--no-cache") == first
    assert compiled == ["net.arch"] * 2
    lines = first[0].out.splitlines()
    assert [line.split()[0] for line in lines] == ["built", "params", "MACs", "wrote"]
    assert re.search(r"made\.py, \d\d+ lines", lines[-1])


def test_no_cache_leaves_nothing(run: Run, compiled: list[str]) -> None:
    built(run, "--no-cache")
    run("check", "net.arch", "--no-cache")
    assert {entry.kind for entry in cache.entries()} <= {"grammar"}


FREE = "model m { input x: [b, c = 2, h, w]\n output y: [b, c = 3, h, w] = x -> conv(3, kernel = 1) as a }\n"
FEW = """\
use std.ffn: mlp
use std.moe: moe
model m { input x: [b, t, c = 8]
 output y: [b, t, c = 8] = x -> moe(mlp(2), 4, 1) as moe }
"""


@pytest.mark.parametrize(("text", "word"), [(FREE, "h * w"), (FEW, "active")])
@pytest.mark.parametrize("form", ["text", "json"])
def test_figures_in_free_sizes_and_of_few_experts(
    run: Run, compiled: list[str], text: str, word: str, form: str
) -> None:
    Path("m.arch").write_text(text)
    first, again = (run("build", "m.arch", "--format", form) for _ in range(2))
    seconds = re.compile(r'"seconds": [\d.]+')
    assert seconds.sub("", first.out) == seconds.sub("", again.out)
    assert (first.code, len(compiled)) == (0, 1)
    assert word in first.out or form == "json"


# ---- what makes another answer
CHANGES: dict[str, Callable[[], object]] = {
    "the file": lambda: Path("net.arch").write_text(NET.replace("linear(3)", "linear(3, bias = false)")),
    "a used file": lambda: Path("parts/mix.arch").write_text(MIX.replace("relu", "gelu")),
    "what a used file uses": lambda: Path("parts/deep.arch").write_text(DEEP.replace("2", "3")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_text_is_compiled_again(run: Run, compiled: list[str], change: str) -> None:
    _, before = built(run)
    CHANGES[change]()
    _, after = built(run)
    assert after.split("\n", 1)[1] != before.split("\n", 1)[1]
    assert built(run, "--no-cache")[1] == after
    Path("net.arch").write_text(NET)
    Path("parts/mix.arch").write_text(MIX)
    Path("parts/deep.arch").write_text(DEEP)
    count = len(compiled)
    assert built(run)[1] == before
    assert len(compiled) == count


def test_options_make_another_answer(run: Run) -> None:
    every: list[list[str]] = [[], ["--set", "width=5"], ["--set", "width=6"], ["--for", "inference"], []]
    texts = [built(run, *options)[1] for options in every]
    assert len(set(texts)) == 4
    run("build", "net.arch:wide", "-o", "wide.py")
    assert "net/wide" in Path("wide.py").read_text()
    options: list[dict[str, object]] = [{}, {"purpose": "inference"}, {"disable": ["fuse"]}, {"disable": []}]
    assert len({products.Question("build", "net.arch", chosen).key("", {}) for chosen in options}) == 4


def test_another_compiler_makes_another_answer(run: Run, compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    built(run)
    monkeypatch.setattr(products, "fingerprint", lambda: "another")
    built(run)
    assert len(compiled) == 2
    monkeypatch.setattr(products, "fingerprint", lambda: None)  # not known: nothing is kept
    built(run)
    built(run)
    assert len(compiled) == 4


def test_a_file_that_changes_while_it_is_compiled(
    run: Run, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is kept for the text that was compiled, not for the one that was there before or is there after."""
    _, old = built(run)
    cache.clear()
    make = cli.architecture

    def edited(*given: Any) -> Any:
        made = make(*given)
        Path("net.arch").write_text(NET.replace("linear(3)", "linear(3, bias = false)"))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(cli, "architecture", edited)
        assert built(run)[1] == old
    assert built(run)[1] != old
    Path("net.arch").write_text(NET)
    count = len(compiled)
    assert built(run)[1] == old
    assert len(compiled) == count


def test_a_used_file_that_leaves_the_folder(run: Run, tmp_path: Path) -> None:
    """Its text is the same, and it may no longer be used."""
    built(run)
    Path("parts/deep.arch").rename(tmp_path / "deep.arch")
    Path("parts/deep.arch").symlink_to(tmp_path / "deep.arch")
    done = run("build", "net.arch", "-o", "made.py")
    assert (done.code, "A404" in done.err) == (1, True)
    Path("parts/deep.arch").unlink()
    assert "A401" in run("build", "net.arch", "-o", "made.py").err


@pytest.mark.parametrize("damage", [b"", b"evil", b"\x80\x04\x95cos\nsystem\n"])
def test_a_damaged_entry_is_built_again(run: Run, compiled: list[str], damage: bytes) -> None:
    first = built(run)
    for entry in cache.entries():
        entry.path.write_bytes(damage)
    assert built(run) == first
    assert built(run) == first
    assert compiled == ["net.arch"] * 2


def test_mistakes_are_found_again(run: Run, compiled: list[str]) -> None:
    Path("net.arch").write_text(NET.replace("linear(3)", "lineer(3)"))
    first = run("build", "net.arch")
    assert first.code == 1
    assert run("build", "net.arch") == first
    assert len(compiled) == 2


# ---- check
WRONG = {
    "sound": NET,
    "an expectation": NET.replace("params == 53", "params == 54"),
    "a size": NET.replace("-> linear(3)", "-> linear(4)"),
    "a name": NET.replace("linear(3)", "lineer(3)"),
    "a warning": NET.replace("as head", "-> linear(3)").replace("53", "65"),
    "in a variant": NET.replace("width = 8", "width = 0"),
    "at a setting": NET.replace("== 53", "== 1 at [width = 5], params == 2 at [width = 6]"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_second_check_says_the_same(run: Run, compiled: list[str], case: str, form: str) -> None:
    Path("net.arch").write_text(WRONG[case])
    fresh = run("check", "--no-cache", "--format", form, "net.arch")
    first = run("check", "--format", form, "net.arch")
    again = run("check", "--format", form, "net.arch")
    assert fresh == first == again
    assert (fresh.code == 0) == (case in ("sound", "a warning"))
    assert len(compiled) == 2


def test_check_sees_a_changed_file(run: Run) -> None:
    assert run("check", "net.arch").code == 0
    Path("parts/deep.arch").write_text(DEEP.replace("x * 2", "x * y"))
    assert run("check", "net.arch").code == 1


def test_places_are_those_of_the_name_that_was_given(run: Run) -> None:
    Path("net.arch").write_text(WRONG["a size"])
    name = str(Path("net.arch").absolute())
    assert "--> net.arch:" in run("check", "net.arch").err
    assert f"--> {name}:" in run("check", name).err
    assert "--> net.arch:" in run("check", "net.arch").err


# ---- the process
def test_a_hit_compiles_nothing(run: Run) -> None:
    code = "import sys; from archlang.cli import app; app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    for command in (["build", "-q", "net.arch"], ["check", "-q", "net.arch"]):
        runs = [
            subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True) for _ in range(2)
        ]
        first, again = (set(done.stdout.split()) for done in runs)
        assert "archlang.compile" in first
        assert not again & {"archlang.compile", "archlang.parser", "archlang.primitive", "jinja2", "networkx", "torch"}


@pytest.mark.slow
def test_sixteen_builds_at_once(run: Run) -> None:
    """Of one program, into an empty cache."""
    _, expected = built(run, "--no-cache")
    command = [sys.executable, "-m", "archlang", "build", "-q", "net.arch", "-o"]
    children = [subprocess.Popen([*command, f"made{i}.py"]) for i in range(16)]
    assert [child.wait() for child in children] == [0] * 16
    assert {Path(f"made{i}.py").read_text() for i in range(16)} == {expected}
    sound, removed = cache.verify()
    assert (sound, removed) == (3, 0)
    assert not list(cache.folder().glob(".*"))


# ---- archlang cache
def test_cache_says_what_it_holds_and_is_cleared(run: Run) -> None:
    built(run)
    run("check", "net.arch")
    about = json.loads(run("cache", "info", "--format", "json").out)
    assert about["folder"] == os.environ["ARCHLANG_CACHE_DIR"]
    assert {"build": 1, "check": 1, "uses": 1}.items() <= about["entries"].items()
    assert about["bytes"] == sum(path.stat().st_size for path in cache.folder().iterdir())
    count = len(cache.entries())
    assert f"sound    {count} files" in run("cache", "verify").out
    entry = next(entry for entry in cache.entries() if entry.kind == "build")
    entry.path.write_text("evil")
    assert json.loads(run("cache", "verify", "--format", "json").out) == {"ok": True, "sound": count - 1, "removed": 1}
    assert run("cache", "clear").out == f"removed  {count - 1} files\n"
    assert json.loads(run("cache", "clear", "--format", "json").out) == {"ok": True, "removed": 0}


def test_info_says_why_nothing_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("taken").write_text("")
    monkeypatch.setenv("ARCHLANG_CACHE_DIR", "taken")
    assert "unused" in run("cache", "info").out
    assert json.loads(run("cache", "info", "--format", "json").out)["ok"] is False
    assert built(run)[0].code == 0
