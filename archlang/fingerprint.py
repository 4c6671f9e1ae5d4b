"""What the compiler itself is: a digest of its own text and of the versions that it stands on.

A cache that asks for it is right in a checkout too, where the compiler changes and its version does not.
"""

import os
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

PACKAGE = Path(__file__).parent
DATA = ("grammar", "codegen", "stdlib")
LIBRARIES = frozenset(("jinja2", "lark", "networkx", "pydantic", "torch"))


@cache
def fingerprint() -> str | None:
    """One digest for everything but the program at hand that a result can depend on; None where the compiler is not
    made of files, as in a zipped wheel.
    """
    if not PACKAGE.is_dir():
        return None
    found = sha256(f"{sys.version} {sorted(_versions())}".encode())
    for path in sorted(_files()):
        found.update(sha256(Path(path).read_bytes()).digest())
        found.update(path.removeprefix(str(PACKAGE.parent)).encode())
    return found.hexdigest()


def _files() -> Iterator[str]:
    """Sources, templates, grammar and standard library: inside the package in a wheel, beside it in a checkout."""
    beside = [PACKAGE.parent / name for name in DATA if not (PACKAGE / name).is_dir()]
    for top in (PACKAGE, *beside):
        for folder, inner, names in os.walk(top):
            inner[:] = [name for name in inner if name != "__pycache__"]
            yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118 - hundreds of them, at each start


def _versions() -> Iterator[str]:
    """`torch-2.13.0.dist-info` and its like, which is all that `importlib.metadata` would read, at a fiftieth of its
    cost.
    """
    for place in filter(os.path.isdir, sys.path):
        for name in os.listdir(place):  # noqa: PTH208
            base, _, rest = name.partition("-")
            if base.lower() in LIBRARIES and rest.endswith((".dist-info", ".egg-info")):
                yield name
