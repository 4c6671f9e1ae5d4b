"""The data folders grammar/, codegen/ and stdlib/: inside the package in a wheel, beside it in a checkout."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def folder(name: str) -> Traversable:
    """The data folder `name`; works from a wheel, a zipped wheel, an editable install and a checkout."""
    inside = files("archlang") / name
    return inside if inside.is_dir() else Path(__file__).parent.parent / name


def read_text(name: str, file: str) -> str:
    """The text of `file` (which may have folders in it) in data folder `name`."""
    return folder(name).joinpath(*file.split("/")).read_text(encoding="utf-8")
