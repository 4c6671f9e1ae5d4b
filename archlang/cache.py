"""What was made before, kept in the user's cache folder as JSON: checked by hash, and never run or unpickled.

An entry is one file, `KIND-KEY.json`: a checksum of its name and content, then the content. It comes into its place
whole, by a rename, so that neither a kill nor other processes leave half of one, and there is no lock. What is damaged
or foreign is as good as absent. Where the folder cannot be used, nothing is kept and nothing fails.
"""

import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

LIMIT = 256 * 2**20  # bytes: what was used longest ago goes first
LEFT_BEHIND = 600  # seconds: a part so old is of a process that is gone
ENTRY = re.compile(r"(?P<kind>[a-z]+)-[0-9a-f]{64}\.json")
PART = re.compile(r"\.[a-z]+-[0-9a-f]{64}\.json\.[0-9a-f]+\.part")
FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def digest(*parts: object) -> str:
    """The key of what follows from these parts alone: numbers, texts, lists, mappings with names."""
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def get(kind: str, key: str) -> Any:
    """What was put there, or None."""
    name = _name(kind, key)
    with suppress(OSError, ValueError):
        path = _usable(make=False) / name
        value = _content(name, _read(path))
        with suppress(OSError):
            os.utime(path)
        return value
    return None


def put(kind: str, key: str, value: Any) -> None:
    """Keep a value of plain data, if that can be done."""
    name, text = _name(kind, key), json.dumps(value).encode()
    with suppress(OSError):
        folder = _usable(make=True)
        if len(text) <= LIMIT // 4:
            _write(folder / name, f"{_checksum(name, text)}\n".encode() + text)
            _trim(folder)


# ---- the folder
def folder() -> Path:
    """Where entries are kept: ARCHLANG_CACHE_DIR, else the platform's folder for caches."""
    if chosen := os.environ.get("ARCHLANG_CACHE_DIR"):
        return Path(chosen).absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("archlang", appauthor=False))


def refusal() -> str:
    """Why nothing is kept; empty where something can be."""
    try:
        if not os.access(_usable(make=True), os.W_OK):
            return "it cannot be written"
    except OSError as failure:
        return failure.strerror or str(failure)
    return ""


def _usable(make: bool) -> Path:
    """The folder. Raises `OSError` where it is missing, or where another user could have put something into it."""
    place = folder()
    if not place.is_absolute():
        raise OSError("there is no home folder")
    if make:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.stat()
    if hasattr(os, "geteuid") and {found.st_uid, place.lstat().st_uid} != {os.geteuid()}:
        raise PermissionError(f"{place} belongs to another user")
    if os.name == "posix" and found.st_mode & 0o022:
        raise PermissionError(f"{place} can be written by other users")
    return place


# ---- entries
def _name(kind: str, key: str) -> str:
    return f"{kind}-{key}.json"


def _checksum(name: str, text: bytes) -> str:
    return sha256(name.encode() + b"\n" + text).hexdigest()


def _content(name: str, data: bytes) -> Any:
    """The value of an entry; raises `ValueError` where it is not what was put under this name."""
    checksum, _, text = data.partition(b"\n")
    if checksum.decode() != _checksum(name, text):
        raise ValueError(f"{name} is damaged")
    return json.loads(text)


def _read(path: Path) -> bytes:
    """The bytes of a plain file; neither a link nor a pipe is followed."""
    with os.fdopen(os.open(path, FLAGS), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no plain file")
        return file.read(LIMIT)


def _write(path: Path, data: bytes) -> None:
    """All of the entry or none of it. A power cut may lose it: then its checksum does not hold."""
    part = path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache: what kind it holds (empty for a part that was never finished), its bytes, its last use."""

    path: Path
    kind: str
    size: int
    used: float


def _entries(place: Path) -> Iterator[Entry]:
    with os.scandir(place) as found:
        for item in found:
            match = ENTRY.fullmatch(item.name)
            if not match and not PART.fullmatch(item.name):
                continue
            with suppress(OSError):  # another process has just removed it
                about = item.stat(follow_symlinks=False)
                yield Entry(Path(item.path), match["kind"] if match else "", about.st_size, about.st_mtime)


def _trim(place: Path) -> None:
    """Remove what was used longest ago until the rest fits, and the parts of processes that are gone."""
    total, now = 0, time.time()
    for entry in sorted(_entries(place), key=lambda entry: entry.used, reverse=True):
        total += entry.size
        if total > LIMIT or (not entry.kind and entry.used < now - LEFT_BEHIND):
            _remove(entry)


def _remove(entry: Entry) -> bool:
    with suppress(OSError):
        entry.path.unlink()
        return True
    return False


# ---- for people
def entries() -> list[Entry]:
    """Everything that is kept; nothing where the folder cannot be used."""
    with suppress(OSError):
        return sorted(_entries(_usable(make=False)), key=lambda entry: entry.path.name)
    return []


def clear() -> int:
    """Remove every entry; how many there were."""
    return sum(_remove(entry) for entry in entries())


def verify() -> tuple[int, int]:
    """Read every entry, and remove those that are damaged: how many are sound, and how many were removed."""
    kept = [entry for entry in entries() if entry.kind]
    damaged = [entry for entry in kept if not _is_sound(entry)]
    return len(kept) - len(damaged), sum(map(_remove, damaged))


def _is_sound(entry: Entry) -> bool:
    with suppress(OSError, ValueError):
        _content(entry.path.name, _read(entry.path))
        return True
    return False
