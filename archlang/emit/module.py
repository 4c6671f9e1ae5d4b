"""The text of a module: what is imported, helpers, and classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

INNER, BODY = " " * 4, " " * 8


@dataclass(frozen=True, slots=True)
class View:
    """A class as it is shown."""

    name: str
    doc: str
    base: str
    arguments: Sequence[str]  # the head of `__init__`
    init: Sequence[str]
    derive: Sequence[str]
    signature: Sequence[str]  # the head of `forward`
    forward: Sequence[str]
    blocks: Sequence[str]  # what compiles blocks that repeat

    def lines(self) -> Iterator[str]:
        """The class, method by method."""
        yield f"class {self.name}({self.base}):"
        if self.doc:
            yield from (f'{INNER}"""{self.doc}"""', "")
        if self.init:
            yield from (INNER + line for line in self.arguments)
            yield f"{BODY}super().__init__()"
            yield from (BODY + line for line in self.init)
        if self.derive:
            yield from ("", f"{INNER}@torch.no_grad()", f"{INNER}def derive(self) -> None:")
            yield from (BODY + line for line in self.derive)
        if self.forward:
            yield from [""] * bool(self.init)
            yield from (INNER + line for line in self.signature)
            yield from (BODY + line for line in self.forward)
            yield from [""] * bool(self.blocks)
            yield from (INNER + line if line else "" for line in self.blocks)


def text(
    doc: str, header: Sequence[str], imports: Sequence[str], helpers: Sequence[str], classes: Sequence[View]
) -> str:
    """The file: two empty lines before what is a function or a class."""
    lines = [f'"""{doc}"""'] if doc else []
    lines += [*header, *([""] if doc or header else []), *imports]
    for index, helper in enumerate(helpers):
        lines += [*_apart(index > 0 or helper.startswith(("@", "class ", "def "))), helper]
    for view in classes:
        lines += [*_apart(True), *view.lines()]
    return "".join(f"{line}\n" for line in lines)


def _apart(far: bool) -> list[str]:
    return ["", ""] if far else [""]
