"""The passes between elaboration and emission: `PIPELINE` is all of them, in order."""

from archlang.passes.options import Options, Purpose
from archlang.passes.pipeline import PIPELINE, Optimised, Pass, optimise

__all__ = ["PIPELINE", "Optimised", "Options", "Pass", "Purpose", "optimise"]
