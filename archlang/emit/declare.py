"""`__init__`: the lines that make modules, parameters and buffers."""

from archlang.emit import names
from archlang.emit.draft import Declaration, Draft


def init_lines(draft: Draft) -> list[str]:
    """The declarations of a draft in order; those under `name.0`, `name.1` ... as one list."""
    groups: dict[str, dict[str, Declaration]] = {}
    for label, declaration in draft.declarations.items():
        if not label.startswith("@"):
            base, _, index = label.partition(".")
            groups.setdefault(base, {})[index] = declaration
    lines: list[str] = []
    for base, members in groups.items():
        lines += _single(base, members[""]) if "" in members else _several(base, members)
        for index, declaration in members.items():
            path = draft.reach(f"{base}.{index}" if index else base)
            lines += [f"{path}.{leaf} = nn.Parameter({code})" for leaf, code in declaration.starts]
    return lines


def _single(label: str, declaration: Declaration) -> list[str]:
    code = f"nn.Parameter({declaration.code})" if declaration.kind == "parameters" else declaration.code
    if not names.is_attribute(label):
        return [f'self._{declaration.kind}["{label}"] = {code}']
    if declaration.kind == "buffers":
        persistent = "" if declaration.persistent else ", persistent=False"
        return [f'self.register_buffer("{label}", {code}{persistent})']
    return [f"self.{label} = {code}"]


def _several(base: str, members: dict[str, Declaration]) -> list[str]:
    ordered = sorted(members, key=int)
    items = ", ".join(members[index].code for index in ordered)
    return _single(base, Declaration("modules", f"nn.ModuleList([{items}])"))
