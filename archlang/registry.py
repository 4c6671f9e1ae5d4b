"""The constructs that are known to the language, by their names: how each one's class is made, once."""

from collections.abc import Callable
from functools import cache
from typing import Any

KNOWN: dict[str, Callable[[], Any]] = {}


def define(name: str, make: Callable[[], Any]) -> None:
    """Make a construct known; its class is made when it is first asked for."""
    assert name not in KNOWN, name
    KNOWN[name] = cache(make)
