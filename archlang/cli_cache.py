"""`archlang cache`: what is kept, and how to be rid of it."""

import typer

from archlang import cache, console
from archlang.console import AsFormat, Format

app = typer.Typer(help="What was made before, kept in the user's cache folder.", no_args_is_help=True)


@app.command("info")
def info(format: AsFormat = Format.text) -> None:
    """Say where the cache is, and what it holds."""
    kept, refusal = cache.entries(), cache.refusal()
    total = sum(entry.size for entry in kept)
    kinds = {kind: sum(entry.kind == kind for entry in kept) for kind in sorted({e.kind for e in kept} - {""})}
    if format is Format.json:
        about = {"folder": str(cache.folder()), "bytes": total, "limit": cache.LIMIT, "entries": kinds}
        console.document({"ok": not refusal, **about, "refusal": refusal})
        return
    rows = [("folder", str(cache.folder())), ("holds", f"{console.size(total)} of {console.size(cache.LIMIT)}")]
    rows += [(kind, console.plural(number, "file")) for kind, number in kinds.items()]
    console.table([*rows, *([("unused", refusal)] if refusal else [])])


@app.command("clear")
def clear(format: AsFormat = Format.text) -> None:
    """Remove everything from the cache."""
    removed = cache.clear()
    if format is Format.json:
        console.document({"ok": True, "removed": removed})
    else:
        console.table([("removed", console.plural(removed, "file"))])


@app.command("verify")
def verify(format: AsFormat = Format.text) -> None:
    """Check every entry of the cache against its checksum, and remove those that are damaged."""
    sound, removed = cache.verify()
    if format is Format.json:
        console.document({"ok": True, "sound": sound, "removed": removed})
    else:
        console.table([("sound", console.plural(sound, "file")), ("removed", console.plural(removed, "file"))])
