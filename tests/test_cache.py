"""The cache: what is kept comes back, and nothing else does, whatever happens to the files."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from archlang import cache, fingerprint

ROOT = Path(__file__).parent.parent
KEY, OTHER = cache.digest("a"), cache.digest("b")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "kept"
    monkeypatch.setenv("ARCHLANG_CACHE_DIR", str(place))
    return place


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    """A Python that has `cache` at hand."""
    code = f"import sys; from archlang import cache; {code}"
    return subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, env=os.environ | environment
    )


def done(child: subprocess.Popen[str]) -> int:
    child.communicate()
    return child.returncode


def test_what_is_put_comes_back(folder: Path) -> None:
    value = {"text": "café \udcff\n", "sizes": [1, None, 2.5, True]}
    assert cache.get("build", KEY) is None
    cache.put("build", KEY, value)
    assert cache.get("build", KEY) == value
    assert (cache.get("check", KEY), cache.get("build", OTHER)) == (None, None)
    assert files(folder) == [f"build-{KEY}.json"]


def test_keys_follow_from_all_parts_and_not_from_the_order_of_names() -> None:
    keys = [
        cache.digest(*parts) for parts in [("a", "b"), ("ab",), ("b", "a"), (["a", "b"],), (1,), ("1",), ({"a": 1},)]
    ]
    assert len(set(keys)) == len(keys)
    assert cache.digest({"a": 1, "b": 2}) == cache.digest({"b": 2, "a": 1}) != cache.digest({"a": 2, "b": 1})


def test_only_the_user_can_read_what_is_kept(folder: Path) -> None:
    cache.put("build", KEY, 1)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert next(folder.iterdir()).stat().st_mode & 0o777 == 0o600


# ---- damage
def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_link(path: Path) -> None:
    path.replace(path.parent / "away")
    path.symlink_to(path.parent / "away")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "forged": lambda path: path.write_bytes(path.read_bytes().replace(b"good", b"evil")),
    "json alone": lambda path: path.write_bytes(b'{"text": "evil"}'),
    "pickle": lambda path: path.write_bytes(b"\x80\x04\x95cos\nsystem\n"),
    "of another key": lambda path: shutil.copy(path.with_name(f"build-{OTHER}.json"), path),
    "pipe": to_pipe,
    "link": to_link,
    "folder": to_folder,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_absent_and_is_replaced(folder: Path, kind: str) -> None:
    cache.put("build", KEY, {"text": "good"})
    cache.put("build", OTHER, {"text": "evil"})
    path = folder / f"build-{KEY}.json"
    DAMAGE[kind](path)
    assert cache.get("build", KEY) is None
    cache.put("build", KEY, {"text": "good"})
    assert cache.get("build", KEY) == (None if kind == "folder" else {"text": "good"})
    assert cache.get("build", OTHER) == {"text": "evil"}


def test_verify_removes_what_is_damaged(folder: Path) -> None:
    for i in range(4):
        cache.put("build", cache.digest(i), "good")
    for i in range(2):
        path = folder / f"build-{cache.digest(i)}.json"
        path.write_bytes(path.read_bytes().replace(b"good", b"evil"))
    (folder / "mine.txt").write_text("precious")
    assert cache.verify() == (2, 2)
    assert cache.verify() == (2, 0)
    assert cache.clear() == 2
    assert files(folder) == ["mine.txt"]


# ---- folders that cannot be used
def test_a_folder_that_others_can_write_is_not_used(folder: Path) -> None:
    cache.put("build", KEY, 1)
    folder.chmod(0o777)
    assert cache.get("build", KEY) is None
    cache.put("build", OTHER, 1)
    assert files(folder) == [f"build-{KEY}.json"]
    assert "written by other users" in cache.refusal()


def test_a_folder_of_another_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put("build", KEY, 1)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert (cache.get("build", KEY), cache.entries(), cache.clear()) == (None, [], 0)
    assert "another user" in cache.refusal()


def test_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_text("a file where the folder should be")
    cache.put("build", KEY, 1)
    assert (cache.get("build", KEY), cache.entries()) == (None, [])
    assert cache.refusal()
    monkeypatch.setenv("ARCHLANG_CACHE_DIR", "/proc/archlang")
    cache.put("build", KEY, 1)
    assert cache.get("build", KEY) is None


def test_the_platform_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ARCHLANG_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache.folder() == tmp_path / "archlang"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/archlang")  # there is no home
    cache.put("build", KEY, 1)
    assert cache.refusal() == "there is no home folder"
    assert not Path("~").exists()


def test_a_full_disk(folder: Path) -> None:
    """A limit on the size of files fails writes as a full disk does: in the middle."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        f"cache.put('build', {KEY!r}, 'x' * 5000); cache.put('build', {OTHER!r}, 'x')"
    )
    assert done(start(code)) == 0
    assert files(folder) == [f"build-{OTHER}.json"]


# ---- bounds
def test_what_was_used_longest_ago_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 4 * 1100)
    keys = [cache.digest(i) for i in range(5)]
    for age, key in enumerate(keys[:4]):
        cache.put("build", key, "x" * 1000)
        os.utime(folder / f"build-{key}.json", (1000 + age, 1000 + age))
    assert cache.get("build", keys[0])
    cache.put("build", keys[4], "x" * 1000)
    assert [bool(cache.get("build", key)) for key in keys] == [True, False, True, True, True]
    cache.put("build", OTHER, "x" * 4000)  # one entry may not push all others out
    assert cache.get("build", OTHER) is None
    assert len(files(folder)) == 4


def test_parts_of_a_killed_process_are_removed_when_they_are_old(folder: Path) -> None:
    cache.put("build", KEY, 1)
    old, new = (folder / f".build-{KEY}.json.{n}.part" for n in "12")
    for part in (old, new):
        part.write_text("half")
    os.utime(old, (time.time() - 2 * cache.LEFT_BEHIND,) * 2)
    cache.put("build", OTHER, 1)
    assert (old.exists(), new.exists()) == (False, True)
    assert cache.clear() == 3


# ---- many processes
WRITE = """
import random
cache.LIMIT = 60_000
for n in range({rounds}):
    i = random.randrange(30)
    key, value = cache.digest(i), [i] * 1000
    found = cache.get("build", key)
    assert found in (None, value), found
    cache.put("build", key, value)
"""


def test_sixteen_processes_share_a_cache(folder: Path) -> None:
    """They read, replace and evict the same entries at once, and none sees anything but whole ones."""
    code = WRITE.format(rounds=30)
    children = [start(f"exec({code!r})") for _ in range(16)]
    assert [done(child) for child in children] == [0] * 16
    sound, removed = cache.verify()
    assert sound > 5
    assert removed == 0
    assert not [name for name in files(folder) if name.endswith(".part")]
    assert sum(entry.size for entry in cache.entries()) <= 60_000


def killed(rounds: int) -> None:
    code = WRITE.format(rounds=10**9)
    chance = random.Random(0)
    for _ in range(rounds):
        child = start(f"print('go', flush=True); exec({code!r})")
        assert child.stdout
        assert child.stdout.readline() == "go\n"
        time.sleep(chance.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        assert done(child) == -signal.SIGKILL
    sound, removed = cache.verify()
    assert sound > 0
    assert removed == 0


def test_a_kill_leaves_whole_entries(folder: Path) -> None:
    killed(8)


@pytest.mark.slow
def test_many_kills_leave_whole_entries(folder: Path) -> None:
    killed(200)


# ---- the compiler
def test_a_changed_compiler_has_another_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("archlang", *fingerprint.DATA):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    digest, own = fingerprint.fingerprint.__wrapped__, fingerprint.fingerprint()
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path / "archlang")
    (tmp_path / "archlang" / "__pycache__").mkdir()
    (tmp_path / "archlang" / "__pycache__" / "x.pyc").write_text("no part of it")
    assert digest() == own
    for file in ("archlang/cli.py", "archlang/helpers/turn.py", "codegen/triton/scan.py.j2", "stdlib/ffn.arch"):
        text = (tmp_path / file).read_text()
        (tmp_path / file).write_text(text + "\n")
        assert digest() != own
        (tmp_path / file).write_text(text)
    (tmp_path / "archlang" / "cli.py").rename(tmp_path / "archlang" / "cli2.py")
    assert digest() != own


def test_a_zipped_compiler_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path / "archlang.whl" / "archlang")
    assert fingerprint.fingerprint.__wrapped__() is None


def test_versions_of_libraries_are_part_of_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name.partition("-")[0] for name in fingerprint._versions()}
    assert found >= {"torch", "jinja2", "networkx", "pydantic", "lark"}
    fingerprint.fingerprint.cache_clear()
    before = fingerprint.fingerprint()
    (tmp_path / "torch-99.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    fingerprint.fingerprint.cache_clear()
    assert fingerprint.fingerprint() != before
    fingerprint.fingerprint.cache_clear()


def test_entries_are_plain_json(folder: Path) -> None:
    cache.put("build", KEY, {"a": 1})
    checksum, text = (folder / f"build-{KEY}.json").read_text().split("\n")
    assert (len(checksum), json.loads(text)) == (64, {"a": 1})
