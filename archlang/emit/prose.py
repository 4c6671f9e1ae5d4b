"""Text of the user in comments and docstrings: it can say anything and do nothing."""

WIDTH = 120


def printable(text: str) -> str:
    """Control characters as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def comment(text: str) -> str:
    return f"# {printable(text)}"


def docstring(text: str, indent: str) -> str:
    """What stands between the triple quotes, wrapped; a text of several lines ends with a line of its own."""
    from inspect import cleandoc
    from textwrap import wrap

    escaped = [
        printable(line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')) for line in cleandoc(text).splitlines()
    ]
    lines = [
        part
        for line in escaped
        for part in (wrap(line, WIDTH - len(indent) - 7, break_long_words=False, break_on_hyphens=False) or [""])
    ]
    if len(lines) <= 1:
        whole = "".join(lines)
        return f'{whole[:-1]}\\"' if whole.endswith('"') and not whole.endswith('\\"') else whole
    return "\n".join([lines[0], *(f"{indent}{line}" if line else "" for line in lines[1:]), indent])
