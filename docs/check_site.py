"""Links of the built site lead somewhere inside it, and no page loads anything from elsewhere: ``python docs/check_site.py``."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).with_name("_build") / "html"
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src"}


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that links can name."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Called by the parser."""
        values = dict(attrs)
        self.places |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(LOADED.get(tag, "")):
            self.loaded.append(values[LOADED[tag]])


def problems(site: Path) -> list[str]:
    """One line per link that leads nowhere, and per thing that is loaded from elsewhere."""
    pages = {
        file: Page(file.read_text()) for file in site.rglob("*.html") if "_static" not in file.parts
    }
    found = []
    for file, page in pages.items():
        here = file.relative_to(site)
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists():
                found.append(f"{here}: {link} leads nowhere")
            elif (
                target in pages
                and parts.fragment
                and unquote(parts.fragment) not in pages[target].places
            ):
                found.append(f"{here}: {link} names no place of that page")
        found += [f"{here} loads {link}" for link in page.loaded if urlsplit(link).netloc]
    return found


if __name__ == "__main__":
    lines = problems(SITE.resolve())
    print("\n".join(lines) or f"{SITE}: all links lead somewhere")
    sys.exit(bool(lines))
