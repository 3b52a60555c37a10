"""Write the tables of recipe keys into recipe.md: ``python docs/recipe_keys.py``."""

from itertools import groupby
from pathlib import Path

from jax4dstem.pipeline import RecipeKey, recipe_keys

PAGE = Path(__file__).with_name("recipe.md")
BEGIN, END = "<!-- keys:", "<!-- end of keys -->"


def page_with_keys(page: str) -> str:
    """The page with the tables between its two marks replaced by today's."""
    before, found, rest = page.partition(BEGIN)
    mark, *_ = rest.splitlines()
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"recipe.md has lost its marks {BEGIN} and {END}")
    return f"{before}{BEGIN}{mark}\n{tables()}\n{END}{after}"


def tables() -> str:
    """One table per section."""
    lines: list[str] = []
    for section, keys in groupby(recipe_keys(), lambda key: (key.section, key.section_doc)):
        name, doc = section
        title = f"`[{name}]`: {doc}" if name else "At the top"
        lines += ["", f"## {title.rstrip('.')}", "", "| key | default | unit | allowed | meaning |"]
        lines += ["| --- | --- | --- | --- | --- |", *map(row, keys)]
    return "\n".join(lines)


def row(key: RecipeKey) -> str:
    """A key's line of its table."""
    cells = (f"`{key.name}`", f"`{key.default_text}`", key.doc.unit, key.range, key.doc.text)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page_with_keys(PAGE.read_text()))
