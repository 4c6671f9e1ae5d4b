"""Data classes whose frozenness is for the type checker, which finds whoever assigns to a field.

At run time nothing looks: to write the code of such checks, and to run it, takes a twentieth of a cold build.
"""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: Any = None, /, *, frozen: bool = False, eq: bool = True, **options: Any) -> Any:
        """`dataclasses.dataclass`; what is frozen and compared by value is hashed by value."""
        if cls is None:
            return partial(dataclass, frozen=frozen, eq=eq, **options)
        hashed = frozen and eq and "__hash__" not in vars(cls)
        return dataclasses.dataclass(cls, eq=eq, unsafe_hash=hashed, **options)
