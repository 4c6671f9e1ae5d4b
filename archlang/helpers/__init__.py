"""Python that emitted code may contain: one public function or class a file, pasted as source and never imported."""

import ast
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Helper:
    """The text of a helper without its imports, the imports, and the other helpers that it calls."""

    text: str
    imports: tuple[str, ...]
    needs: tuple[str, ...]


@cache
def known() -> frozenset[str]:
    """The files of helpers, by name without `.py`."""
    return frozenset(
        file.name[:-3] for file in files(__name__).iterdir() if file.name.endswith(".py") and file.name != "__init__.py"
    )


@cache
def helper(file: str) -> Helper:
    """The helper in `file` (a name without `.py`)."""
    return parsed(files(__name__).joinpath(f"{file}.py").read_text(encoding="utf-8"))


def parsed(source: str) -> Helper:
    """The text of a file apart: imports, other helpers, and what is pasted."""
    statements = ast.parse(source).body
    if isinstance(statements[0], ast.Expr):  # the docstring of the file
        del statements[0]
    imports = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    inner = [
        (node.module or "").removeprefix(f"{__name__}.")
        for node in imports
        if isinstance(node, ast.ImportFrom) and _inside(node)
    ]
    body = [node for node in statements if node not in imports]
    first = min([body[0].lineno, *(d.lineno for d in getattr(body[0], "decorator_list", []))])
    text = "".join(source.splitlines(keepends=True)[first - 1 :]).strip("\n")
    outer = tuple(ast.unparse(node) for node in imports if not (isinstance(node, ast.ImportFrom) and _inside(node)))
    return Helper(text, outer, tuple(inner))


def _inside(node: ast.ImportFrom) -> bool:
    return (node.module or "").startswith(f"{__name__}.")
