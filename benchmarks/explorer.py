"""How long the explorer lets one wait: pointer to pattern, first and exact virtual image, offline file.

    python benchmarks/explorer.py                   # a scan of 2 GiB, made in the temporary directory
    python benchmarks/explorer.py --scan out        # a file or a results directory of one's own

Times are from a pointer event in headless Chromium to the frame that shows the answer. Writes benchmarks/explorer.json.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from jax4dstem import use_all_cores
from jax4dstem.explore import ExplorerServer, Subject, write_page

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from browser import Browser  # noqa: E402

SHAPE = (256, 256, 128, 128)
MOVES, DRAGS = 40, 12
# Time from each pointer event to the second frame after the answer is there, which has been drawn then.
WATCH = """
(() => {
  const explorer = document.body.explorer, frames = (done) => requestAnimationFrame(() => requestAnimationFrame(done));
  window.times = { pattern: [], virtual: [] };
  let asked = 0;
  for (const name of ['pointermove', 'pointerdown']) window.addEventListener(name, (event) => (asked = event.timeStamp), true);
  const setPattern = explorer.setPattern.bind(explorer);
  explorer.setPattern = (pattern) => { const from = asked; setPattern(pattern); frames(() => window.times.pattern.push(performance.now() - from)); };
  const setMap = explorer.setMap.bind(explorer);
  let seen = -1;
  explorer.setMap = (map) => {
    setMap(map);
    if (map.name !== 'virtual image' || seen === explorer.changes) return;
    seen = explorer.changes;
    const from = asked;
    frames(() => window.times.virtual.push(performance.now() - from));
  };
})()
"""


def sparse_scan(path: Path) -> Path:
    """Few counts on a dark detector, around a direct beam that shrinks over the scan."""
    rng = np.random.default_rng(0)
    scan = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=SHAPE)
    radius = np.hypot(*(np.indices(SHAPE[2:]) - 63.5))
    for row in range(SHAPE[0]):
        rate = 0.02 + 4 * np.exp(-radius / (6 + 6 * row / SHAPE[0]))
        scan[row] = rng.poisson(rate, SHAPE[1:])
    scan.flush()
    return path


def place(browser: Browser, name: str, y: float, x: float) -> tuple[float, float]:
    left, top, *_ = browser.box(f".j4-{name}")
    down, right = browser.run(f"document.querySelector('.j4-{name}').view.screenOf([{y}, {x}])")
    return left + right, top + down


def drive(browser: Browser, url: str) -> dict:
    """Move over the map, drag the detector, wait for the exact image."""
    begin = time.perf_counter()
    browser.open(url)
    opened = time.perf_counter() - begin
    browser.run(WATCH)
    height, width = browser.run("document.body.explorer.meta.scan")
    rng = np.random.default_rng(1)
    for number in range(MOVES):
        y, x = rng.integers(height), rng.integers(width)
        browser.mouse("mouseMoved", *place(browser, "map", y, x))
        browser.wait(f"window.times.pattern.length > {number}")
    cy, cx = browser.run("document.body.explorer.detector.center")
    begin = time.perf_counter()
    browser.mouse("mousePressed", *place(browser, "pattern", cy, cx), held=True)
    for number in range(DRAGS):
        to = place(browser, "pattern", cy + 1 + number / 2, cx)
        browser.mouse("mouseMoved", *to, held=True)
        browser.wait(f"window.times.virtual.length > {number}")
    browser.mouse("mouseReleased", *to)
    released = time.perf_counter()
    if browser.run("document.body.explorer.meta.patterns.step") > 1:
        browser.wait("document.body.dataset.exact === String(document.body.explorer.changes)", 120)
    exact = time.perf_counter() - released
    times = browser.run("window.times")
    return {
        "page_open_s": opened,
        "pattern_ms": spread(times["pattern"]),
        "virtual_first_ms": spread(times["virtual"]),
        "virtual_exact_s": exact,
    }


def spread(milliseconds: list[float]) -> dict:
    return {
        "median": float(np.median(milliseconds)),
        "largest": float(max(milliseconds)),
        "n": len(milliseconds),
    }


def measure(path: Path, folder: Path) -> dict:
    subject = Subject.at(path)
    result = {"scan": list(subject.scan_shape), "detector": list(subject.scan.pattern_shape)}
    begin = time.perf_counter()
    subject.meta()
    subject.warm_up()
    result["warm_up_s"] = time.perf_counter() - begin
    with ExplorerServer(subject) as server, Browser(folder / "profile") as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result["server"] = drive(browser, server.url)
        server.shutdown()
        begin = time.perf_counter()
        lines: list[str] = []
        page = write_page(subject, folder / "page.html", say=lines.append)
        result["file"] = {
            "write_s": time.perf_counter() - begin,
            "mib": page.stat().st_size / 2**20,
            "said": lines[0],
        } | drive(browser, page.as_uri())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scan", type=Path, help="A file or results directory; default a scan of 2 GiB."
    )
    parser.add_argument("--out", type=Path, default=HERE / "explorer.json")
    given = parser.parse_args()
    use_all_cores()
    with tempfile.TemporaryDirectory() as folder:
        path = given.scan or sparse_scan(Path(folder) / "scan.npy")
        result = {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "load": os.getloadavg()[0],
            **measure(path, Path(folder)),
        }
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
