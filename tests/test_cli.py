"""The command line: what it prints, writes and refuses, its exit codes, and its JSON."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archlang import cli

NET = """\
model net(width: int = 4, classes: int = 3) {
  input x: [b, c = 2]
  output y: [b, c = classes] = x -> linear(width) as up -> relu -> linear(classes) as head

  variant tiny { }
  variant wide { width = 8 }
  expect params == 27 for tiny
}
"""
BAD = """\
model net {
  input x: [b, c = 2]
  output y: [b, c = 3] = x -> lineer(3)
}
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.err == ""
        return json.loads(self.out)


Archlang = Callable[..., Done]


@pytest.fixture
def archlang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Archlang:
    """Runs the command in a folder with `net.arch`, `bad.arch` and `x.npy`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCHLANG_CACHE_DIR", str(tmp_path / ".kept"))
    Path("net.arch").write_text(NET)
    Path("bad.arch").write_text(BAD)
    np.save("x.npy", np.ones((5, 2), np.float32))

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["archlang", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return Done(left.value.code or 0, *capsys.readouterr())

    return run


def test_version_and_help(archlang: Archlang) -> None:
    assert archlang("--version").out == "archlang 0.1.0\n"
    assert archlang().out == archlang("--help").out
    assert "Exit codes: 0 done" in archlang("--help").out


# ---- build
def test_build_writes_a_module_and_says_what(archlang: Archlang) -> None:
    done = archlang("build", "net.arch:tiny")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["built", "net/tiny"],
        ["params", "27"],
        ["MACs", "20"],
        ["wrote", "net_tiny.py,"],
    ]
    compile(Path("net_tiny.py").read_text(), "net_tiny.py", "exec")


@pytest.mark.parametrize("target", ["net.arch:wide", "net.arch:net/wide", "net.arch/wide", "./net.arch:wide"])
def test_targets(archlang: Archlang, target: str) -> None:
    assert archlang("build", target, "--format", "json").document["built"][0]["name"] == "net/wide"


def test_build_sets_hyper_parameters(archlang: Archlang) -> None:
    done = archlang("build", "net.arch", "--set", "width=16", "--set", "classes=5", "--format=json")
    assert done.document["built"][0]["params"] == 16 * 3 + 5 * 17


def test_build_to_stdout(archlang: Archlang) -> None:
    done = archlang("build", "net.arch", "-o", "-")
    compile(done.out, "<stdout>", "exec")
    assert "params" in done.err
    assert not list(Path().glob("*.py"))


def test_build_of_several(archlang: Archlang) -> None:
    done = archlang("build", "net.arch:tiny", "net.arch:wide", "-o", "made", "-q")
    assert done == Done(0, "", "")
    assert sorted(path.name for path in Path("made").iterdir()) == ["net_tiny.py", "net_wide.py"]
    assert "A901" in archlang("build", "net.arch:tiny", "net.arch:wide", "-o", "made/one.py").err


def test_build_replaces_only_its_own(archlang: Archlang) -> None:
    Path("mine.py").write_text("precious = 1\n")
    done = archlang("build", "net.arch", "-o", "mine.py")
    assert done.code == 2
    assert "A903" in done.err
    assert Path("mine.py").read_text() == "precious = 1\n"
    assert archlang("build", "net.arch", "-o", "mine.py", "--force").code == 0
    assert archlang("build", "net.arch:wide", "-o", "mine.py").code == 0


def test_a_failed_build_writes_nothing(archlang: Archlang) -> None:
    done = archlang("build", "net.arch", "bad.arch", "-o", "made")
    assert (done.code, done.out) == (1, "")
    assert "lineer" in done.err
    assert not Path("made").exists()


# ---- check, show, fmt
def test_check(archlang: Archlang) -> None:
    done = archlang("check", "net.arch", "bad.arch")
    assert done.code == 1
    assert done.out.splitlines() == ["ok       net.arch", "1 error  bad.arch"]
    assert "bad.arch:3:31" in done.err
    assert archlang("check", "-q", "net.arch") == Done(0, "", "")
    files = archlang("check", "net.arch", "bad.arch", "--format", "json").document["files"]
    assert files["net.arch"] == []
    assert files["bad.arch"][0]["line"] == 3


def test_check_verifies_expect(archlang: Archlang) -> None:
    Path("net.arch").write_text(NET.replace("27", "28"))
    done = archlang("check", "net.arch")
    assert done.code == 1
    assert "27" in done.err


def test_show(archlang: Archlang) -> None:
    text = archlang("show", "net.arch").out
    assert "head" in text
    assert "linear" in archlang("show", "net.arch", "--ir").out
    assert archlang("show", "net.arch", "--format", "json").document["text"] == text.rstrip("\n")


def test_explain(archlang: Archlang) -> None:
    body = "s = tanh(s + x)\n yield s"
    text = f"model net {{\n input x: [b, t, c = 8]\n output y = scan t carry s: [b, c = 8] = 0 {{\n {body}\n }}\n}}\n"
    Path("scan.arch").write_text(text)
    (choice,) = archlang("explain", "scan.arch", "--format", "json").document["choices"]
    assert choice["operation"] == "scan"
    assert choice["place"] == "scan.arch:3"
    assert choice["algorithm"].startswith("one position after another: `tanh`")
    assert choice["algorithm"] in archlang("explain", "scan.arch").out


def test_explain_measures_the_error_of_folding(archlang: Archlang) -> None:
    text = "model net {\n input x: [b, h, c = 4]\n output y = x -> conv(4) as conv -> batch_norm as norm\n}\n"
    Path("norm.arch").write_text(text)
    done = archlang(
        "explain", "norm.arch", "--for", "inference", "--measure", "--at", "b=2", "--at", "h=5", "--format", "json"
    ).document
    assert 0 < done["errors"]["folded"] < 1e-6
    assert "largest error in float32" in archlang("explain", "norm.arch", "--measure", "--at", "b=2", "--at", "h=5").out
    refused = archlang("explain", "norm.arch", "--measure", "--at", "b=2")
    assert refused.code == 2
    assert "write --at h=SIZE" in refused.err


@pytest.mark.parametrize("size", ["0", "-1", "", "\u0663", "9" * 5000])
def test_sizes_are_counts(archlang: Archlang, size: str) -> None:
    refused = archlang("explain", "net.arch", "--measure", "--at", f"b={size}")
    assert refused.code == 2
    assert "is not a size" in refused.err


def test_sizes_that_no_machine_holds(archlang: Archlang) -> None:
    refused = archlang("explain", "net.arch", "--measure", "--at", "b=999999999999")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error[A907]: inputs of these sizes cannot be made")


def test_a_folder_is_a_wrong_command_line(archlang: Archlang) -> None:
    Path("folder.arch").mkdir()
    refused = archlang("check", "net.arch", "folder.arch")
    assert refused.code == 2
    assert refused.err.startswith("error[A902]: a file cannot be read or written: folder.arch: Is a directory")


def test_a_pipe_is_no_file_to_wait_for(archlang: Archlang) -> None:
    os.mkfifo("pipe.arch")
    refused = archlang("check", "pipe.arch")
    assert refused.code == 1
    assert refused.err.startswith("error[A902]: `pipe.arch` cannot be read: it is a pipe, not a file")


def test_fmt(archlang: Archlang, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sub").mkdir()
    untidy = Path("sub/untidy.arch")
    untidy.write_text(NET.replace(" = ", "="))
    assert archlang("fmt", "--check", "sub", "net.arch").code == 1
    assert untidy.read_text() != NET
    assert archlang("fmt", "sub", "net.arch").code == 0
    assert untidy.read_text() == NET
    assert archlang("fmt", "--check", "sub", "--format", "json").document == {"ok": True, "changed": [], "files": 1}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(NET.replace(" = ", "=").encode())))
    assert archlang("fmt", "-").out == NET


def test_fmt_leaves_a_wrong_file_alone(archlang: Archlang) -> None:
    Path("wrong.arch").write_text("model {")
    assert archlang("fmt", "wrong.arch").code == 1
    assert Path("wrong.arch").read_text() == "model {"


# ---- run
def test_run(archlang: Archlang) -> None:
    done = archlang("run", "net.arch", "-i", "x.npy", "-o", "y.safetensors")
    assert done.code == 0
    assert "random weights" in done.out
    assert Path("y.safetensors").stat().st_size > 5 * 3 * 4
    result = archlang("run", "net.arch", "-i", "x.npy", "--format", "json").document["outputs"]["y"]
    assert result["shape"] == [5, 3]
    assert sum(entry["probability"] for entry in result["top"]) == pytest.approx(1)


# ---- mistakes
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["bild", "net.arch"], 2, "A901"),
        (["build"], 2, "A901"),
        (["build", "net.arch", "--fromat", "json"], 2, "--format"),
        (["build", "net.txt"], 2, "does not name a network"),
        (["build", "gone.arch"], 2, "gone.arch"),
        (["check", "gone.arch"], 2, "gone.arch"),
        (["fmt", "gone.arch"], 2, "gone.arch"),
        (["build", "net.arch:huge"], 1, "huge"),
        (["build", "net.arch:net/huge"], 1, "huge"),
        (["build", "net.arch:other/tiny"], 1, "other"),
        (["build", "net.arch", "--set", "depth=3"], 1, "depth"),
        (["build", "net.arch", "--set", "width"], 2, "width"),
        (["build", "net.arch", "--set", "width=("], 1, "width"),
        (["build", "net.arch", "-o", "net.arch/x.py"], 2, "net.arch"),
        (["run", "net.arch"], 2, "--input"),
        (["run", "net.arch", "-i", "gone.npy"], 2, "A904"),
        (["run", "net.arch", "-i", "x.npy", "--weights", "gone.safetensors"], 2, "gone.safetensors"),
        (["run", "net.arch", "-i", "x.npy", "--top", "0"], 2, "A901"),
    ],
)
def test_mistakes(archlang: Archlang, arguments: list[str], code: int, words: str) -> None:
    done = archlang(*arguments)
    assert words in done.err
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    document = archlang(*arguments, "--format", "json").document
    assert document["ok"] is False
    assert document["diagnostics"][0]["severity"] == "error"


def test_a_bug_is_not_a_traceback(archlang: Archlang, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archlang.compile.load", lambda path: {}["key"])
    done = archlang("build", "net.arch")
    assert done.code == 3
    assert done.err.startswith("error[A999]: archlang itself failed: KeyError: 'key'")


def test_torch_is_loaded_only_to_run(archlang: Archlang) -> None:
    run = "from archlang.cli import app; app(sys.argv[1:], standalone_mode=False)"
    code = f"import sys; {run}; print('torch' in sys.modules)"
    for command in (["build"], ["check"], ["show"], ["fmt", "--check"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "net.arch"], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "False", command


def test_a_network_without_attention_imports_none_of_it(archlang: Archlang) -> None:
    """Nor kernels, where none are written."""
    Path("plain.arch").write_text("model net {\n  input x: [b, c = 4]\n  output y = x -> linear(3) as fc\n}\n")
    run = "from archlang.cli import app; app(sys.argv[1:], standalone_mode=False)"
    names = "[n for n in sys.modules if 'attention' in n or 'emit.kernels.' in n or n.endswith('.cells')]"
    code = f"import sys; {run}; print({names})"
    command = [sys.executable, "-c", code, "build", "--no-cache", "plain.arch"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['archlang.emit.kernels.kernel']"
