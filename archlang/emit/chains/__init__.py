"""The kernel of a chain, forward and backward, written from its operations; that of a scan whose body is one.

`forms` say what each operation is in numbers, on a `tape`; `slopes` go back along it; `text` and `scan` write both
down.
"""

from typing import Any

from archlang.emit.chains import scan, text, tiled
from archlang.ir import Chain, FusedScan, TiledScan

__all__ = ["features", "template"]


def template(op: Chain | FusedScan) -> str:
    """The file of `codegen/triton/` that holds the kernel of an operation."""
    return "scan" if type(op) is FusedScan else op.name


def features(op: Chain | FusedScan, name: str) -> dict[str, Any]:
    """The names, statements and results of the kernels of an operation."""
    if isinstance(op, TiledScan):
        return tiled.features(op, name)
    return text.features(op, name) if isinstance(op, Chain) else scan.features(op, name)
