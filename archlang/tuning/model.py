"""What a model expects of an implementation where nothing was measured: only on processors that it knows."""

from archlang.tuning.candidates import PLAIN
from archlang.tuning.cases import Case

FEW_ROWS = 8  # a product with fewer reads its weights once, and is as fast in any layout


def expected(case: Case, device: str, names: list[str]) -> str:
    """The implementation that is likely the fastest. On AMD torch's own products of matrices (MKL) are up to twice as
    slow as oneDNN's, and with few rows they lay out the weights anew; convolutions are faster with channels last.
    """
    if not device.startswith("AuthenticAMD") or "packed" not in names:
        return names[0]
    few = case.op == "linear" and dict(case.sizes)["rows"] < FEW_ROWS
    return PLAIN if few else "packed"
