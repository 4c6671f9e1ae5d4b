"""The data folders grammar/, codegen/ and stdlib/: inside the package in a wheel, beside it in a checkout."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def folder(name: str) -> "Traversable":
    """The data folder `name`; works from a wheel, a zipped wheel, an editable install and a checkout."""
    package = Path(__file__).parent
    for place in (package / name, package.parent / name):
        if place.is_dir():
            return place
    from importlib.resources import files  # slow to import, and needed only in a zip

    return files("archlang") / name


def read_text(name: str, file: str) -> str:
    """The text of `file` (which may have folders in it) in data folder `name`."""
    return folder(name).joinpath(*file.split("/")).read_text(encoding="utf-8")
