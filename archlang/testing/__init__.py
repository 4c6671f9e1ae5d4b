"""The meaning of a graph, and the laws that operations and emitted code are held to."""

from archlang.testing.interpret import run
from archlang.testing.laws import check_emitted, check_law

__all__ = ["check_emitted", "check_law", "run"]
