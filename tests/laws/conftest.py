"""Laws hold in double precision: it is the working type here."""

from collections.abc import Iterator

import pytest

from archlang.testing import laws


@pytest.fixture(autouse=True, scope="module")
def double_precision() -> Iterator[None]:
    with laws.double_precision():
        yield
