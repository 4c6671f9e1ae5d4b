"""The passes between elaboration and emission: `PIPELINE` is all of them, in order."""

from archlang.passes.options import Budget, Options, Purpose, budget
from archlang.passes.pipeline import PIPELINE, Optimised, Pass, optimise

__all__ = ["PIPELINE", "Budget", "Optimised", "Options", "Pass", "Purpose", "budget", "optimise"]
