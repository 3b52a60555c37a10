"""Write docs/images/report.png, and with PICTURES a directory whole pages at 1280 and 800 px: report_pictures.py OUT [PICTURES].

Needs Chromium. OUT is a results directory with report.html, such as `jax4dstem demo --out demo` writes.
"""

import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests"))

from browser import Browser  # noqa: E402

page = Path(sys.argv[1]).resolve() / "report.html"
with tempfile.TemporaryDirectory() as profile, Browser(profile, 1280, 1400) as browser:
    browser.open(page.as_uri(), "document.readyState === 'complete'")
    if len(sys.argv) > 2:
        for width in (1280, 800):
            browser.whole_page(Path(sys.argv[2]) / f"report_{width}.png", width)
    browser.resize(1280, 1400)
    browser.run("document.getElementById('domains').scrollIntoView()")
    browser.picture(PROJECT / "docs" / "images" / "report.png")
