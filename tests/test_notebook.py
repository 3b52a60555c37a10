"""What one does with a scan in a notebook: index it, look at it, read it, and what wrong arguments are told."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jax4dstem
from jax4dstem import (
    Calibration,
    Dataset,
    InputError,
    analyze,
    map_patterns,
    memory,
    survey_scan,
)
from jax4dstem.pipeline import STAGES
from jax4dstem.thumbnail import pictures, png


@pytest.fixture
def counts(rng):
    counts = rng.poisson(2.0, (6, 9, 16, 18)).astype(np.uint16)
    counts[..., 6:10, 7:11] += 60
    return counts


@pytest.fixture
def scan(counts):
    return Dataset.from_array(counts, Calibration(0.02, 3.0))


@pytest.fixture
def scaled(scan):
    gain = np.arange(54.0, dtype=np.float32).reshape(6, 9)
    return scan.map(lambda pattern, gain, add: pattern * gain + add, 1.0, per_position=(gain,))


INDICES = [
    np.s_[2:4, :], np.s_[-2:, 3], np.s_[1], np.s_[:, ::3], np.s_[1::2, -4:-1], np.s_[...], np.s_[2:3, 4:5],
    np.s_[np.int64(2), 1:],
]  # fmt: skip


@pytest.mark.parametrize("key", INDICES, ids=str)
@pytest.mark.parametrize("name", ["scan", "scaled"])
def test_a_part_of_a_scan_is_that_of_the_array(name, key, request):
    dataset = request.getfixturevalue(name)
    whole, part = np.asarray(dataset), dataset[key]
    keys = key if isinstance(key, tuple) else (key,)
    kept = tuple(slice(k, k + 1 or None) if isinstance(k, int | np.integer) else k for k in keys)
    np.testing.assert_array_equal(np.asarray(part), whole[kept])
    np.testing.assert_allclose(map_patterns(lambda p: p, part), whole[kept], rtol=1e-6)


def test_one_pattern_is_an_array_as_the_chain_makes_it(scan, scaled, counts):
    np.testing.assert_array_equal(scan[-1, 2], counts[-1, 2])
    assert scan[1, 2].dtype == np.uint16
    assert isinstance(scaled[1, 2], np.ndarray)
    np.testing.assert_allclose(scaled[1, 2], counts[1, 2] * 11.0 + 1)
    assert scan.bin_detector(2)[0, 0].shape == (8, 9)


def test_a_map_of_positions_chooses_them(scaled):
    chosen = np.zeros((6, 9), bool)
    chosen[[1, 4], [2, 7]] = True
    np.testing.assert_allclose(np.asarray(scaled[chosen])[:, 0], np.asarray(scaled)[chosen])


def test_every_other_position_is_two_steps_away(scan):
    assert scan[::2, ::2].calibration == Calibration(0.02, 6.0)
    assert scan[::2].calibration == Calibration(0.02, 3.0, scan_step_y_nm=6.0)
    assert scan[1:3, 2:].calibration == scan.calibration


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (np.s_[6, 0], "there is no row 6: the scan has 6, from 0"),
        (np.s_[0, -10], "there is no column -10: the scan has 9, from 0"),
        (np.s_[4:2], "rows 4:2 of 6 are none"),
        (np.s_[:, ::-1], "columns ::-1 of 9 are none"),
        (np.s_[1.0, 0], "a whole number or a slice, not float; scan.at(mask) takes a boolean map"),
        (np.s_[0, 0, 3], r"a scan takes rows and columns, not 3 indices: scan[y, x][rows, cols] cuts"),
        (np.ones((2, 2), bool), "the scan mask has the shape (2, 2), the scan (6, 9)"),
    ],
)  # fmt: skip
def test_what_is_no_position_is_told(scan, key, message):
    with pytest.raises(InputError) as error:
        scan[key]
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_scan_is_not_looped_over(scan):
    with pytest.raises(InputError, match="map_patterns"):
        list(scan)


def test_numpy_takes_a_scan_that_fits_in_memory(scan, counts, monkeypatch):
    assert np.asarray(scan, np.float32).dtype == np.float32
    assert np.mean(scan) == counts.mean()
    monkeypatch.setattr(memory, "memory", lambda: 2 * scan.nbytes)
    assert np.asarray(scan).nbytes == scan.nbytes
    monkeypatch.setattr(memory, "memory", lambda: 2 * scan.nbytes - 1)
    with pytest.raises(InputError, match=r"more than half of this machine's memory .* scan\[:64\]"):
        np.asarray(scan)
    with pytest.raises(InputError, match="several arrays"):
        np.asarray(scan.map(lambda pattern: (pattern, pattern)))


def test_a_dataset_tells_itself_in_one_line(scan, scaled):
    assert repr(scan) == (
        "<Dataset: 6 x 9 positions, 16 x 18 px, uint16, 30.4 KiB, step 3 nm, pixel 0.02 1/Å>"
    )
    assert "16 x 18 px in 1 step to 16 x 18 float32" in repr(scaled)


def test_a_dataset_shows_itself_in_a_notebook(scan):
    page = scan._repr_html_()
    assert page.count("<img") == 2
    for word in ("6 x 9 positions", "uint16", "30.4 KiB", "3 nm", "0.02 1/Å"):
        assert word in page
    assert "of 6 x 9" not in page  # the picture shows all positions


class Counting:
    """A source that counts the bytes it has read."""

    def __init__(self, shape, chunks):
        self.shape, self.chunks, self.dtype, self.read_bytes = shape, chunks, np.dtype(np.uint16), 0

    def read(self, rows, cols):
        patterns = np.ones((rows.stop - rows.start, cols.stop - cols.start, *self.shape[2:]))
        patterns = patterns.astype(self.dtype)
        self.read_bytes += patterns.nbytes
        return patterns


@pytest.mark.parametrize("chunks", [(1, 1), (1, 200), (8, 8)])
def test_the_picture_reads_little_of_a_large_scan(chunks):
    source = Counting((400, 200, 128, 128), chunks)
    page = Dataset(source)._repr_html_()
    assert page.count("<img") == 2
    assert "of 400 x 200)" in page
    # 16 MiB, or 16 chunks where these are large; runs of positions in a chunk are read at once.
    assert source.read_bytes <= max(16 * 2**20, 16 * np.prod(chunks) * 2 * 128 * 128)


def test_a_file_that_is_gone_is_still_described(scan):
    class Gone(Counting):
        def read(self, rows, cols):
            raise OSError("no such file")

    page = Dataset(Gone((4, 5, 8, 8), (1, 1)))._repr_html_()
    assert "4 x 5 positions" in page
    assert "<img" not in page


def test_the_png_is_one(rng):
    image = rng.uniform(size=(5, 7))
    read = np.asarray(Image.open(io.BytesIO(png(image))))
    np.testing.assert_array_equal(read, (255 * image + 0.5).astype(np.uint8))


def test_the_picture_is_a_dark_field(counts):
    counts[2:4, 3:6, 12:, :] += 40  # beside the beam
    counts[0, 0, 6:10, 7:11] *= 9  # in it
    dark, mean = pictures(counts, (6, 9)).values()
    assert dark[2:4, 3:6].min() > 0.9
    assert dark[0, 0] < 0.2
    assert mean.shape == (16, 18)


def test_a_scan_plots_itself(scan):
    figure = scan.plot()
    left, right = figure.axes[:2]
    assert left.images[0].get_array().shape == (16, 18)
    assert right.images[0].get_array().shape == (6, 9)
    assert "3 nm" in right.get_xlabel()


KEEP = """
import jax, numpy as np, os, sys
from jax4dstem import Dataset, map_patterns
if len(sys.argv) > 1:
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
def long(pattern):
    for _ in range(3):
        pattern = jax.numpy.sin(pattern @ pattern.T)[:, ::-1] + jax.numpy.sort(pattern, axis=0)
    return pattern.sum()
map_patterns(long, Dataset.from_array(np.ones((1, 1, 8, 8), np.float32)))
print(jax.config.jax_compilation_cache_dir)
"""


def kept_by(tmp_path, *own, **environment):
    """Where a session keeps its kernels, and what it has kept."""
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "XLA_FLAGS")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    process = subprocess.run(
        [sys.executable, "-c", KEEP, *own], capture_output=True, text=True, timeout=120, check=True,
        env={**clean, "XDG_CACHE_HOME": str(tmp_path / "home"), **environment},
    )  # fmt: skip
    there = process.stdout.strip()
    return there, sorted(f.parent for f in tmp_path.rglob("*-cache"))


def test_the_first_lift_of_a_session_keeps_what_is_compiled(tmp_path):
    # However quickly this machine compiles.
    there, kept = kept_by(tmp_path, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert Path(there).parent == tmp_path / "home" / "jax4dstem"
    assert Path(there) in kept


@pytest.mark.slow  # a process each
@pytest.mark.parametrize("how", ["variable", "none", "config", "read-only"])
def test_what_the_user_tells_jax_wins(how, tmp_path):
    mine = str(tmp_path / "mine")
    if how == "variable":
        assert kept_by(tmp_path, JAX_COMPILATION_CACHE_DIR=mine)[0] == mine
    elif how == "config":
        assert kept_by(tmp_path, mine)[0] == mine
    elif how == "none":
        assert kept_by(tmp_path, JAX_COMPILATION_CACHE_DIR="") == ("", [])
    else:
        (tmp_path / "home").touch()  # no directory can be made there
        assert kept_by(tmp_path) == ("None", [])


def test_names_of_the_main_jobs_are_in_tab_completion():
    wanted = {"analyze", "find_domains", "map_domains", "measure_strain", "plots", "simulate"}
    assert wanted <= set(dir(jax4dstem))


def test_results_show_what_they_hold_not_their_arrays(scan):
    survey = survey_scan(scan)
    text = repr(survey)
    assert "\n  dose      6 x 9 float32 electrons: sum of each pattern\n" in text
    assert "\n  detector  ScanDetector\n" in text
    assert "masked" not in text  # there is none
    assert len(text) < 1000
    found = analyze(scan, stages=STAGES[:2])
    assert repr(found) == "<Results of memory\n  survey      Survey\n  beam        BeamPositions>"


def test_analyze_takes_a_file_or_a_dataset_and_gives_results(scan, counts, tmp_path):
    np.save(tmp_path / "scan.npy", counts)
    found = analyze(scan, recipe={"seed": 3}, stages=STAGES[:2])
    stored = analyze(
        tmp_path / "scan.npy", tmp_path / "out", {"seed": 3}, lambda _: None, STAGES[:2]
    )
    np.testing.assert_array_equal(found.beam.center, stored.beam.center)
    assert stored.about["seed"] == found.about["seed"] == 3
    assert (tmp_path / "out" / "results.h5").exists()
    with pytest.raises(InputError, match=r"cluster\.kk"):
        analyze(scan, recipe={"cluster.kk": 3})


# By what is typed, what is answered; in a session of its own, as here wrong types are seen before.
MISTAKES = {
    "survey_scan('scan.h5')": "survey_scan takes a Dataset, not a path: open_dataset('scan.h5') gives one",
    "measure_strain(counts, centers, 2.0)": "measure_strain takes a Dataset, not ndarray: Dataset.from_array(array) makes one",
    "map_patterns(scan, jnp.sum)": "map_patterns takes a Dataset, not a function: that comes first, as in map_patterns(fn, scan)",
    "reduce_patterns(Mean(), prepared)": "reduce_patterns takes a Dataset, not Prepared: its attribute patterns is one",
    "align_scan(None, None)": "align_scan takes a Dataset, not NoneType",
    "map_domains(scan)": "map_domains takes prepared patterns, not Dataset: prepare_patterns(scan, survey, align_scan(scan, survey)) gives them",
    "analyze(counts)": "analyze takes a Dataset, not ndarray: Dataset.from_array(array) makes one",
    "map_patterns(bright_field, scan, centers, 3.0)": "an argument of shape (6, 9, 2) is given whole to every pattern, and the "
    "function fails: pass what differs between positions as per_position=(values,)",
    "measure_strain(scan, np.array([8.0, 9.0]), 2.0)": "measure_strain needs the direct beam's center at every position, "
    "(6, 9, 2), not (2,): align_scan(scan, survey).center is that; np.broadcast_to(center, (6, 9, 2)) where the beam "
    "stands still",
    "map_patterns(jnp.add, scan, per_position=(scan,))": "a per-position argument is a map of the scan in memory, not a Dataset",
}  # fmt: skip
SESSION = """
import json, sys
import jax.numpy as jnp, numpy as np
from jax4dstem import *
counts, centers = np.ones((6, 9, 16, 18), np.uint8), np.zeros((6, 9, 2), np.float32)
counts[..., 6:10, 7:11] += 60
scan = Dataset.from_array(counts)
survey = survey_scan(scan)
prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
said = {}
for typed in json.loads(sys.argv[1]):
    try:
        eval(typed)
    except InputError as error:
        said[typed] = str(error)
print(json.dumps(said))
"""


@pytest.mark.slow  # in a process of its own, where no types are checked
def test_a_mistaken_argument_gets_one_sentence():
    process = subprocess.run(
        [sys.executable, "-c", SESSION, json.dumps(list(MISTAKES))],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert json.loads(process.stdout) == MISTAKES
