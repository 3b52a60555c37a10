"""Pages of ``docs/`` that the index does not place get a place: ``<!-- other pages -->`` in its last list of pages."""

from pathlib import Path

MARK = "<!-- other pages -->"


def place(app, docname, source):
    """The mark becomes the names of pages that the index does not name."""
    if docname == app.config.root_doc:
        pages = sorted(file.stem for file in Path(app.env.doc2path(docname)).parent.glob("*.md"))
        named = source[0].split()
        others = [page for page in pages if page not in named and page != "index"]
        source[0] = source[0].replace(MARK, "\n".join(others))


def setup(app):
    """Read the index anew every time: a page may have come."""
    app.connect("source-read", place)
    app.connect("env-get-outdated", lambda app, *_: [app.config.root_doc])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
