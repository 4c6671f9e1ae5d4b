"""The templates of `codegen/`."""

from functools import cache
from typing import Any

from archlang.resources import read_text


@cache
def template(file: str) -> Any:
    """The template in a file of `codegen/`."""
    from jinja2 import BaseLoader, Environment, StrictUndefined

    return Environment(
        loader=BaseLoader(),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        undefined=StrictUndefined,
    ).from_string(read_text("codegen", file))
