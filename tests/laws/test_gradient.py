"""Values that no gradient goes through, alone and beside what it does go through."""

import torch
from hypothesis import given

import archlang
from archlang.primitives.gradient import StopGradient
from archlang.shapes import TensorType
from archlang.testing.laws import check_law
from archlang.testing.networks import check_network
from archlang.testing.strategies import tensor_types

THROUGH = """
block rounded()(x: [b, n, c]) -> [b, n, c] = x + stop_gradient(round(x) - x)
model net {
  input x: [b, n, c = 3]
  output y = x -> linear(4) as before -> rounded -> linear(2) as after
}
"""
CODES = """
block codes(count: int)(x: [b, n, c]) -> [b, n, c] {
  param book: [code = count, c] = normal
  far = sum(square(book), on = c) - 2 * dot(x, book, on = c)
  near = book[code = argmin(far, on = code)]
  loss code = mean(square(near - stop_gradient(x)), on = all)
  loss commit = mean(square(x - stop_gradient(near)), on = all)
  return x + stop_gradient(near - x)
}
model net { input x: [b, n, c = 3]
output y = x -> linear(3) as before -> codes(5) as codes }
"""


@given(tensor_types())
def test_the_value_is_that_of_x(x: TensorType) -> None:
    check_law(StopGradient(), x, gradients=False)


def test_straight_through() -> None:
    """Rounded forwards, the identity backwards."""
    network = archlang.loads(THROUGH).net()
    check_network(network, {"b": 2, "n": 4})
    module = network.module(seed=0)
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    module(x).sum().backward()
    slope = module.after.weight.sum(0)[:, None] * x.sum((0, 1))
    torch.testing.assert_close(module.before.weight.grad, slope)
    assert torch.equal(module.after(module.before(x).round()), module(x))


def test_a_book_of_codes_learns_by_its_loss_alone() -> None:
    network = archlang.loads(CODES).net()
    check_network(network, {"b": 2, "n": 4})
    module = network.module(seed=0).train()
    module(torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert module.codes.book.grad is None and module.before.weight.grad.abs().max() > 0
    module(torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)))
    module.losses["code"][0].backward()
    assert module.codes.book.grad.abs().max() > 0
