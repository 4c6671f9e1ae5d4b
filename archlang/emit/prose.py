"""Text of the user in comments and docstrings: it can say anything and do nothing."""

from collections.abc import Sequence
from itertools import groupby

WIDTH = 120


def printable(text: str) -> str:
    """Control characters as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def comment(text: str) -> str:
    return f"# {printable(text)}"


def docstring(text: str, indent: str) -> str:
    """What stands between the triple quotes, wrapped; a text of several lines ends with a line of its own."""
    from inspect import cleandoc

    escaped = [
        printable(line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')) for line in cleandoc(text).splitlines()
    ]
    paragraphs = [list(group) for _, group in groupby(escaped, bool)]
    lines = [line for paragraph in paragraphs for line in _filled(paragraph, WIDTH - len(indent) - 7)]
    if lines and lines[0].startswith('"'):  # formatters would move it away from the quotes
        lines[0] = f"\\{lines[0]}"
    if len(lines) <= 1:
        return _closed("".join(lines))
    return "\n".join([lines[0], *(f"{indent}{line}" if line else "" for line in lines[1:]), indent])


def _filled(paragraph: Sequence[str], width: int) -> Sequence[str]:
    """The lines as they are where they fit, else filled anew."""
    if all(len(line) <= width for line in paragraph):
        return paragraph
    from textwrap import wrap

    return wrap(" ".join(paragraph), width, break_long_words=False, break_on_hyphens=False)


def _closed(line: str) -> str:
    """A line that the closing quotes may follow."""
    body = line.removesuffix('"')
    backslashes = len(body) - len(body.rstrip("\\"))
    return f'{body}\\"' if line != body and backslashes % 2 == 0 else line


def fstring(body: str) -> str:
    """An f-string, in the quotes that need fewer escapes; braces and control characters are escaped already."""
    quote = "'" if body.count('"') > body.count("'") else '"'
    escaped = body.replace(quote, f"\\{quote}")
    return f"f{quote}{escaped}{quote}"
