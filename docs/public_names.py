"""Which names are public, and which of them the pages of ``docs/api`` list: ``python docs/public_names.py`` tells what is missing.

Public is what stands in the ``__all__`` of a room. A page lists names in blocks ``{names} ROOM``, a name a line, a value with its
meaning after a colon.
"""

import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

PACKAGE = importlib.util.find_spec("jax4dstem")
PAGES = Path(__file__).with_name("api")
LISTS = re.compile(r"^```\{names\} (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def public_names() -> dict[str, object]:
    """Everything public by its full name: what rooms offer first, what the package itself offers last."""
    rooms = [
        f"jax4dstem.{room.name}"
        for room in pkgutil.iter_modules(PACKAGE.submodule_search_locations)
    ]
    found = {}
    for room in (*rooms, "jax4dstem"):
        module = importlib.import_module(room)
        found |= {
            f"{room}.{name}": getattr(module, name) for name in getattr(module, "__all__", ())
        }
    return {name: item for name, item in found.items() if not inspect.ismodule(item)}


def is_described(item: object) -> bool:
    """It has a docstring of its own, unlike a value."""
    return inspect.isclass(item) or inspect.isfunction(item)


def homes() -> dict[str, str]:
    """Where each public name is documented: in its room, also if the package repeats it."""
    first: dict[int, str] = {}
    return {
        full: first.setdefault(id(item), full) if is_described(item) else full
        for full, item in public_names().items()
    }


def listed(text: str) -> set[str]:
    """Full names that a page documents."""
    return {
        f"{room}.{line.partition(':')[0]}"
        for room, lines in LISTS.findall(text)
        for line in lines.split("\n")
        if line
    }


def documented() -> set[str]:
    """Full names that pages list."""
    return set().union(*(listed(page.read_text()) for page in PAGES.glob("*.md")))


def missing() -> list[str]:
    """Public names that no page lists."""
    return sorted(set(homes().values()) - documented())


def surplus() -> list[str]:
    """Names that a page lists although they are not public, or live in another room."""
    return sorted(documented() - set(homes().values()))


if __name__ == "__main__":
    print("\n".join(missing()) or "every public name is on a page")
