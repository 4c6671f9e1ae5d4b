"""Writing files: whole or not at all."""

import os
from pathlib import Path


def write(path: Path, data: str | bytes) -> None:
    """Put `data` in the place of `path` at once; a failure leaves what was there. Missing folders are made."""
    content = data.encode("utf-8") if isinstance(data, str) else data
    path = path.resolve()  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a device or pipe cannot be replaced
        path.write_bytes(content)
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write_new(beside, content, path.stat().st_mode & 0o777 if path.exists() else 0o666)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def is_generated(path: Path) -> bool:
    """Whether a file is empty or carries the header of a generated one."""
    with path.open("rb") as file:
        start = file.read(8192)
    return not start or b"# Made by archlang " in start
