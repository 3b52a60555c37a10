"""Write the tables of result fields into results.md: ``python docs/result_fields.py``."""

from itertools import groupby
from pathlib import Path

from jax4dstem import Results

PAGE = Path(__file__).with_name("results.md")
BEGIN, END = "<!-- fields:", "<!-- end of fields -->"
HEAD = ["| dataset | dimensions | units | content |", "| --- | --- | --- | --- |"]


def page_with_fields(page: str) -> str:
    """The page with the tables between its two marks replaced by today's."""
    before, found, rest = page.partition(BEGIN)
    mark, *_ = rest.splitlines()
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"results.md has lost its marks {BEGIN} and {END}")
    return f"{before}{BEGIN}{mark}\n{tables()}\n{END}{after}"


def tables() -> str:
    """One table per group at the top of the file."""
    layout = sorted(Results.layout().items(), key=lambda item: item[0].partition("/")[0])
    lines: list[str] = []
    for group, items in groupby(layout, lambda item: item[0].partition("/")[0]):
        lines += ["", f"### `{group}`", "", *HEAD, *rows(dict(items))]
    return "\n".join(lines)


def rows(layout: dict) -> list[str]:
    """A line per dataset; what several ways to strain give alike is one line."""
    alike: dict[tuple, list[str]] = {}
    for path, about in layout.items():
        alike.setdefault((path.rpartition("/")[2], about), []).append(path)
    return [row(paths, about) for (_, about), paths in alike.items()]


def row(paths: list[str], about) -> str:
    """Path, dimensions, units and description."""
    names = ", ".join(f"`{path}`" for path in paths)
    if len(paths) > 1:
        parts = [path.split("/") for path in paths]
        middle = ", ".join("/".join(part[1:-1]) for part in parts)
        names = f"`{parts[0][0]}/{{{middle}}}/{parts[0][-1]}`"
    units = about.units.format(
        unit="px, 1/px or Å",
        curvature_unit="rad/nm or rad/position",
        burgers_unit="1/nm or 1/position",
    )
    text = about.description.format(reference="`reference`", criterion_name="`criterion_name`")
    return f"| {names} | {', '.join(about.dims)} | {units} | {text} |"


if __name__ == "__main__":
    PAGE.write_text(page_with_fields(PAGE.read_text()))
