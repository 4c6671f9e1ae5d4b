"""Draws docs/pictures/*.svg, who sees whom in attention: `python -m docs.make_pictures` asks the emitted networks.

With q = 0 every key that a query sees weighs the same, and with one channel of v per position, the result at a query
is positive in the channels of the positions that it sees.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import archlang

FOLDER = Path(__file__).parent / "pictures"
SIDE, LENGTH, CELL, GAP = 12, 24, 8, 12
QUERIES = ((5, 4), (0, 11))  # one inside the map and one at its border
MAPS = {  # by the name of the picture: the domain on a map of h x w
    "full": "full",
    "windows": "windows(4)",
    "windows_shift": "windows(4, shift = 2)",
    "windows_dilation": "windows(3, dilation = 2)",
    "grid": "grid(4)",
    "stripes": "stripes(h = 2)",
    "axial": "axial(h)",
    "sliding_space": "sliding(3)",
    "neighborhood": "neighborhood(5)",
    "neighborhood_dilation": "neighborhood(3, dilation = 2)",
    "radius": "radius(4)",
    "meet": "radius(5) & sliding([h = 6, w = 2])",
}
LINES = {  # and on time
    "causal": "causal",
    "sliding": "sliding(5)",
    "chunks": "chunks(6)",
    "neighborhood_time": "neighborhood(5)",
}
GREY, SEEN, QUERY = "#e8e8ec", "#7aa6da", "#1f3b63"

ON_MAP = """model seen {{
  input q: [b, h = {side}, w = {side}, c = 1]
  input v: [b, h = {side}, w = {side}, c = {count}]
  output seen = attend(q, q, v, over = {over})
}}"""
ON_TIME = """model seen {{
  input q: [b, t = {length}, c = 1]
  input v: [b, t = {length}, c = {length}]
  output seen = attend(q, q, v, over = {over})
}}"""


def sees(over: str, on_time: bool) -> Any:
    """bool[query, key] over flattened positions."""
    import torch

    count = LENGTH if on_time else SIDE * SIDE
    text = (ON_TIME if on_time else ON_MAP).format(side=SIDE, count=count, length=LENGTH, over=over)
    shape = [1, LENGTH] if on_time else [1, SIDE, SIDE]
    module = archlang.loads(text).architecture("seen").module().eval()
    with torch.no_grad():
        result = module(torch.zeros(*shape, 1), torch.eye(count).reshape(*shape, count))
    return result.reshape(count, count) > 0


def panel(seen: Any, left: int, query: int | None) -> Iterator[tuple[str, str]]:
    """The colour and outline of every square of a bool matrix; the query is one square, or the diagonal."""
    for row, line in enumerate(seen.tolist()):
        for column, lit in enumerate(line):
            here = row == column if query is None else row * len(line) + column == query
            outline = f"M{left + column * CELL} {row * CELL}h{CELL - 1}v{CELL - 1}h{1 - CELL}z"
            yield QUERY if here else SEEN if lit else GREY, outline


def picture(over: str, on_time: bool) -> str:
    """Two maps, each with a query and what it sees, or a matrix with a row per query."""
    seen = sees(over, on_time)
    if on_time:
        panels, width, height = [panel(seen, 0, None)], LENGTH * CELL, LENGTH * CELL
    else:
        places = [h * SIDE + w for h, w in QUERIES]
        step = SIDE * CELL + GAP
        panels = [panel(seen[at].reshape(SIDE, SIDE), i * step, at) for i, at in enumerate(places)]
        width, height = step * len(places) - GAP, SIDE * CELL
    outlines: dict[str, list[str]] = {GREY: [], SEEN: [], QUERY: []}
    for colour, outline in chain(*panels):
        outlines[colour].append(outline)
    paths = "\n".join(f'<path fill="{colour}" d="{"".join(drawn)}"/>' for colour, drawn in outlines.items() if drawn)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<title>{over}</title>\n{paths}\n</svg>\n'


def pictures() -> dict[str, str]:
    """All of them by file name."""
    drawn = {f"{name}.svg": picture(over, on_time=False) for name, over in MAPS.items()}
    return drawn | {f"{name}.svg": picture(over, on_time=True) for name, over in LINES.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in pictures().items():
        (FOLDER / file).write_text(text, "utf-8")
