"""Laws hold in double precision: it is the working type here."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def double_precision() -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
