"""Pages of the public names: the directives ``names`` and ``top-level``, and a warning for every name without a page.

Which names are public, and which are listed, is told by ``docs/public_names.py``, which needs no Sphinx.
"""

import importlib
import inspect

from docutils.nodes import Node
from docutils.parsers.rst import Parser
from docutils.utils import new_document
from public_names import homes, is_described, missing, public_names
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

log = logging.getLogger(__name__)


def table(room: str, lines: list[str]) -> list[str]:
    """Names with their first sentence, as links."""
    rows = [".. list-table::", "   :widths: 30 70", "   :class: names", ""]
    for line in lines:
        name, _, text = line.partition(": ")
        text = (
            text
            or (inspect.getdoc(getattr(importlib.import_module(room), name)) or "").split("\n")[0]
        )
        rows += [f"   * - :py:obj:`{name} <{room}.{name}>`", f"     - {text}"]
    return [*rows, ""]


def description(room: str, line: str) -> list[str]:
    """The directive that documents a name."""
    name, _, text = line.partition(": ")
    item = getattr(importlib.import_module(room), name)
    if text or not is_described(item):
        return [f".. py:data:: {room}.{name}", "", f"   {text}", ""]
    if inspect.isfunction(item):
        return [f".. autofunction:: {room}.{name}", ""]
    kind = "autoexception" if issubclass(item, Exception) else "autoclass"
    return [f".. {kind}:: {room}.{name}", "   :members:", ""]


class Names(SphinxDirective):
    """``{names} ROOM``, then a name a line; a value has its meaning after a colon."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[Node]:
        """A table of the names, then each."""
        room, lines = self.arguments[0], list(self.content)
        each = [row for line in lines for row in description(room, line)]
        return parse_rst(self, [*table(room, lines), *each])


class TopLevel(SphinxDirective):
    """``{top-level}``: names of the package itself, with links to their rooms."""

    def run(self) -> list[Node]:
        """A table."""
        rows = [".. list-table::", "   :widths: 30 70", "   :class: names", ""]
        items = public_names()
        for name, home in sorted(homes().items(), key=lambda pair: pair[0].lower()):
            if name.count(".") == 1:
                text = (inspect.getdoc(items[name]) or "").split("\n")[0]
                rows += [f"   * - :py:obj:`{name.partition('.')[2]} <{home}>`", f"     - {text}"]
        return parse_rst(self, rows)


def parse_rst(directive: SphinxDirective, lines: list[str]) -> list[Node]:
    """Nodes of reStructuredText inside a Markdown page."""
    outer = directive.state.document
    inner = new_document(outer["source"], outer.settings)
    inner.reporter = outer.reporter
    Parser().parse("\n".join(lines), inner)
    return list(inner.children)


def warn_of_missing(app, env) -> None:
    """A warning per public name without a page."""
    for name in missing():
        room = name.rpartition(".")[0]
        log.warning(
            "%s is public, and on no page of docs/api: list it under `{names} %s`", name, room
        )


def skip_of_others(app, what, name, item, skip, options) -> bool | None:
    """Methods that scikit-learn adds to estimators refer to its own pages."""
    return True if getattr(item, "__module__", "").startswith("sklearn.") else None


def keep_colons(app, what, name, item, options, lines) -> None:
    """A colon in the first line of a property belongs to its sentence; Napoleon takes what stands before it for a type."""
    if what in ("property", "attribute"):
        lines.insert(0, "")


def setup(app):
    """Directives and check."""
    app.connect("autodoc-skip-member", skip_of_others)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before Napoleon's
    app.add_directive("names", Names)
    app.add_directive("top-level", TopLevel)
    app.connect("env-updated", warn_of_missing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
