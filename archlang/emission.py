"""What an operation may ask of the writer of a module."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from archlang.shapes import Axis, TensorType
from archlang.sizes import Size
from archlang.term import Term


class Emission(Protocol):
    """What `emit` may ask of the writer of a module. Numbers always go through `const` or `size`, so that equal modules
    become one class.
    """

    inputs: tuple[Any, ...]  # the types of the node at hand, as `Types.inputs`
    outputs: tuple[TensorType, ...]

    def const(self, value: Any) -> str:
        """A compile-time constant (number, tuple of numbers): a literal, or an argument of `__init__` where instances
        differ.
        """

    def option(self, value: Any, default: Any) -> str:
        """A constant as the last argument of a call, after a comma; nothing where it is the default there."""

    def size(self, size: Size) -> str:
        """A size: a constant, or an expression in the sizes of the inputs."""

    def permute(self, term: Term, order: Iterable[str]) -> Term:
        """The same tensor with its axes in another physical order (`.permute` or `.transpose`; nothing where it is
        already so).
        """

    def last(self, term: Term, names: Iterable[str]) -> Term:
        """The same tensor with these axes last, in this order, the others before them as they are."""

    def flat(self, term: Term, names: Iterable[str], name: str) -> Term:
        """These axes last and flattened into one axis `name` (nothing to flatten where there is one; a new axis of size
        1 for none).
        """

    def split(self, term: Term, name: str, axes: Iterable[Axis]) -> Term:
        """The axis `name` split into several in its place (`.unflatten`), the first the slowest; dropped (`.squeeze`)
        where there are none.
        """

    def align(self, *terms: Term) -> tuple[Term, ...]:
        """The terms with orders such that they broadcast against each other: permuted to the order of the widest,
        missing axes inserted.
        """

    def module(self, constructor: str, *arguments: str, **named: str) -> str:
        """Declare the module that holds this node's weights (`nn.Linear` or a helper class) and return how `forward`
        reaches it.
        """

    def weight(self, leaf: str) -> str:
        """How `forward` reaches one weight of this node's module."""

    def initialise(self, leaf: str, init: Any) -> None:
        """Start a weight in `__init__` with an `Init` other than its module's own."""

    def buffer(self, hint: str, code: str) -> str:
        """A constant tensor made once in `__init__` (a non-persistent buffer) and how `forward` reaches it."""

    def standing_in(self, op: Any, *inputs: Any) -> "Emission":
        """The writer for another operation, with these types of inputs, in the place of the node at hand."""

    def helper(self, name: str) -> str:
        """Paste a function or class of archlang/helpers into the module; returns its name."""

    def kernel(self, helper: str) -> bool:
        """Whether a kernel stands in for a helper here."""

    def bind(self, term: Term, hint: str, part: bool = False) -> Term:
        """Give an intermediate value a name because it is used twice; a `part` is not called as the result will be."""

    def unless_zero(self, value: Any, term: Term, code: str) -> Term:
        """`code`, which holds `term` once; just `term` in a class all of whose instances have the `value` 0. One class
        serves rates of 0 and others.
        """

    def unpack(self, code: str, *orders: tuple[str, ...]) -> tuple[Term, ...]:
        """The outputs of an expression for a tuple of tensors, one per order: `value, index = scores.topk(2)`."""

    def unpack_list(self, code: str, items: Sequence[tuple[str, ...]], *orders: tuple[str, ...]) -> tuple[Term, ...]:
        """The outputs of an expression for a list (of so many tensors with these orders) and further tensors."""

    def sequence(self, terms: Iterable[Term]) -> str:
        """The terms as a list: its name, where they are all items of one."""

    def working(self) -> str:
        """The dtype that the working type `float` has at run time: that of a float input or weight of the module
        (`x.dtype`), else torch's default.
        """

    def device(self) -> str:
        """The device that the module runs on: that of an input or weight of it (`x.device`)."""

    def past(self, axis: Axis) -> str:
        """In a module that decodes: how many positions of a time axis came before those at hand."""

    def carried(self, hint: str, constructor: str, *shape: Size | None, along: Axis | None = None) -> str:
        """Declare a module that holds what positions leave to later ones (`CarriedState` or a kind of it, of this
        shape, the samples first; by position of the axis `along`), and how `forward` reaches it.
        """
