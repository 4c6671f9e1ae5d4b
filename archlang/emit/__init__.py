"""From the typed graph to the text of a Python file."""

from typing import Any


def load(text: str, name: str) -> Any:
    """Run emitted text once and return its class `name`. Tracebacks, `inspect.getsource` and torch.compile find the
    text; its modules can be copied and pickled.
    """
    import hashlib
    import linecache
    import sys
    from types import ModuleType

    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    module_name, file = f"archlang_emitted_{digest}", f"<archlang {name} {digest}>"
    if module_name in sys.modules:
        return getattr(sys.modules[module_name], name)
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = ModuleType(module_name)
    module.__file__ = file
    sys.modules[module_name] = module
    exec(compile(text, file, "exec"), module.__dict__)
    made = getattr(module, name)
    made.__reduce__ = lambda self: (_blank, (text, name), self.__dict__)
    return made


def _blank(text: str, name: str) -> Any:
    """A module without its parts: where a pickle is read, the text has not run yet."""
    made = load(text, name)
    return made.__new__(made)
