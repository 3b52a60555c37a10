"""The explorer's page in a headless browser: real pointer events, and what its canvases then hold."""

import json
import math
import re
import threading
import zlib
from base64 import b64decode

import jax.numpy as jnp
import numpy as np
import pytest
from browser import CHROMIUM, Browser

from jax4dstem import map_patterns, open_dataset
from jax4dstem.domains import Embedding
from jax4dstem.explore import ExplorerServer, Subject, write_page
from jax4dstem.fields import Field
from jax4dstem.patterns import ewpc, unfold_cepstrum, virtual_image
from jax4dstem.pipeline import Results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]
SHAPE = (10, 12, 32, 32)
RNG = np.random.default_rng(1)
COUNTS = RNG.poisson(np.exp(5 - 0.02 * ((np.indices(SHAPE[2:]) - 15.0) ** 2).sum(0)), SHAPE).astype(
    np.uint16
)
UMAP = RNG.uniform(-1, 1, (*SHAPE[:2], 2)).astype(np.float32)
STRAIN = (0.01 * RNG.normal(size=SHAPE[:2])).astype(np.float32)
DOSE = RNG.uniform(5, 9, SHAPE[:2]).astype(np.float32)
PLANE = ("scan_y", "scan_x")


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "scan.npy"
    np.save(path, COUNTS)
    tree = {
        "images": {"dose": Field(DOSE, "electrons", "sum of each pattern", PLANE)},
        "strain": {"pooled": {"e_xx": Field(STRAIN, "1", "strain along x", PLANE)}},
        "labels": {"level_1": Field(np.indices(SHAPE[:2])[0] // 4 - 1, "", "cluster", PLANE)},
    }
    embedding = Embedding(umap=UMAP)
    results = Results(embedding=embedding, stored=tree, about={"input_path": str(path)})
    return Subject.of(results, open_dataset(path, scan_step_nm=2.0, pixel_inv_angstrom=0.05))


@pytest.fixture(scope="module")
def served(subject):
    with ExplorerServer(subject) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, served):
    browser.problems.clear()
    browser.open(served.url)
    yield browser
    assert browser.problems == []


@pytest.fixture(scope="module")
def file(subject, tmp_path_factory):
    lines = []
    path = tmp_path_factory.mktemp("file") / "page.html"
    return write_page(subject, path, say=lines.append), lines


def shown(page, name):
    """The image that a canvas draws: its numbers."""
    image = page.run(
        f"(() => {{ const {{shape, data, range, kind, log}} = document.querySelector('.j4-{name}').view.image;"
        "return {shape, data: [...data].map((v) => Number.isNaN(v) ? null : v), range, kind, log}; })()"
    )
    image["data"] = np.array(image["data"], float).reshape(image["shape"])
    return image


def point(page, name, y, x):
    """Where a place of an image lies in the window, (left, top)."""
    left, top, *_ = page.box(f".j4-{name}")
    down, right = page.run(f"document.querySelector('.j4-{name}').view.screenOf([{y}, {x}])")
    return left + right, top + down


def pixel(page, name, y, x):
    """Color on the canvas at a place of its image."""
    return page.run(
        f"(() => {{ const canvas = document.querySelector('.j4-{name}'), [y, x] = canvas.view.screenOf([{y}, {x}]);"
        "return [...canvas.getContext('2d').getImageData(Math.round(x), Math.round(y), 1, 1).data].slice(0, 3); })()"
    )


def color(page, name, value):
    """Color of a value in an image."""
    return page.run(
        f"import('./explorer.js').then((m) => m.colorOf(document.querySelector('.j4-{name}').view.image, {value}))"
    )


def choose(page, name):
    page.run(f"document.body.explorer.choose({name!r})")
    page.wait(f"document.querySelector('.j4-map').view.image.name === {name!r}")


def settled(page):
    """No question is open: the virtual image is that of the detector."""
    page.wait("document.body.dataset.virtual === String(document.body.explorer.changes)")


def said(page, name):
    """What the page's Python gives under a name."""
    names = {}
    choose(page, "virtual image")
    exec(page.run("document.querySelector('.j4-code').value"), names)
    return np.asarray(names[name])


def test_the_pattern_is_that_at_the_pointer(page):
    for y, x in [(0, 0), (3, 11), (9, 4)]:
        page.mouse("mouseMoved", *point(page, "map", y, x))
        page.wait(
            f"document.querySelector('.j4-detector-part .j4-caption').dataset.at === '{y},{x}'"
        )
        image = shown(page, "pattern")
        np.testing.assert_array_equal(image["data"], COUNTS[y, x])
        assert page.run("+document.querySelector('.j4-caption').dataset.value") == DOSE[y, x]
    np.testing.assert_array_equal(said(page, "pattern"), COUNTS[9, 4])


def test_what_is_painted_is_what_is_held(page):
    """Pixels of the canvas have the colors of the numbers."""
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    for y, x in [(2, 3), (28, 7), (10, 30)]:
        value = shown(page, "pattern")["data"][y, x]
        assert pixel(page, "pattern", y, x) == color(page, "pattern", value)
    choose(page, "strain/pooled/e_xx")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    for y, x in [(1, 2), (4, 9), (8, 5)]:
        assert pixel(page, "map", y, x) == color(page, "map", float(STRAIN[y, x]))


def test_a_held_position_stays(page):
    page.drag([point(page, "map", 2, 3)] * 2)
    page.mouse("mouseMoved", *point(page, "map", 7, 7))
    assert page.run("document.body.explorer.position") == [2, 3]
    page.key("Escape")
    page.mouse("mouseMoved", *point(page, "map", 7, 8))
    assert page.run("document.body.explorer.position") == [7, 8]


def test_the_virtual_detector_follows_the_pointer(page):
    """Moved, made larger and smaller: its image is that of its mask, and of the Python that the page gives."""
    center = page.run("document.body.explorer.detector.center")
    page.click("button[data-detector=ring]")
    start = point(page, "pattern", *center)
    end = point(page, "pattern", center[0] + 3, center[1] - 4)
    page.drag([start, ((start[0] + end[0]) / 2, start[1]), end])
    settled(page)
    detector = page.run("document.body.explorer.detector")
    np.testing.assert_allclose(detector["center"], [center[0] + 3, center[1] - 4], atol=0.06)
    y, x = detector["center"]
    page.drag([point(page, "pattern", y + detector["outer"], x), point(page, "pattern", y + 12, x)])
    page.drag([point(page, "pattern", y, x - detector["inner"]), point(page, "pattern", y, x - 5)])
    settled(page)
    detector = page.run("document.body.explorer.detector")
    np.testing.assert_allclose([detector["outer"], detector["inner"]], [12, 5], atol=0.06)
    r = np.hypot(*(np.indices(SHAPE[2:]) - np.array([y, x])[:, None, None]))
    mask = np.clip(detector["outer"] + 0.5 - r, 0, 1) - np.clip(detector["inner"] + 0.5 - r, 0, 1)
    image = np.einsum("abyx,yx->ab", COUNTS.astype(float), mask)
    np.testing.assert_allclose(shown(page, "map")["data"], image, rtol=1e-5)
    np.testing.assert_allclose(said(page, "image"), image, rtol=1e-5)


@pytest.mark.parametrize("kind", ["disk", "wedge", "paint"])
def test_every_detector_is_what_its_text_says(page, kind):
    page.click(f"button[data-detector={kind}]")
    if kind == "wedge":  # its end is dragged from 90 to 200 degrees
        y, x = page.run("document.body.explorer.detector.center")
        radius = page.run(
            "(document.body.explorer.detector.inner + document.body.explorer.detector.outer) / 2"
        )
        angle = math.radians(200)
        end = y - radius * math.sin(angle), x + radius * math.cos(angle)
        page.drag([point(page, "pattern", y - radius, x), point(page, "pattern", *end)])
        span = page.run("document.body.explorer.detector.span")
        assert span == pytest.approx(200, abs=1)
    if kind == "paint":
        page.drag([point(page, "pattern", 5, 6), point(page, "pattern", 20, 11)])
        painted = page.run("[...document.body.explorer.detector.painted]")
        assert sum(painted) >= 15
    settled(page)
    image = shown(page, "map")["data"]
    np.testing.assert_allclose(image, said(page, "image"), rtol=1e-5)
    assert image.min() > 0


def test_a_region_has_its_mean(page):
    page.click("button[data-tool=rectangle]")
    page.drag([point(page, "map", 2, 3), point(page, "map", 4, 5), point(page, "map", 6, 8)])
    page.wait("document.body.explorer.shown.at === 'mean'")
    np.testing.assert_allclose(
        shown(page, "pattern")["data"], COUNTS[2:7, 3:9].mean((0, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(said(page, "mean"), COUNTS[2:7, 3:9].mean((0, 1)), rtol=1e-5)
    page.click("button[data-text=recipe]")
    assert "region = [2, 7, 3, 9]" in page.run("document.querySelector('.j4-code').value")


def test_a_polygon_has_its_mean(page):
    page.click("button[data-tool=polygon]")
    corners = [(1.3, 1.2), (1.3, 9.6), (8.4, 9.6)]
    page.drag([point(page, "map", *corner) for corner in corners])
    page.wait("document.body.explorer.shown.at === 'mean'")
    inside = np.array(page.run("[...document.body.explorer.region.mask]"), bool).reshape(SHAPE[:2])
    y, x = np.indices(SHAPE[:2])
    truth = (y > 1.3) & (x < 9.6) & ((y - 1.3) / 7.1 < (x - 1.2) / 8.4)
    np.testing.assert_array_equal(inside, truth)
    np.testing.assert_allclose(shown(page, "pattern")["data"], COUNTS[truth].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(said(page, "region"), truth)


def test_a_lasso_in_the_embedding_shows_positions(page):
    page.run("document.querySelector('.j4-scatter').scrollIntoView({block: 'center'})")
    corners = [(0.0, -0.8), (0.0, 0.5), (0.9, 0.5), (0.9, -0.8)]  # second, first
    page.drag([point(page, "scatter", *corner) for corner in corners])
    page.wait("document.body.explorer.region?.of === 'embedding'")
    first, second = UMAP[..., 0], UMAP[..., 1]
    dim = np.array(page.run("[...document.querySelector('.j4-map').view.image.dim]"), bool).reshape(
        SHAPE[:2]
    )
    clear = np.abs(np.stack([first + 0.8, first - 0.5, second, second - 0.9])).min(0) > 0.02
    truth = (first > -0.8) & (first < 0.5) & (second > 0) & (second < 0.9)
    np.testing.assert_array_equal(dim[clear], truth[clear])  # a pixel of the canvas is 0.01 wide
    page.wait("document.body.explorer.shown.at === 'mean'")
    np.testing.assert_allclose(shown(page, "pattern")["data"], COUNTS[dim].mean(0), rtol=1e-5)


def test_a_region_of_the_map_shows_points(page):
    page.click("button[data-tool=rectangle]")
    page.drag([point(page, "map", 0, 0), point(page, "map", 3, 2)])
    page.wait("document.body.explorer.region")
    selected = np.array(
        page.run("[...document.querySelector('.j4-scatter').view.selected]"), bool
    ).reshape(SHAPE[:2])
    truth = np.zeros(SHAPE[:2], bool)
    truth[:4, :3] = True
    np.testing.assert_array_equal(selected, truth)


def test_strain_is_referred_to_a_region(page):
    choose(page, "strain/pooled/e_xx")
    page.click("button[data-tool=rectangle]")
    page.drag([point(page, "map", 5, 1), point(page, "map", 8, 6)])
    page.click("button[data-action=reference]")
    np.testing.assert_allclose(
        shown(page, "map")["data"], STRAIN - STRAIN[5:9, 1:7].mean(), atol=1e-6
    )
    code = page.run("document.querySelector('.j4-code').value")
    assert "minus its mean over the region" in code
    assert "StrainReference.region(region)" in code
    page.click("button[data-action=clear]")
    np.testing.assert_allclose(shown(page, "map")["data"], STRAIN, atol=1e-7)


def test_the_range_is_dragged_in_the_histogram(page):
    choose(page, "images/dose")
    low, high = shown(page, "map")["range"]
    left, top, *_ = page.box(".j4-histogram")
    x = [page.run(f"document.querySelector('.j4-histogram').view.xOf({v})") for v in (high, 7.0)]
    page.drag([(left + x[0], top + 30), (left + x[1] + 9, top + 30), (left + x[1], top + 30)])
    new = shown(page, "map")["range"]
    assert new[0] == low
    assert new[1] == pytest.approx(7.0, abs=0.02)
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    y, x = np.argwhere(DOSE > 7.1)[0]
    assert pixel(page, "map", y, x) == color(page, "map", new[1])  # above: the last color


def test_keys(page):
    page.drag([point(page, "map", 5, 5)] * 2)
    for key, position in [("ArrowUp", [4, 5]), ("ArrowRight", [4, 6]), ("ArrowLeft", [4, 5])]:
        page.key(key)
        assert page.run("document.body.explorer.position") == position
    assert shown(page, "pattern")["log"]
    page.key("l")
    assert not shown(page, "pattern")["log"]
    page.key("v")
    page.wait("document.querySelector('.j4-map').view.image.name === 'virtual image'")
    page.key("?")
    assert page.run("document.querySelector('dialog').open")


def test_the_cepstrum_is_that_of_the_library(page):
    page.click("button[data-view=cepstrum]")
    page.wait("document.body.explorer.shown.what === 'cepstrum'")
    image = shown(page, "pattern")["data"]
    assert image.shape == SHAPE[2:]
    assert np.unravel_index(image.argmin(), image.shape) == (16, 16)  # no peak of the window


def test_texts_are_large_and_dark_enough(page):
    """At least 11 px, and 4.5 in contrast against what is behind them."""
    for size in [(1280, 1000), (800, 1000), (420, 1000)]:
        page.resize(*size)
        texts = page.run(TEXTS)
        assert len(texts) > 20
        for text, font, front, back in texts:
            assert font >= 11, text
            assert contrast(front, back) >= 4.5, (text, front, back)
        assert page.run("document.documentElement.scrollWidth") <= size[0]
    page.resize(1280, 1000)


TEXTS = """[...document.querySelectorAll('.j4 *')].filter((n) => [...n.childNodes].some((c) => c.nodeType === 3 && c.data.trim()) && !n.closest('dialog')).map((n) => {
  let back = n; while (back && /rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(back).backgroundColor)) back = back.parentElement;
  const style = getComputedStyle(n);
  return [n.textContent, parseFloat(style.fontSize), style.color, back ? getComputedStyle(back).backgroundColor : 'rgb(255, 255, 255)'];
})"""


def contrast(front, back):
    """Of two colors, as the WCAG has it."""
    lights = []
    for text in (front, back):
        parts = [int(c) / 255 for c in re.findall(r"\d+", text)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_a_large_scan_is_shown_coarse_first(browser, subject, monkeypatch):
    """Then row by row, until the image is exact."""
    from jax4dstem.explore.parts import Preview

    monkeypatch.setattr("jax4dstem.explore.subject.preview_step", lambda scan: 4)
    monkeypatch.setattr("jax4dstem.explore.subject.band_rows", lambda scan: 3)
    few = Preview.of(subject.scan, limit=9 * 2 * 32 * 32)
    large = Subject.of(subject.scan)
    large.__dict__["_preview"] = few
    with ExplorerServer(large) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.open(server.url)
        browser.wait("document.body.dataset.exact === '0'")
        image = shown(browser, "map")["data"]
        np.testing.assert_allclose(image, said(browser, "image"), rtol=1e-5)
        server.shutdown()
        thread.join()
    assert few.step == 4


SLOW = """
import('./explorer.js').then(({ mount, serverHost }) => {
  const host = serverHost(), node = document.createElement('div');
  node.id = 'slow';
  document.body.replaceChildren(node);
  window.answer = {};
  const held = (name) => () => new Promise((resolve, reject) => { window.answer[name] = { resolve, reject }; });
  mount(node, { ...host, points: held('points'), map: held('map') });
  window.points = host.points();
})
"""


def test_the_page_is_ready_when_all_it_asked_for_has_come_or_failed(page):
    """Nothing that a pointer could meet is missing then; before, places in the window are already numbers."""
    ready = "document.querySelector('#slow').dataset.ready"
    page.run(SLOW)
    page.wait("window.answer.points && window.answer.map")
    page.wait("document.querySelector('#slow').explorer.shown")
    where = "document.querySelector('.j4-scatter').view.screenOf([0.5, 0.5])"
    assert all(value > 0 for value in page.run(where))
    page.run("window.answer.map.reject(new Error('no such map'))")
    page.wait("document.querySelector('.j4-message').textContent === 'no such map'")
    assert page.run(ready) is None
    page.run("window.points.then(window.answer.points.resolve)")
    page.wait(f"{ready} === 'true'")
    low, high = page.run("document.querySelector('.j4-scatter').view.box")[0]
    assert (low, high) == (UMAP[..., 0].min(), UMAP[..., 0].max())


# ---------------------------------------------------------------- the other hosts


def test_the_file_shows_the_arrays_to_its_quantization(browser, file):
    path, lines = file
    browser.problems.clear()
    browser.open(path.as_uri())
    share = float(re.search(r"within ([\d.]+)%", lines[0]).group(1)) / 100 + 5e-4
    assert lines[0] in browser.run("document.querySelector('.j4-message').textContent")
    for y, x in [(0, 0), (8, 3)]:
        browser.mouse("mouseMoved", *point(browser, "map", y, x))
        browser.wait(
            f"document.querySelector('.j4-detector-part .j4-caption').dataset.at === '{y},{x}'"
        )
        pattern = shown(browser, "pattern")["data"]
        assert (np.abs(pattern - COUNTS[y, x]) <= share * (COUNTS[y, x] + 1)).all()
    y, x = browser.run("document.body.explorer.detector.center")
    browser.drag([point(browser, "pattern", y, x), point(browser, "pattern", y + 2, x + 1)])
    settled(browser)
    image = shown(browser, "map")["data"]
    counts = decoded(path)
    mask = np.array(browser.run("[...document.body.explorer.mask().data]")).reshape(SHAPE[2:])
    np.testing.assert_allclose(image, np.einsum("abyx,yx->ab", counts, mask), rtol=1e-5)
    exact = map_patterns(virtual_image, open_dataset_of(browser), jnp.asarray(mask, jnp.float32))
    np.testing.assert_allclose(image, exact, rtol=share)
    browser.click("button[data-tool=rectangle]")
    browser.drag([point(browser, "map", 1, 1), point(browser, "map", 4, 6)])
    browser.wait("document.body.explorer.shown.at === 'mean'")
    mean = counts[1:5, 1:7].mean((0, 1))
    np.testing.assert_allclose(shown(browser, "pattern")["data"], mean, rtol=1e-5)
    assert browser.problems == []


def open_dataset_of(browser):
    opening = browser.run("document.body.explorer.meta.opening")
    return eval(opening, {"open_dataset": open_dataset})


def decoded(path):
    """Counts of a file's levels."""
    text = path.read_text()
    found = dict(re.findall(r'<script type="[^"]*" id="([^"]*)">(.*?)</script>', text))
    store = json.loads(found["about"])["store"]
    levels = np.frombuffer(zlib.decompress(b64decode(found["patterns"])), np.uint8)
    counts = store["unit"] * np.expm1(levels * store["span"] / 255)
    return counts.reshape(*store["scan"], *store["shape"])


def test_the_file_has_cepstra_of_its_own(browser, file):
    """By JavaScript; the library's, of the counts in the file."""
    path, _ = file
    browser.open(path.as_uri())
    browser.click("button[data-view=cepstrum]")
    browser.wait("document.body.explorer.shown.what === 'cepstrum'")
    y, x = browser.run("document.body.explorer.position")
    patterns = browser.run("document.body.explorer.meta.patterns")
    pattern = jnp.asarray(decoded(path)[y, x], jnp.float32)
    window = patterns["quefrency"]["window"]
    offset = float(pattern.size / pattern.sum())
    half = ewpc(pattern, jnp.array(patterns["center"]), window, offset)
    whole = np.asarray(unfold_cepstrum(half, SHAPE[3]))
    np.testing.assert_allclose(
        shown(browser, "pattern")["data"], whole, atol=1e-4 * whole.max(), rtol=1e-3
    )


WIDGET = """
(async () => {
  const { default: widget } = await import('./explorer.js');
  const handlers = [], model = {
    on: (name, handler) => handlers.push(handler),
    async send({ id, name, args }) {
      const reply = await fetch(name, { method: 'POST', body: JSON.stringify(args) });
      const bytes = new Uint8Array(await reply.arrayBuffer()), end = bytes.indexOf(10);
      const about = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
      for (const handler of handlers) handler({ id, about }, [new DataView(bytes.buffer, end + 1)]);
    },
  };
  const node = document.createElement('div');
  node.id = 'widget';
  document.body.replaceChildren(node);
  widget.render({ model, el: node });
})()
"""


def test_a_notebooks_widget_shows_the_same(page):
    """The module as anywidget calls it, its messages answered by the server."""
    page.run(WIDGET)
    page.wait("document.querySelector('#widget .j4')?.dataset.ready === 'true'")
    y, x = page.run("document.querySelector('#widget .j4').explorer.position")
    np.testing.assert_array_equal(shown(page, "pattern")["data"], COUNTS[y, x])
