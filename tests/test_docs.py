"""The documentation is true: its code compiles, its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = [
    (page, i, text)
    for page in PAGES
    for i, text in enumerate(re.findall(r"```arch\n(.*?)```", page.read_text("utf-8"), re.DOTALL))
]


@pytest.mark.parametrize(("page", "text"), [(p, t) for p, _, t in CODE], ids=[f"{p.stem}{i}" for p, i, _ in CODE])
def test_code_compiles(page: Path, text: str) -> None:
    import archlang

    assert [d.title for d in archlang.loads(text).check()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")) if not re.match(r"https?:|#", link)]
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []
