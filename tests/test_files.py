"""Files are written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from archlang import files


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "made/net.py"
    files.write(path, "one\n")
    files.write(path, "näher\n")
    assert path.read_text("utf-8") == "näher\n"
    assert names(path.parent) == ["net.py"]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.py"
    files.write(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["net.py"]


def test_keeps_mode_and_link(tmp_path: Path) -> None:
    path, link = tmp_path / "net.py", tmp_path / "link.py"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    files.write(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write(pipe, "text")
        assert os.read(reader, 100) == b"text"
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    finally:
        os.close(reader)
