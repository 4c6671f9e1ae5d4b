"""The kernel of a chain, forward and backward, written from its operations; that of a scan whose body is one.

`forms` say what each operation is in numbers, on a `tape`; `slopes` go back along it; `text` and `scan` write both
down.
"""

from typing import Any

from archlang.emit.chains import scan, text
from archlang.ir import Chain, FusedScan

__all__ = ["features", "template"]


def template(op: Chain | FusedScan) -> str:
    """The file of `codegen/triton/` that holds the kernel of an operation."""
    return op.name if isinstance(op, Chain) else "scan"


def features(op: Chain | FusedScan, name: str) -> dict[str, Any]:
    """The names, statements and results of the kernels of an operation."""
    return text.features(op, name) if isinstance(op, Chain) else scan.features(op, name)
