"""Choice by measurement: what implementations there are, what was measured of them, and what a model expects."""

from archlang.tuning.candidates import candidates
from archlang.tuning.cases import Case, case
from archlang.tuning.configs import configurations, fastest
from archlang.tuning.device import device
from archlang.tuning.model import expected
from archlang.tuning.record import Record, choose, loads, read

__all__ = [
    "Case",
    "Record",
    "candidates",
    "case",
    "choose",
    "configurations",
    "device",
    "expected",
    "fastest",
    "loads",
    "read",
]
