"""The kernel of a chain, forward and backward, written from its operations.

`forms` say what each operation is in numbers, on a `tape`; `slopes` go back along it; `text` writes both down.
"""

from archlang.emit.chains.text import features

__all__ = ["features"]
