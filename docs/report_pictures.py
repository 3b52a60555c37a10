"""Write docs/images/overview.png and report.png, and with PICTURES a directory whole pages at 1280 and 800 px: report_pictures.py OUT [PICTURES].

Needs Chromium. OUT is a results directory with report.html, such as `jax4dstem demo --out demo` writes.
"""

import shutil
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests"))

from browser import Browser  # noqa: E402

IMAGES = PROJECT / "docs" / "images"
out = Path(sys.argv[1]).resolve()
shutil.copyfile(out / "figures" / "overview.png", IMAGES / "overview.png")
with tempfile.TemporaryDirectory() as profile, Browser(profile, 1280, 1400) as browser:
    browser.open((out / "report.html").as_uri(), "document.readyState === 'complete'")
    if len(sys.argv) > 2:
        for width in (1280, 800):
            browser.whole_page(Path(sys.argv[2]) / f"report_{width}.png", width)
    browser.resize(1280, 1400)
    browser.run("document.getElementById('domains').scrollIntoView()")
    browser.picture(IMAGES / "report.png")
