"""The explorer: what its hosts answer is in the arrays, and nothing else is to be had from them."""

import base64
import functools
import http.client
import json
import re
import threading
import zlib

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from jax4dstem import (
    Dataset,
    Mean,
    map_patterns,
    open_dataset,
    open_results,
    reduce_patterns,
)
from jax4dstem.cli import app
from jax4dstem.errors import InputError
from jax4dstem.explore import ExplorerServer, Subject, explore, write_page
from jax4dstem.explore.assets import asset
from jax4dstem.explore.lattices import lattices_of
from jax4dstem.explore.maps import maps_of
from jax4dstem.explore.notebook import reply_to
from jax4dstem.explore.offline import Quantization
from jax4dstem.explore.parts import KeptChunks, Preview, band_rows
from jax4dstem.fields import Field
from jax4dstem.lattice import starting_model
from jax4dstem.lattice.render import render
from jax4dstem.patterns import annular_mask, ewpc, unfold_cepstrum, virtual_image
from jax4dstem.pipeline import STAGES, analyze_dataset
from jax4dstem.strain import (
    LatticeStrain,
    LearnedModel,
    StrainMap,
    StrainMeasurement,
    expected_and_residual,
)

COUNTS = np.random.default_rng(3).poisson(
    np.exp(4 - 0.02 * ((np.indices((20, 24)) - 10) ** 2).sum(0)), (7, 9, 20, 24)
).astype(np.uint16)  # fmt: skip
SCAN = Dataset.from_array(COUNTS)
RING = np.asarray(annular_mask((20, 24), jnp.array([10.0, 10.0]), 3.0, 6.5))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results directory with images and beam, of a file with a calibration."""
    folder = tmp_path_factory.mktemp("explored")
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_dataset("data", data=COUNTS, chunks=(2, 3, 20, 24), compression="gzip")
        file["data"].attrs.update(q_pixel_invA=0.03, scan_step_nm=2.0)
    scan = open_dataset(folder / "scan.h5")
    analyze_dataset(scan, folder / "out", say=lambda line: None, stages=STAGES[:3])
    return folder / "out"


@pytest.fixture(scope="module")
def server():
    with ExplorerServer(Subject.of(SCAN)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, body=None, **headers):
    """Status and bytes of an answer, exactly of the path that is given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest("POST" if body is not None else "GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content


def question(server, name, **args):
    status, content = ask(server, f"/{server.token}/{name}", json.dumps(args).encode())
    assert status == 200, content
    head, _, body = content.partition(b"\n")
    about = json.loads(head)
    return np.frombuffer(body, "<f4").reshape(about["shape"]) if "shape" in about else about


def sent(array):
    text = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"shape": array.shape, "dtype": str(array.dtype), "base64": text}


def test_answers_of_the_server_are_the_arrays(server):
    assert question(server, "meta")["scan"] == [7, 9]
    np.testing.assert_array_equal(question(server, "pattern", y=4, x=7), COUNTS[4, 7])
    image = map_patterns(virtual_image, SCAN, RING)
    np.testing.assert_allclose(question(server, "virtual", mask=sent(RING)), image, rtol=1e-6)
    region = np.zeros((7, 9), np.uint8)
    region[2:5, 3:8] = 1
    mean = COUNTS[2:5, 3:8].mean((0, 1))
    np.testing.assert_allclose(question(server, "mean", mask=sent(region)), mean, rtol=1e-5)


def test_the_server_answers_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, f"/{server.token}/")[0] == 200
    elsewhere = {"Host": f"example.org:{server.server_port}"}  # a name that leads here
    assert ask(server, f"/{server.token}/", **elsewhere)[0] == 404


@pytest.mark.parametrize(
    "path", ["/", "/meta", "/{other}/", "/{other}/meta", "/{short}/meta", "{token}", "/{token}", "/x/{token}/"]
)  # fmt: skip
def test_nothing_is_answered_without_the_token(server, path):
    token = server.token
    path = path.format(token=token, other=token[::-1], short=token[:-1])
    for body in (None, b"{}"):
        status, content = ask(server, path, body)
        assert status == 404
        assert content == b"there is nothing here"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2f..%2fetc/passwd", "/etc/passwd", "explorer.py", "page/explorer.js", "explorer.js/..", "?explorer.js"]
)  # fmt: skip
def test_no_path_leads_out_of_the_page(server, name):
    assert ask(server, f"/{server.token}/{name}")[0] == 404
    assert ask(server, f"/{server.token}/{name}", b"{}")[0] == 400


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("answer", {}, "no question"),
        ("__init__", {}, "no question"),
        ("pattern", {"y": 7, "x": 0}, "no position"),
        ("pattern", {"y": -1, "x": 0}, "no position"),
        ("pattern", {"y": 1.5, "x": 0}, "no position"),
        ("pattern", {"y": 1}, "does not take"),
        ("map", {"name": "../results"}, "no map"),
        ("mean", {"mask": sent(np.zeros((7, 9), np.uint8))}, "empty"),
        ("mean", {"mask": {"shape": [9], "dtype": "object", "base64": ""}}, "cannot be read"),
        ("virtual", {"mask": sent(np.zeros((3, 3), np.float32))}, "shape"),
        ("virtual", {"mask": sent(RING), "rows": [0, 99]}, "not in the scan"),
        ("residual", {"y": 0, "x": 0}, "no fitted lattice"),
    ],
)
def test_questions_that_do_not_fit_are_refused_in_words(server, name, args, says):
    status, content = ask(server, f"/{server.token}/{name}", json.dumps(args).encode())
    assert status == 400
    assert says in content.decode()


def test_questions_that_are_none_are_refused(server):
    assert ask(server, f"/{server.token}/meta", b"{not json")[0] == 400
    assert ask(server, f"/{server.token}/meta", b"[1]")[0] == 400


def test_a_used_port_is_an_error_in_one_line(server):
    with pytest.raises(InputError, match=f"port {server.server_port} cannot be used"):
        ExplorerServer(server.subject, server.server_port)


def test_maps_of_results_are_shown_as_they_are(results):
    subject, found = Subject.at(results), open_results(results)
    dark = subject.answer("map", {"name": "images/annular_dark_field"}).array
    np.testing.assert_allclose(dark, found.images.annular_dark_field, rtol=1e-6)
    y = subject.answer("map", {"name": "images/center_of_mass[y]"}).array
    np.testing.assert_allclose(y, found.images.center_of_mass[..., 0], rtol=1e-6)
    meta = subject.answer("meta", {}).about
    assert meta["step"] == {"size": 2.0, "unit": "nm"}
    assert meta["pixel"] == {"size": 0.03, "unit": "1/Å"}
    opened = eval(meta["opening"], {"open_dataset": open_dataset})
    np.testing.assert_array_equal(opened.source.read(slice(1, 2), slice(2, 3))[0, 0], COUNTS[1, 2])
    np.testing.assert_array_equal(subject.answer("pattern", {"y": 1, "x": 2}).array, COUNTS[1, 2])


def test_cepstra_are_those_of_the_library(results):
    subject, center = (
        Subject.at(results),
        open_results(results).beam.center[3, 4].astype(np.float32),
    )
    shown = subject.answer("cepstrum", {"y": 3, "x": 4})
    pattern = COUNTS[3, 4].astype(np.float32)
    covered = min(*center, 19 - center[0], 23 - center[1])
    offset = pattern.size / pattern.sum()
    half = ewpc(jnp.asarray(pattern), jnp.asarray(center), float(0.4 * covered), float(offset))
    np.testing.assert_allclose(shown.array, unfold_cepstrum(half, 24), rtol=2e-4, atol=1e-4)
    assert shown.about["unit"] == "Å"


def test_kinds_of_maps():
    shape = (2, 3)
    tree = {
        "labels": {"level_1": Field(np.zeros(shape, int), "", "", ("scan_y", "scan_x"))},
        "strain": {"pooled": {"e_xx": Field(np.zeros(shape), "1", "", ("scan_y", "scan_x"))}},
        "images": {"dose": Field(np.zeros(shape), "electrons", "", ("scan_y", "scan_x"))},
        "embedding": {"features": Field(np.zeros((*shape, 50)), "", "", ("scan_y", "scan_x", "f"))},
        "of": {"a": Field(np.zeros((5, 5)), "", "", ("scan_y", "scan_x"))},
    }
    found = maps_of(tree, shape, np.zeros(shape, bool))
    assert [(name, item.kind) for name, item in found.items()] == [
        ("images/dose", "amount"),
        ("labels/level_1", "labels"),
        ("strain/pooled/e_xx", "signed"),
    ]


def test_positions_that_are_left_out_have_no_value_but_the_reason():
    """Neither the 0 of a label nor that of a strain, nor the False of what is not unusual."""
    left_out = np.array([[True, False, False], [False, False, True]])
    dims = ("scan_y", "scan_x")
    tree = {
        "masked": Field(left_out, "", "", dims),
        "labels": {"unusual": Field(np.zeros((2, 3), bool), "", "", dims)},
        "strain": {"pooled": {"n_pooled": Field(np.zeros((2, 3), int), "", "", dims)}},
    }
    found = maps_of(tree, (2, 3), left_out)
    for name in ("labels/unusual", "strain/pooled/n_pooled"):
        np.testing.assert_array_equal(np.isnan(found[name].data), left_out)
    np.testing.assert_array_equal(found["masked"].data, left_out)


def test_large_scans_are_answered_part_by_part(monkeypatch):
    """A scan that is not held in memory: coarse images, exact rows and means from bands."""
    monkeypatch.setattr("jax4dstem.explore.subject.preview_step", lambda scan: 3)
    monkeypatch.setattr("jax4dstem.explore.subject.band_rows", lambda scan: 2)
    monkeypatch.setattr(
        "jax4dstem.explore.subject.Preview.of", functools.partial(Preview.of, limit=7 * 20 * 24 * 2)
    )
    subject = Subject.of(SCAN)
    coarse = subject.answer("virtual", {"mask": RING})
    image = map_patterns(virtual_image, SCAN, RING)
    assert coarse.about["step"] == 4
    np.testing.assert_allclose(coarse.array, image[2::4, 2::4], rtol=1e-6)
    rows = subject.answer("virtual", {"mask": RING, "rows": [5, 7]}).array
    np.testing.assert_allclose(rows, image[5:7], rtol=1e-6)
    region = np.random.default_rng(0).uniform(size=(7, 9)) < 0.4
    mean = subject.answer("mean", {"mask": region.astype(np.uint8)}).array
    np.testing.assert_allclose(mean, COUNTS[region].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(subject.answer("pattern", {"y": 6, "x": 8}).array, COUNTS[6, 8])


def test_bands_are_bounded_and_whole_chunks(results):
    scan = open_dataset(results.parent / "scan.h5")
    row = 9 * 20 * 24 * 2
    assert [band_rows(scan, limit * row) for limit in (1, 3, 5, 100)] == [2, 2, 4, 7]


def test_chunks_that_were_read_are_kept(results):
    read = []

    class Counting:
        def __getattr__(self, name):
            return getattr(scan.source, name)

        def read(self, rows, cols):
            read.append((rows.start, cols.start))
            return scan.source.read(rows, cols)

    scan = open_dataset(results.parent / "scan.h5")
    kept = KeptChunks(Counting())
    for y, x in [(0, 0), (1, 2), (6, 8), (0, 1), (6, 7)]:
        pattern = kept.read(slice(y, y + 1), slice(x, x + 1))[0, 0]
        np.testing.assert_array_equal(pattern, COUNTS[y, x])
    assert read == [(0, 0), (6, 6)]


def test_steps_that_differ_per_position_come_along():
    gain = np.arange(63.0).reshape(7, 9).astype(np.float32)
    scan = SCAN.map(lambda pattern, g: g * pattern, per_position=(gain,))
    part = scan.sample_scan([1, 4], [0, 8])
    values = map_patterns(lambda pattern: pattern.sum(), part)
    expected = (gain * COUNTS.sum((2, 3)))[np.ix_([1, 4], [0, 8])]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    pattern = Subject.of(scan).answer("pattern", {"y": 4, "x": 8}).array
    np.testing.assert_allclose(pattern, gain[4, 8] * COUNTS[4, 8], rtol=1e-6)


def test_a_scan_with_missing_patterns_has_means():
    counts = COUNTS.astype(np.float32)
    scan = Dataset.from_array(counts).without(np.eye(7, 9, dtype=bool))
    mean = Subject.of(scan).answer("mean", {"mask": np.ones((7, 9), np.uint8)}).array
    np.testing.assert_allclose(mean, counts[~np.eye(7, 9, dtype=bool)].mean(0), rtol=1e-5)


@pytest.fixture
def known_lattice():
    """One pattern of a known lattice, drawn from what the model expects, and its measurement; nothing at a second position."""
    indices = np.indices((3, 3)).reshape(2, 9).T - 1
    model = starting_model(np.diag([13.0, 12.0]), indices[[4, 0, 1, 2, 3, 5, 6, 7, 8]], 2.5)
    model = model._replace(background=jnp.full(2, 1e-4))
    center, distortion = jnp.array([23.6, 24.1]), jnp.array([[1.01, 0.0], [0.02, 0.99]])
    share = jnp.array([0.4, 0.05, 0.02, 0.1, 0.03, 0.06, 0.02, 0.04, 0.05])
    share = share / share.sum() * (1 - 1e-4 * 48 * 48)
    expected = 1e5 * np.asarray(render((48, 48), center, distortion, share, model, 13))
    counts = np.random.default_rng(0).poisson(np.stack([expected, expected])[None])
    zero, centers = np.zeros((1, 2)), np.broadcast_to(np.asarray(center), (1, 2, 2))
    status = np.array([[0, 2]])
    strain = StrainMap(
        zero, zero, zero, zero, np.zeros((1, 2, 4, 4)), status, np.diag([13.0, 12]), ""
    )
    distortions = np.broadcast_to(np.asarray(distortion), (1, 2, 2, 2))
    fits = LatticeStrain(strain, centers, distortions, zero, zero, zero, centers, zero, zero == 0)
    measured = StrainMeasurement(fits, LearnedModel(model, 0.0))
    return Dataset.from_array(counts.astype(np.uint16)), expected, measured


def test_residuals_are_of_the_fitted_lattice(known_lattice):
    scan, truth, measured = known_lattice
    counts = scan.source.read(slice(0, 1), slice(0, 1))[0, 0]
    expected, residual = expected_and_residual(counts, measured, 0, 0)
    np.testing.assert_allclose(expected + residual, counts, rtol=1e-4, atol=1e-3)
    # Shares of disks are read to the counts' own precision, and what is left scatters as counts do.
    np.testing.assert_allclose(expected, truth, atol=5 * np.sqrt(truth.max()))
    assert 0.8 < np.mean(residual**2 / truth) < 1.3
    assert expected_and_residual(counts, measured, 0, 1) is None


def test_lattices_lie_where_they_were_fitted(known_lattice):
    _, _, measured = known_lattice
    [about], places = lattices_of(measured)
    assert about["radius"] == 2.5
    assert about["indices"][0] == [0, 0]
    np.testing.assert_allclose(places[0, 0, :2], [23.6, 24.1], rtol=1e-6)
    np.testing.assert_allclose(places[0, 0, 2:6], measured.fitted_lattices[0, 0].ravel(), rtol=1e-6)
    assert places[0, 0, 6] == 0
    assert np.isnan(places[0, 1]).all()


def test_results_without_their_scan_say_so(results):
    found = open_results(results)
    gone = {**found.about, "input_path": "/no/such/file.h5"}
    subject = Subject.of(type(found)(images=found.images, about=gone, stored=found.stored))
    meta = subject.answer("meta", {}).about
    assert meta["patterns"] is None
    assert "there is no file" in meta["notes"][0]
    with pytest.raises(InputError, match="no patterns"):
        subject.answer("pattern", {"y": 0, "x": 0})
    assert subject.answer("map", {"name": "images/dose"}).array.shape == (7, 9)


# ---------------------------------------------------------------- the offline file


def inlined(page):
    """What is in a file: what it knows, and its arrays by name."""
    scripts = dict(
        re.findall(r'<script type="[^"]*" id="([^"]*)">(.*?)</script>', page.read_text())
    )
    about = json.loads(scripts.pop("about"))
    return about, {name: zlib.decompress(base64.b64decode(text)) for name, text in scripts.items()}


def decoded(about, levels):
    """Counts of the levels, as the page computes them."""
    store = about["store"]
    shape = (*store["scan"], *store["shape"])
    q = np.frombuffer(levels, np.uint8).reshape(shape)
    return store["unit"] * np.expm1(q * store["span"] / 255)


def test_the_file_holds_the_arrays_to_its_printed_quantization(results, tmp_path):
    lines = []
    page = write_page(Subject.at(results), tmp_path / "page.html", say=lines.append)
    about, blobs = inlined(page)
    counts = decoded(about, blobs["patterns"])
    share = float(re.search(r"within ([\d.]+)% of I \+ 1", lines[0]).group(1)) / 100
    assert share < 0.02
    assert (np.abs(counts - COUNTS) <= (share + 5e-4) * (COUNTS + 1)).all()
    assert lines[0] in about["meta"]["notes"]
    assert f"{page.stat().st_size / 2**20:.1f} of at most 30 MiB" in lines[-1]
    where = about["arrays"]["images/annular_dark_field"]
    dark = np.frombuffer(blobs[where["blob"]], "<f4").reshape(where["shape"])
    np.testing.assert_array_equal(
        dark, open_results(results).images.annular_dark_field.astype("f4")
    )


def test_the_file_needs_nothing_else(results, tmp_path):
    text = write_page(
        Subject.at(results), tmp_path / "page.html", say=lambda line: None
    ).read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)|@import|url\(|https?://""", text)


def test_patterns_are_summed_until_they_fit(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(40.0, (9, 8, 64, 66)).astype(np.uint16)  # noise does not pack
    subject, budget, lines = Subject.of(Dataset.from_array(counts)), 260_000, []
    page = write_page(subject, tmp_path / "page.html", budget, lines.append)
    assert page.stat().st_size <= budget
    about, blobs = inlined(page)
    per, factor = about["meta"]["patterns"]["per"], about["meta"]["patterns"]["bin"]
    assert per * factor > 1
    assert f"sums of {per} x {per} positions and {factor} x {factor} detector" in lines[0]
    rows, cols, height, width = 9 // per, 8 // per, 64 // factor, 66 // factor
    cut = counts[: rows * per, : cols * per, : height * factor, : width * factor].astype(float)
    sums = cut.reshape(rows, per, cols, per, height, factor, width, factor).sum((1, 3, 5, 7))
    error = Quantization(about["store"]["unit"], about["store"]["span"]).error
    assert (np.abs(decoded(about, blobs["patterns"]) - sums) <= error * 1.001 * (sums + 1)).all()
    alone = 2**16 + len(asset("explorer.js")) + len(asset("explorer.css"))
    with pytest.raises(InputError, match="larger budget"):
        write_page(subject, tmp_path / "page.html", alone + 40, lines.append)


def test_maps_that_do_not_fit_are_named(tmp_path):
    subject, lines = Subject.of(SCAN), []
    noise = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    large = {f"images/{i}": Field(noise, "", "", ("scan_y", "scan_x")) for i in range(300)}
    subject.__dict__["maps"] = maps_of(
        {"images": {k.split("/")[1]: v for k, v in large.items()}}, (7, 9), np.zeros((7, 9), bool)
    )
    page = write_page(subject, tmp_path / "page.html", 300_000, lines.append)
    about, _ = inlined(page)
    there, missing = (
        {m["name"] for m in about["meta"]["maps"]},
        set(lines[1].split(": ")[1].split(", ")),
    )
    assert there
    assert missing
    assert there | missing == set(large)
    assert lines[1] in about["meta"]["notes"]


# ---------------------------------------------------------------- notebook and command line


def test_the_notebook_gets_the_same_answers():
    subject = Subject.of(SCAN)
    message, [body] = reply_to(subject, {"id": "7", "name": "pattern", "args": {"y": 1, "x": 2}})
    assert message == {"id": "7", "about": {"shape": (20, 24)}}
    np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(20, 24), COUNTS[1, 2])
    message, buffers = reply_to(subject, {"id": "8", "name": "pattern", "args": {"y": 99, "x": 2}})
    assert "no position" in message["error"]
    assert buffers == []


def test_the_notebook_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)
    with pytest.raises(InputError, match=r"jax4dstem\[explorer\]"):
        explore(SCAN)


def test_the_widget_answers_messages():
    pytest.importorskip("anywidget")
    widget = explore(SCAN)
    replies = []
    widget.send = lambda content, buffers: replies.append((content, buffers))
    widget._handle_custom_msg({"id": "1", "name": "pattern", "args": {"y": 0, "x": 0}}, [])
    [(content, [body])] = replies
    assert content["about"]["shape"] == (20, 24)
    np.testing.assert_array_equal(np.frombuffer(body, "<f4"), COUNTS[0, 0].ravel())


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "there is no file"), (np.ones(5), "axes"), (b"", "is empty")],
)
def test_a_file_that_cannot_be_explored_is_an_error_in_one_line(tmp_path, content, says):
    path = tmp_path / "scan.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    result = CliRunner().invoke(app, ["explore", str(path), "--html", str(tmp_path / "page")])
    assert result.exit_code == 1
    assert says in result.output
    assert result.output.startswith("error: ")
    assert len(result.output.strip().splitlines()) == 1


def test_the_command_writes_a_file(tmp_path):
    np.save(tmp_path / "scan.npy", COUNTS)
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["explore", str(tmp_path / "scan.npy"), "--html", str(page)])
    assert result.exit_code == 0, result.output
    assert "MiB" in result.output
    assert page.read_text().startswith("<!doctype html>")


def test_the_mean_is_that_of_the_library():
    region = np.zeros((7, 9), np.uint8)
    region[1:4, 2:5] = 1
    mean = Subject.of(SCAN).answer("mean", {"mask": region}).array
    np.testing.assert_array_equal(
        mean, reduce_patterns(Mean(), SCAN, weights=region.astype(np.float32))
    )
