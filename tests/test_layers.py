"""The layers hold: imports point down, each library has one door, importing never loads torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "archlang"

# From the ground up: a module imports only from its own line and those above it.
LAYERS = """\
data
source resources files codes cache fingerprint
diagnostics
syntax
sizes
facts
shapes
lexer builder mistakes
parser formatter
named memory term emission
primitive
primitives
helpers
ir
elaborate
analysis foreign
tuning
rewrite
passes
emit
checkpoint
architecture
compile
tuner
testing
products feed console
measure kernel_tuner
cli_cache cli_options cli_tune
cli""".splitlines()
RANK = {name: rank for rank, line in enumerate(LAYERS) for name in line.split()}
DOORS = {
    "lark": ["parser"],
    "networkx": ["ir"],
    "jinja2": ["emit"],
    "typer": ["cli", "cli_cache", "cli_options", "cli_tune", "console"],
    "rich": ["console"],
}
FILES = sorted(p for p in PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_at_once(tree: ast.AST) -> Iterator[str]:
    """What importing the module imports: not what stands in function bodies or under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            continue
        yield from imported(node) if isinstance(node, ast.Import | ast.ImportFrom) else imported_at_once(node)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    own = layer(path)
    for name in imported(tree):
        library, _, inner = name.partition(".")
        assert own in DOORS.get(library, [own]), f"{library} has one door, {DOORS[library]}, and {path.name} is not it"
        if library == "archlang" and inner.split(".")[0] in RANK and own in RANK:
            assert RANK[inner.split(".")[0]] <= RANK[own], f"{path.name} imports {name}, which stands above it"


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if layer(path) not in ("helpers", "testing")],  # code that runs with torch
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_importing_never_loads_torch(path: Path) -> None:
    loaded = {name.split(".")[0] for name in imported_at_once(ast.parse(path.read_text("utf-8")))}
    assert not loaded & {"torch", "triton", "numpy", "safetensors", "PIL"}


def test_every_module_has_a_layer() -> None:
    assert {layer(path) for path in FILES} - {"__init__", "__main__"} <= set(RANK)


@pytest.mark.parametrize("folder", ["grammar", "codegen", "stdlib"])
def test_data_folders_hold_data(folder: str) -> None:
    assert not list((ROOT / folder).rglob("*.py"))
