"""Figures as they are drawn: sizes of texts, overlaps, contrast, colors; on results of a small scan, and of scans of other shapes."""

import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from drawn import APART, SMALLEST, faults_of, texts_of
from matplotlib.figure import Figure

import jax4dstem
from jax4dstem import Calibration, Dataset, InputError, open_results, plots
from jax4dstem.domains import DomainMap
from jax4dstem.fields import Field
from jax4dstem.pipeline import analyze_dataset, load_recipe
from jax4dstem.pipeline.results import Results
from jax4dstem.plots.colors import NONE, WHITE
from jax4dstem.plots.lab import contrast, lab_difference
from jax4dstem.plots.style import DPI, NEEDS, SMALL, WIDTH
from jax4dstem.report import write_report
from jax4dstem.simulate import heterojunction

QUICK = {"embed.umap": False, "cluster.restarts": 2}
# Of Sharma, Wu and Dalal (2005), table 1: both colors in L*a*b*, and their difference.
PUBLISHED = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]
PICTURES = [
    *((name, {}) for name in plots.__all__ if name in NEEDS),
    *(("strain_map", {"way": way}) for way in ("lattice", "bases")),
    ("domain_patterns", {"division": "level_1"}),
]
NEED_MORE = {"clusterings_compared", "learned_codes"}  # other recipes


@pytest.fixture(scope="module")
def out(analyzed) -> Path:
    """Results of a small polycrystal, with a step and a pixel size."""
    return analyzed / "out"


@pytest.fixture(scope="module")
def results(out) -> Results:
    return open_results(out)


def of_shape(results, shape):
    """The same results as of a scan of another shape: maps are repeated or cut."""
    scan = ("scan_y", "scan_x")

    def changed(item):
        if isinstance(item, dict):
            return {name: changed(below) for name, below in item.items()}
        if item.dims[:2] != scan:
            return item
        rows, cols = (np.arange(n) % m for n, m in zip(shape, item.data.shape, strict=False))
        return Field(item.data[np.ix_(rows, cols)], item.units, item.description, item.dims)

    survey = results.survey
    if survey is not None:  # figures ask it what is left out
        rows, cols = (np.arange(n) % m for n, m in zip(shape, survey.invalid.shape, strict=True))
        survey = replace(survey, invalid=survey.invalid[np.ix_(rows, cols)], masked=None)
    return replace(results, stored=changed(results.fields()), survey=survey)


@pytest.mark.parametrize(("first", "second", "difference"), PUBLISHED)
def test_the_color_difference_is_the_published_one(first, second, difference):
    first, second = np.array(first, float), np.array(second, float)
    assert lab_difference(first, second) == pytest.approx(difference, abs=5e-5)
    assert lab_difference(second, first) == pytest.approx(difference, abs=5e-5)


def test_contrast_is_that_of_the_guidelines():
    assert contrast(np.zeros(3), np.ones(3)) == pytest.approx(21)
    assert contrast(np.full(3, 0x76 / 255), np.ones(3)) == pytest.approx(4.54, abs=0.01)


def test_no_two_labels_look_alike():
    colors = np.array([NONE, WHITE, *map(plots.label_color, range(plots.label_count()))])
    apart = plots.color_difference(colors[:, None], colors[None])
    assert plots.label_count() >= 40
    assert apart[np.triu_indices(len(colors), 1)].min() >= APART - 1e-9
    assert plots.label_color(plots.label_count()) == plots.label_color(0)


def test_the_explorer_has_the_same_colors():
    script = Path(jax4dstem.__file__).with_name("explore") / "page" / "explorer.js"
    listed = re.search(r"const LABELS = \[(.*?)\]", script.read_text(), re.DOTALL)
    colors = re.findall('"([0-9a-f]{6})"', listed.group(1))
    assert len(colors) == plots.label_count()
    for label, color in enumerate(colors):
        expected = [round(255 * part) for part in plots.label_color(label)]
        assert [int(color[i : i + 2], 16) for i in (0, 2, 4)] == expected


def levels_of(*levels, parent):
    """Results with a tree of clusters."""
    maps = {
        f"level_{n}": Field(np.array([level]), dims=("scan_y", "scan_x"))
        for n, level in enumerate(levels, 1)
    }
    domains = Field(np.array([levels[0]]), dims=("scan_y", "scan_x"))
    tree = {"labels": {"domains": domains} | maps, "tree": {"parent": Field(np.array(parent), dims=("cluster",))}}  # fmt: skip
    return Results(stored=tree)


def test_parts_look_like_what_they_are_parts_of():
    colors = plots.division_colors(
        levels_of([0, 0, 0, 1, 1, 2], [3, 3, 4, 5, 6, 2], parent=[-1, -1, -1, 0, 0, 1, 1])
    )
    assert [colors["level_1"][k] for k in range(3)] == [colors["domains"][k] for k in range(3)]
    assert colors["level_2"][2] == colors["level_1"][2]  # not divided
    every = np.array([color for k, color in colors["level_2"].items() if k >= 0])
    assert plots.color_difference(every[:, None], every)[np.triu_indices(5, 1)].min() >= APART
    first = np.array([colors["level_1"][k] for k in range(3)])
    for part, home in {3: 0, 4: 0, 5: 1, 6: 1}.items():
        gaps = plots.color_difference(np.array(colors["level_2"][part]), first)
        assert gaps.argmin() == home


MAPS = {"virtual_images", "direct_beam", "domain_map", "level_maps", "lattice_map", "strain_map", "strain_errors",
        "strain_status", "strain_consensus", "strain_derived"}  # fmt: skip
SHAPED = [(picture, (12, 12)) for picture in PICTURES] + [
    pytest.param(picture, shape, marks=pytest.mark.slow)
    for picture in PICTURES
    if picture[0] in MAPS
    for shape in ((9, 40), (40, 9))
]


@pytest.mark.parametrize(("picture", "shape"), SHAPED)
def test_figures_can_be_read(results, picture, shape):
    """Texts of 11 px or more at 100 %, none over another, none beyond the edge, contrast 4.5; no legend with colors alike."""
    name, options = picture
    draw = getattr(plots, name)
    try:
        figure = draw(of_shape(results, shape), **options)
    except InputError:
        assert name in NEED_MORE
        return
    assert name not in NEED_MORE
    assert isinstance(figure, Figure)
    assert figure.get_size_inches()[0] * 100 <= WIDTH + 1 or name == "overview"
    assert faults_of(figure) == []


def test_faults_are_seen():
    figure = Figure(figsize=(2, 2))
    for words, at, options in (
        ("small", (0.1, 0.9), {"fontsize": 6}),
        ("one", (0.3, 0.5), {}),
        ("other", (0.32, 0.5), {}),
        ("pale", (0.1, 0.1), {"color": "#bbbbbb"}),
        ("beyond", (0.9, 0.3), {}),
        ("two\nlines", (0.6, 0.97), {}),
    ):
        figure.text(*at, words, **options)
    faults = faults_of(figure)
    assert len(faults) == 5
    for words in ("'small' has", "'one' overlaps 'other'", "contrast", "leaves", "beyond", "two"):
        assert any(words in fault for fault in faults)


def test_what_is_checked_is_what_is_saved():
    """This one gets other ticks when it is laid out again: what is behind a text is not another tick's text."""

    def drawn():
        figure = Figure(figsize=(14.3, 3.1), layout="constrained")
        first, second, axes, last = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.43])
        axes.plot([-20, 43], [-13, 28])
        axes.set(xlabel="PCA 1", ylabel="PCA 2")
        for image in (first, second, last):
            image.imshow(np.zeros((9, 9)))
            image.set(xticks=[], yticks=[])
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
        last.legend(handles=[*axes.lines] * 3, labels=["0: 64.8 %"] * 3, **beside)
        return figure, axes

    (checked, axes), (saved, other) = drawn(), drawn()
    assert faults_of(checked) == []
    saved.savefig(BytesIO(), dpi=DPI)
    np.testing.assert_allclose(axes.get_position(), other.get_position())


@pytest.mark.parametrize("count", [1, 20, 80])
def test_many_domains_are_told_in_the_legend(count):
    labels = np.arange(count).reshape(1, -1).repeat(40, axis=0)
    sure = np.ones(labels.shape)
    tried = np.array(["sums"]), np.array([count]), np.array([0.9])
    found = Results(domain_map=DomainMap(labels, sure, np.full_like(labels, -1), sure, "sums", *tried))  # fmt: skip
    figure = plots.domain_map(found)
    words = [text.words for text in texts_of(figure)]
    assert any(word.startswith("and ") for word in words) == (count > 32)
    assert faults_of(figure) == []


def test_figures_of_other_recipes_can_be_read(results, rng):
    """A second clustering, and a second crystal under the probe."""
    tree, dims = results.fields(), ("scan_y", "scan_x")
    labels, share = tree["labels"]["level_1"].data, rng.uniform(0.1, 0.4, (12, 12))
    other = np.where(rng.random(labels.shape) < 0.1, labels[::-1], labels)
    comparison = {"labels": other, "disagreement": other != labels}
    second = {"lattice_id": labels - 1, "amount": share, "first_amount": 1 - share, "amount_std": share / 9, "score": 90 * share}  # fmt: skip
    groups = [
        {name: Field(data, dims=dims) for name, data in group.items()}
        for group in (comparison, second)
    ]
    groups[0] |= {"method": Field("GaussianMixture"), "index": Field(0.83)}
    more = tree | {"comparison": groups[0], "strain": tree["strain"] | {"second": groups[1]}}
    for draw in (plots.clusterings_compared, plots.second_crystal):
        assert faults_of(draw(replace(results, stored=more))) == []


def test_small_numbers_have_a_power_of_ten_beside_their_unit(results):
    """As 0.00025 below a map would leave the figure, and error bars have no direction."""
    tree = results.fields()
    strain = tree["strain"]
    small = {name: replace(item, data=item.data * 1e-3) for name, item in strain["derived"].items()}
    changed = replace(results, stored=tree | {"strain": strain | {"derived": small}})
    for shape in ((12, 12), (40, 9)):
        figure = plots.strain_derived(of_shape(changed, shape))
        assert faults_of(figure) == []
    words = " ".join(text.words for text in texts_of(figure))
    assert "10⁻⁶ per nm" in words
    assert "0.000" not in words.replace("−", "")
    assert "clockwise" not in " ".join(t.words for t in texts_of(plots.strain_errors(results)))


def test_a_text_under_other_axes_is_seen():
    """As of a legend that runs below the image beside it, into that one's histogram."""
    figure = Figure(figsize=(4, 3))
    first, second = figure.add_axes((0.1, 0.5, 0.3, 0.4)), figure.add_axes((0.6, 0.5, 0.3, 0.4))
    inset = second.inset_axes((0, -0.9, 1, 0.5))
    first.text(0.5, -0.5, "a legend that is rather long", transform=first.transAxes)
    assert "'a legend that is rather long' lies under other axes" in faults_of(figure)
    inset.remove()
    assert faults_of(figure) == []


def test_what_is_missing_is_said():
    with pytest.raises(InputError, match="strain_map: the results have no strain"):
        plots.strain_map(Results())
    with pytest.raises(InputError, match="domain_map: the results have no labels/domains"):
        plots.domain_map(Results())


def test_examples_are_what_they_are_called(results):
    found = results.examples
    chi = np.where(results.strain.strain.ok, results.strain.lattice.dispersion, np.nan)
    place = {kind: tuple(at) for kind, at in zip(found.kind.tolist(), found.position, strict=True)}
    assert place["best"] == np.unravel_index(np.nanargmin(chi), chi.shape)
    assert place["worst"] == np.unravel_index(np.nanargmax(chi), chi.shape)
    assert np.nanmin(chi) < chi[place["typical"]] < np.nanmax(chi)
    typical = found.kind.tolist().index("typical")
    seen, expected = found.pattern[typical], found.expected[typical]
    known = np.isfinite(expected)
    np.testing.assert_allclose(seen[known].sum(), expected[known].sum(), rtol=0.05)
    np.testing.assert_allclose(
        found.disks[typical], found.center[typical] + np.asarray(results.strain.model.indices)
        @ found.vectors[typical], atol=1e-3,
    )  # fmt: skip


@pytest.mark.whole
def test_figures_are_written_in_every_format(out):
    write_report(out, ("svg", "pdf"))
    names = {path.suffix for path in (out / "figures").iterdir()}
    assert names == {".png", ".svg", ".pdf"}
    drawing = (out / "figures" / "strain_pooled.svg").read_text()
    assert ">Strain along x, e_xx</text>" in drawing  # text stays text
    write_report(out)
    assert {path.suffix for path in (out / "figures").iterdir()} == {".png"}


def test_the_page_tells_a_story(out):
    page = write_report(out).read_text()
    order = ["What was found", "Images", "Domains", "Mean patterns", "Strain", "What can be trusted", "Details"]  # fmt: skip
    found = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    assert found == order
    links = re.findall(r'<a href="#([^"]+)"', page)
    assert links
    assert all(f'id="{link}"' in page for link in links)
    told = re.search(r'<p class="found">(.*?)</p>', page, re.DOTALL).group(1)
    for words in ("12", "domain", "lattice", "one standard deviation", "nm"):
        assert words in told
    table = page[page.index("<table") : page.index("</table>")]
    assert "positions" in table
    assert "swatch" in table
    assert "<summary>Times" in page


def test_further_columns_of_domains_are_shown(out, results):
    from jax4dstem.report.tables import division_table

    count = len(results.domain_map.size)
    more = {
        "a": Field(np.linspace(3, 4, count), "Å", "length of the cell", ("domain",)),
        "a_std": Field(np.full(count, 0.002), "Å", "its error", ("domain",)),
        "crystal": Field(np.array(["MgO"] * count), "", "candidate", ("domain",)),
    }
    tree = results.fields()
    changed = replace(results, stored=tree | {"domains": tree["domains"] | more})
    table = division_table(changed, "domains")
    cells = {column.title: column.cells for column in table.columns}
    assert cells["a, Å"][0] == "3.0000 ± 0.0020"
    assert cells["crystal"][0] == "MgO"


@pytest.mark.slow
def test_reports_of_demo_and_measured_scan_can_be_read(tmp_path, shared_data):
    """The demonstration, and a quarter of the measured MgO scan."""
    from jax4dstem import open_dataset

    measured = open_dataset(shared_data / "mgo_sped_crop_y62-104_x0-50_u16.h5").crop_scan(10, 30, 5, 35)  # fmt: skip
    for name, scan in (("demo", heterojunction()[0]), ("mgo", measured)):
        analyze_dataset(scan, tmp_path / name, load_recipe(None, QUICK), lambda _: None)
        found = open_results(tmp_path / name)
        for picture, options in PICTURES:
            try:
                figure = getattr(plots, picture)(found, **options)
            except InputError:
                continue
            assert faults_of(figure) == [], (name, picture)


def test_positions_are_as_tall_and_wide_as_the_steps_of_the_scan():
    """Rows of 6 nm and columns of 3 nm: 8 x 10 positions are 48 x 30 nm."""
    counts = np.random.default_rng(0).poisson(1.0, (8, 10, 32, 32))
    counts[:, :, 14:18, 13:17] += 50
    scan = Dataset.from_array(counts, Calibration(scan_step_nm=3.0, scan_step_y_nm=6.0))
    from jax4dstem.pipeline import STAGES, analyze_in_memory

    centers = plots.direct_beam(analyze_in_memory(scan, stages=STAGES[:2]))
    assert faults_of(centers) == []
    for figure, place in ((centers, 0), (plots.scan_overview(scan), 1)):
        figure.draw_without_rendering()
        drawn = figure.axes[place].images[0].get_window_extent()
        assert drawn.height / drawn.width == pytest.approx(48 / 30, rel=0.02)


def test_a_scan_in_memory_is_titled_by_its_note(tmp_path):
    counts = np.random.default_rng(0).poisson(1.0, (3, 4, 32, 32))
    counts[:, :, 14:18, 13:17] += 50
    scan = replace(Dataset.from_array(counts), notes=("simulated noise",))
    from jax4dstem.pipeline import STAGES

    analyze_dataset(scan, tmp_path, say=lambda _: None, stages=STAGES[:3])
    page = write_report(tmp_path).read_text()
    assert "<h1>Simulated noise</h1>" in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_fits_wide_and_narrow_windows(out, tmp_path):
    """In a browser: nothing beyond the right edge, sections in their order, texts of figures of 11 px or more."""
    page = write_report(out)
    with Browser(tmp_path / "profile") as browser:
        browser.open(page.as_uri(), "document.readyState === 'complete'")
        browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        for width in (1280, 800, 420):
            browser.resize(width, 900)
            assert browser.run("document.documentElement.scrollWidth") == width
            beyond = "[...document.querySelectorAll('h1, h2, p, figure, summary')].filter((node) => node.getBoundingClientRect().right > innerWidth).length"
            assert browser.run(beyond) == 0
            hidden = "[...document.querySelectorAll('.wide')].filter((table) => table.scrollWidth > table.clientWidth).length"
            assert width < 800 or browser.run(hidden) == 0
            tops = browser.run(
                "['found', 'images', 'domains', 'patterns', 'strain', 'trust', 'details']"
                ".map((name) => document.getElementById(name).getBoundingClientRect().top)"
            )
            assert tops == sorted(tops)
            scales = browser.run("[...document.images].map((i) => i.getBoundingClientRect().width / i.getAttribute('width'))")  # fmt: skip
            assert len(scales) > 15
            assert max(scales) == 1
            assert min(scales) * SMALL * DPI / 72 >= SMALLEST
            assert width < 1280 or min(scales) == 1
            browser.whole_page(tmp_path / f"report_{width}.png", width)
            assert (tmp_path / f"report_{width}.png").stat().st_size > 100_000
        browser.run("location.hash = '#found'")
        browser.run(
            "document.querySelectorAll('details').forEach((part) => { part.open = false; })"
        )
        browser.run("document.querySelector('nav a[href=\"#beam\"]').click()")
        browser.wait("document.getElementById('beam').open")
        assert not browser.problems
