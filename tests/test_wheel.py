"""The compiler works wherever it is put: a wheel, the zipped wheel, an editable install, a checkout."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = ["grammar", "codegen", "stdlib"]
NET = """
use std.conv: conv_stem

model net(classes: int = 10) {
  input image: [b, c = 3, h = 32, w = 32]
  output logits: [b, c = classes] = image -> conv_stem(8) -> mean(on = space) -> linear(classes) as head
}
"""
# Site packages are a plain folder here: an editable install in this environment (a .pth file) does not count.
PROBE = """
import site, sys
where, libraries, net = sys.argv[1:]
site.addsitedir(where)
sys.path.append(libraries)
import archlang
text = archlang.load(net).architecture().source()
assert "torch" not in sys.modules
print(archlang.__file__)
print(text)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.arch"
    path.write_text(NET)
    return path


def build(hook: str, folder: Path) -> Path:
    code = f"from hatchling import build; print(build.{hook}({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return folder / done.stdout.split()[-1]


def compiled(where: Path, net: Path) -> tuple[str, str]:
    """Where archlang was found, and what it makes of `net`, with `where` on the path."""
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(where), sysconfig.get_path("purelib"), net.name]
    done = subprocess.run(command, cwd=net.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file, _, text = done.stdout.partition("\n")
    return file, text


def unpacked(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel(wheel: Path, net: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--target",
        str(place),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    file, text = compiled(place, net)
    assert Path(file) == place / "archlang/__init__.py"
    assert text == compiled(ROOT, net)[1]


def test_zipped_wheel(wheel: Path, net: Path) -> None:
    file, text = compiled(wheel, net)
    assert Path(file) == wheel / "archlang/__init__.py"
    assert text == compiled(ROOT, net)[1]


def test_editable_install(net: Path, tmp_path: Path) -> None:
    place = unpacked(build("build_editable", tmp_path), tmp_path / "site")
    assert not (place / "archlang").exists(), "an editable install holds no copy"
    file, text = compiled(place, net)
    assert Path(file) == ROOT / "archlang/__init__.py"
    assert text == compiled(ROOT, net)[1]


def test_the_wheel_holds_everything_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "archlang", *DATA], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    expected = {name if name.startswith("archlang/") else f"archlang/{name}" for name in tracked}
    assert not expected or expected <= names
    assert {name.split("/")[0] for name in names} == {"archlang"}
