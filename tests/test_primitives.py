"""The index of primitives tells the truth, and every primitive states what it must."""

import importlib
import subprocess
import sys

import pytest

from archlang.primitive import Primitive
from archlang.primitives import CONSTRUCTS, FAMILIES

LOOK_UP_EACH_AFRESH = """
import sys
from archlang import primitive
from archlang.primitives import CONSTRUCTS
for name in CONSTRUCTS:
    primitive._REGISTRY.clear()
    for module in [m for m in sys.modules if m.startswith("archlang.primitives.")]:
        del sys.modules[module]
    assert CONSTRUCTS[name].name == name
"""


def test_the_index_knows_the_family_of_every_name() -> None:
    subprocess.run([sys.executable, "-c", LOOK_UP_EACH_AFRESH], check=True)


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_a_primitive_states_its_meaning(name: str) -> None:
    cls = CONSTRUCTS[name]
    assert cls.__doc__ and cls.name == name
    if issubclass(cls, Primitive) and not cls.lowered:
        for facet in ("infer", "emit", "reference"):
            assert getattr(cls, facet) is not getattr(Primitive, facet), facet


def test_every_registered_construct_is_in_the_index() -> None:
    from archlang.primitive import _REGISTRY

    for family in FAMILIES:
        importlib.import_module(f"archlang.primitives.{family}")
    assert set(_REGISTRY) == set(CONSTRUCTS)
