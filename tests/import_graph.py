"""Who imports what: every import of the package in a source, whatever its form, read without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

PACKAGE = "jax4dstem"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE
Where = Literal["module", "function", "typing"]


@dataclass(frozen=True)
class Import:
    """One imported module, or name of a module.

    Attributes:
        target: The module, such as "jax4dstem.strain.maps" or "numpy".
        name: The name that is taken from it; "" where the module itself is imported.
        bound: What it is called in the importing module.
        where: When it happens: with the module, when a function runs, for type checkers only.
    """

    target: str
    name: str
    bound: str
    where: Where

    @property
    def part(self) -> str:
        """The room or single module of the package that it lies in; "" for the package itself and others."""
        head, _, rest = self.target.partition(".")
        return rest.partition(".")[0] if head == PACKAGE else ""


def modules() -> dict[str, Path]:
    """Every module of the package and its file."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = [PACKAGE, *file.relative_to(ROOT).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax of a module of the package."""
    return ast.parse(MODULES[module].read_text())


@cache
def imports_of(module: str) -> list[Import]:
    """The imports of a module of the package."""
    inside = MODULES[module].name == "__init__.py"
    return list(_walk(tree_of(module).body, module if inside else module.rpartition(".")[0]))


def read_imports(source: str, package: str = "") -> Iterator[Import]:
    """The imports of a source; ``package`` is what its relative imports start from."""
    yield from _walk(ast.parse(source).body, package)


def _walk(
    nodes: list[ast.AST] | list[ast.stmt], package: str, where: Where = "module"
) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.asname or alias.name.partition(".")[0]
                yield Import(alias.name, "", whole, where)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                target, name = (inner, "") if inner in MODULES else (base, alias.name)
                yield Import(target, name, alias.asname or alias.name, where)
        elif isinstance(node, ast.Call) and _is_import_call(node):
            yield Import(node.args[0].value, "", "", where)  # type: ignore[attr-defined]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _walk(node.body, package, "typing")
            yield from _walk(node.orelse, package, where)
        else:
            lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            inside = "function" if lazy and where == "module" else where
            yield from _walk(list(ast.iter_child_nodes(node)), package, inside)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that ``from ... import`` names."""
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _is_import_call(node: ast.Call) -> bool:
    name = ast.unparse(node.func).rpartition(".")[2]
    literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
    return name in ("import_module", "__import__") and literal


def loads(module: str, kinds: tuple[Where, ...]) -> set[str]:
    """The modules of the package that importing a module brings in: what it names, and the rooms these lie in."""
    found = set()
    for item in imports_of(module):
        if item.target in MODULES and item.where in kinds:
            parents = item.target.split(".")
            rooms = {".".join(parents[:n]) for n in range(1, len(parents))}
            # The rooms that a module itself lies in are being loaded already.
            found |= {room for room in rooms if not f"{module}.".startswith(f"{room}.")}
            found.add(item.target)
    return found
