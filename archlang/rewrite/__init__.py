"""Rewriting: rules that look like their laws, and the driver that applies them safely."""

from archlang.rewrite.driver import everywhere, rewrite
from archlang.rewrite.record import Event, Record, describe, difference, report
from archlang.rewrite.rule import Exactness, Match, No, Result, Rule, rule

__all__ = [
    "Event",
    "Exactness",
    "Match",
    "No",
    "Record",
    "Result",
    "Rule",
    "describe",
    "difference",
    "everywhere",
    "report",
    "rewrite",
    "rule",
]
