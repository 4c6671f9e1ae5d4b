"""Foreign operations: declared in the text, run only with permission, and written as plain calls."""

import sys
from pathlib import Path

import pytest
import torch

import archlang

NET = """
foreign twist from python "outside_ops:twist" (x: [b, n, c], y: [b, n, c]) -> [b, n, c]
foreign halves from python "outside_ops:halves" (x: [b, .., c]) -> (low: [b, .., c], high: [b, .., c])
model net() {
  input x: [b, c = 4, n]
  outside_ops = x -> linear(4) as fc
  low, high = twist(x, outside_ops) -> halves
  output y: [b, n, c = 4] = low + high * 2
}
"""
OPS = """
def twist(x, y):
    return x.flip(1) - y
def halves(x):
    return x / 2, x
"""


@pytest.fixture(autouse=True)
def outside_ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_ops.py").write_text(OPS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("outside_ops", None)


def test_the_function_gets_its_axes_in_the_declared_order() -> None:
    module = archlang.loads(NET).net().module(seed=0, allow_python=["outside_ops"])
    x = torch.randn(2, 4, 3)
    given = x.transpose(1, 2)
    twisted = given.flip(1) - module.fc(given)
    torch.testing.assert_close(module(x), twisted * 2.5)


def test_nothing_is_imported_without_permission() -> None:
    network = archlang.loads(NET).net()
    assert "import outside_ops" in network.source()
    with pytest.raises(archlang.ArchError, match="`twist` runs Python from `outside_ops`"):
        network.module(allow_python=["other"])
    assert "outside_ops" not in sys.modules


@pytest.mark.parametrize(
    ("target", "words"),
    [("missing_ops:f", "cannot be imported"), ("outside_ops:absent", "has no `absent`")],
)
def test_what_is_not_found_is_an_error(target: str, words: str) -> None:
    network = archlang.loads(NET.replace("outside_ops:twist", target)).net()
    with pytest.raises(archlang.ArchError, match=words):
        network.module(allow_python=["missing_ops", "outside_ops"])


@pytest.mark.parametrize("target", ["os", "os:system()", "a b:c", "x:y; import os", "__import__('os'):x"])
def test_a_target_is_a_module_and_a_function(target: str) -> None:
    with pytest.raises(archlang.ArchError, match="does not name a function"):
        archlang.loads(NET.replace("outside_ops:twist", target)).net()
