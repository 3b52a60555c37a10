"""Pages that the index does not name get a place in it: ``<!-- other pages -->``, ``<!-- other pages of FOLDER -->``."""

import re
from pathlib import Path

MARK = re.compile(r"<!-- other pages(?: of (\w+))? -->")


def place(app, docname, source):
    """The mark becomes the names of pages that the index does not name."""
    if docname != app.config.root_doc:
        return
    docs = Path(app.env.doc2path(docname)).parent
    named = {*source[0].split(), "index"}

    def others(mark):
        folder = f"{mark[1]}/" if mark[1] else ""
        pages = (f"{folder}{file.stem}" for file in sorted((docs / folder).glob("*.md")))
        return "\n".join(page for page in pages if page not in named)

    source[0] = MARK.sub(others, source[0])


def setup(app):
    """Read the index anew every time: a page may have come."""
    app.connect("source-read", place)
    app.connect("env-get-outdated", lambda app, *_: [app.config.root_doc])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
