"""What single formats tell and leave open: EMPAD, bare frames, series, .npz, TIFF, MATLAB, py4DSTEM, RosettaSciIO."""

import sys
import time
import types
import warnings

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from jax4dstem import Dataset, InputError, open_dataset, survey_scan
from jax4dstem.beam import DetectorOptions
from jax4dstem.cli import app
from jax4dstem.coordinates import deformation, strain_in_scan_axes, strain_of
from jax4dstem.io.glance import glance

SHAPE = (4, 5, 6, 7)


@pytest.fixture
def scan():
    return np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.uint16)


def everything(dataset):
    return dataset.source.read(slice(0, dataset.shape[0]), slice(0, dataset.shape[1]))


def info(*words):
    return CliRunner().invoke(app, ["info", *map(str, words)])


# EMPAD and bare frames


def write_empad(path, scan):
    frames = np.full((len(scan), 130, 128), -7, "<f4")
    frames[:, :128] = scan
    frames.tofile(path)


def test_empad_drops_the_metadata_rows(tmp_path):
    patterns = np.random.default_rng(0).uniform(size=(6, 128, 128)).astype("f4")
    write_empad(tmp_path / "scan_x3_y2.raw", patterns)
    xml = (
        '<root><raw_file filename="scan_x3_y2.raw"/><pix_x>3</pix_x><pix_y>2</pix_y>'
        "<high_voltage>300000</high_voltage></root>"
    )
    (tmp_path / "scan.xml").write_text(xml)
    dataset = open_dataset(tmp_path / "scan.xml")
    np.testing.assert_array_equal(everything(dataset), patterns.reshape(2, 3, 128, 128))
    assert dataset.calibration.energy_kv == 300
    assert not dataset.doubts
    bare = open_dataset(tmp_path / "scan_x3_y2.raw", scan_shape=(2, 3))
    np.testing.assert_array_equal(everything(bare), patterns.reshape(2, 3, 128, 128))


@pytest.mark.parametrize(
    ("name", "search", "acquire", "found", "doubted"),
    [
        ("scan_x2_y6.raw", (6, 2), (3, 4), (6, 2), "3 x 4 (mode acquire in s.xml)"),
        ("scan_x2_y6.raw", (6, 2), (9, 9), (6, 2), "9 x 9 (mode acquire in s.xml)"),
        ("a.raw", (6, 2), (3, 4), (3, 4), "6 x 2 (mode search in s.xml)"),  # both fit
        ("a.raw", (6, 2), (5, 5), (6, 2), "5 x 5 (mode acquire in s.xml)"),
        ("a.raw", (4, 3), (4, 3), (4, 3), None),
        ("scan_x9_y9.raw", (4, 3), (5, 5), (4, 3), "9 x 9 (from the file name"),
    ],
)
def test_empad_scans_of_several_modes(tmp_path, name, search, acquire, found, doubted):
    write_empad(tmp_path / name, np.arange(12)[:, None, None])
    modes = "".join(
        f'<scan_parameters mode="{mode}"><scan_resolution_y>{y}</scan_resolution_y>'
        f"<scan_resolution_x>{x}</scan_resolution_x></scan_parameters>"
        for mode, (y, x) in (("search", search), ("acquire", acquire))
    )
    (tmp_path / "s.xml").write_text(f'<root><raw_file filename="{name}"/>{modes}</root>')
    dataset = open_dataset(tmp_path / "s.xml")
    assert dataset.scan_shape == found
    assert any(doubted in doubt for doubt in dataset.doubts) if doubted else not dataset.doubts
    told = open_dataset(tmp_path / "s.xml", scan_shape=(2, 6))
    assert told.scan_shape == (2, 6)
    assert not told.doubts


def test_bare_raw(tmp_path, scan):
    scan.astype(">u2").tofile(tmp_path / "a.raw")
    options = {"dtype": ">u2", "detector_shape": (6, 7), "scan_shape": (4, 5)}
    np.testing.assert_array_equal(everything(open_dataset(tmp_path / "a.raw", **options)), scan)
    (tmp_path / "a.raw").rename(tmp_path / "a.stream")  # what is told to be bare, is
    np.testing.assert_array_equal(everything(open_dataset(tmp_path / "a.stream", **options)), scan)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 40),
    st.floats(0, 1),
    st.sampled_from(["u1", ">u2", "<f4"]),
)
def test_bare_frames_with_anything_between(tmp_path_factory, header, gap, footer, part, dtype):
    scan = np.random.default_rng(0).integers(1, 200, SHAPE).astype(dtype)
    frames = [frame.tobytes() + bytes([7] * gap) for frame in scan.reshape(20, 6, 7)]
    frames[-1] = frames[-1][: scan[0, 0].nbytes + int(part * gap)]
    path = tmp_path_factory.mktemp("raw") / "a.raw"
    path.write_bytes(bytes([5] * header) + b"".join(frames) + bytes([3] * footer))
    dataset = open_dataset(
        path,
        dtype=dtype,
        detector_shape=(6, 7),
        scan_shape=(4, 5),
        header_bytes=header,
        gap_bytes=gap,
        footer_bytes=footer,
    )
    np.testing.assert_array_equal(everything(dataset), scan)
    np.testing.assert_array_equal(dataset.source.read(slice(1, 3), slice(2, 4)), scan[1:3, 2:4])


def test_a_bare_file_of_another_size_says_what_is_left(tmp_path, scan):
    frames = [frame.tobytes() + bytes(10) for frame in scan.reshape(20, 6, 7)]
    (tmp_path / "a.raw").write_bytes(bytes(33) + b"".join(frames))
    words = ["--dtype", "uint16", "--detector-shape", "6,7", "--scan-shape", "4,5"]
    result = info(tmp_path / "a.raw", *words)
    assert "233 bytes more than the 20 patterns of the scan" in result.output
    assert "gap_bytes (after each)" in result.output
    found = info(
        tmp_path / "a.raw", *words, "-s", "input.header_bytes=33", "-s", "input.gap_bytes=10"
    )
    assert found.exit_code == 0, found.output
    assert "header 33 bytes, gap 10 bytes" in found.output
    given_as_set = [*words[:2], "-s", "input.detector_shape=6,7", "--scan-shape", "4,5"]
    assert "233 bytes more" in info(tmp_path / "a.raw", *given_as_set).output


# Scans that are not whole, or more than one


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("flyback", [0, 2])
def test_patterns_that_an_aborted_scan_lacks(tmp_path, scan, dtype, flyback):
    rows = np.concatenate([scan, np.full((4, flyback, 6, 7), 99)], axis=1).astype(dtype)
    np.save(tmp_path / "a.npy", rows.reshape(-1, 6, 7)[: 2 * (5 + flyback) + 3])
    dataset = open_dataset(tmp_path / "a.npy", scan_shape=(4, 5), flyback=flyback)
    expected = scan.astype(float)
    expected[2, 3:] = expected[3] = np.nan if dtype == "f4" else 0
    np.testing.assert_array_equal(everything(dataset), expected)
    np.testing.assert_array_equal(dataset.source.read(slice(1, 3), slice(2, 5)), expected[1:3, 2:5])
    assert dataset.missing.sum() == 7
    assert dataset.crop_scan(1, 3, 3, 5).missing.tolist() == [[False, False], [True, True]]
    assert dataset.sample_scan([0, 3], [1, 4]).missing.tolist() == [[False, False], [True, True]]
    assert any("7 of 20 patterns are missing" in doubt for doubt in dataset.doubts)
    with pytest.raises(InputError, match="needs 80 patterns, but the file has"):
        open_dataset(tmp_path / "a.npy", scan_shape=(8, 10))  # too few to be that scan


def test_missing_patterns_are_no_error_of_a_survey_and_blank_ones_are(tmp_path):
    counts = np.random.default_rng(1).poisson(2.0, (11, 24, 24)).astype("u2")
    counts[:, 10:15, 9:14] += 60
    np.save(tmp_path / "a.npy", counts)
    found = survey_scan(open_dataset(tmp_path / "a.npy", scan_shape=(3, 4)), exclude_invalid=False)
    assert np.argwhere(~found.valid).tolist() == [[2, 3]]
    assert np.isnan(found.dose[2, 3])
    counts[5] = 0
    np.save(tmp_path / "a.npy", counts)
    with pytest.raises(InputError, match=r"1 of 12 patterns are invalid.*\(1, 1\)"):
        survey_scan(open_dataset(tmp_path / "a.npy", scan_shape=(3, 4)), exclude_invalid=False)


def test_scans_without_a_usable_pattern_say_what_is_wrong_with_them():
    numbers = np.full((3, 4, 24, 24), np.nan, np.float32)
    with pytest.raises(InputError, match="no pattern of 12 can be used: 12 with NaN"):
        survey_scan(Dataset.from_array(numbers))
    numbers[0] = 0
    masked = np.zeros((3, 4), bool)
    masked[2] = True
    told = "4 left out by the scan mask, 4 all zero, 4 with NaN"
    with pytest.raises(InputError, match=told):
        survey_scan(Dataset.from_array(numbers), scan_mask=masked)
    everything = DetectorOptions(mask=np.ones((24, 24), bool))
    with pytest.raises(InputError, match="every pixel of the detector is masked"):
        survey_scan(Dataset.from_array(numbers), detector=everything)


def test_positions_of_nothing_but_nan_do_not_make_pixels_bad():
    counts = np.random.default_rng(2).poisson(2.0, (3, 4, 24, 24)).astype(np.float32)
    counts[:, :, 10:15, 9:14] += 60
    counts[:2] = np.nan  # two thirds of the scan
    counts[2, :, 3, 5] = np.nan
    found = survey_scan(Dataset.from_array(counts), find_bad=False)
    assert np.argwhere(found.detector.bad_pixels).tolist() == [[3, 5]]
    np.testing.assert_array_equal(found.valid, [[False] * 4, [False] * 4, [True] * 4])


def test_a_bare_file_that_ends_within_a_frame(tmp_path, scan):
    (tmp_path / "a.raw").write_bytes(scan.tobytes()[:-200])
    dataset = open_dataset(tmp_path / "a.raw", dtype="u2", detector_shape=(6, 7), scan_shape=(4, 5))
    assert dataset.missing.sum() == 3
    assert any("the last frame is not whole: 52 bytes" in doubt for doubt in dataset.doubts)
    np.testing.assert_array_equal(everything(dataset)[:3], scan[:3])


@pytest.mark.parametrize("kind", ["npy", "h5", "mat"])
def test_one_of_a_series(tmp_path, scan, kind):
    series = np.stack([scan, scan + 1, scan + 2])
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, series)
    else:
        with h5py.File(path, "w") as file:
            stored = series.transpose(0, 2, 1, 4, 3) if kind == "mat" else series
            file.create_dataset("s", data=stored, chunks=(1, 2, 2, 6, 6))
            file["s"].attrs.update({"MATLAB_class": np.bytes_("uint16")} if kind == "mat" else {})
    dataset = open_dataset(path, index=2)
    np.testing.assert_array_equal(everything(dataset), scan + 2)
    assert dataset.source.chunks == ((1, 1) if kind == "npy" else (2, 2))
    assert "a series of 3 scans" in info(path).output
    assert "4 x 5 positions" in info(path, "--index", 1).output


def test_the_axis_of_a_series_can_be_told(tmp_path, scan):
    np.save(tmp_path / "a.npy", np.stack([scan, 2 * scan], axis=2))
    dataset = open_dataset(tmp_path / "a.npy", axes="scan_y,scan_x,series,det_y,det_x", index=1)
    np.testing.assert_array_equal(everything(dataset), 2 * scan)


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_a_single_pattern(tmp_path, scan, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, scan[1, 2])
    else:
        with h5py.File(path, "w") as file:
            file["image"] = scan[1, 2]
            file["matrix"] = np.eye(2)
    dataset = open_dataset(path)
    assert dataset.shape == (1, 1, 6, 7)
    np.testing.assert_array_equal(everything(dataset)[0, 0], scan[1, 2])
    assert "scan 1 x 1: a single pattern" in dataset.notes


def test_tables_are_not_offered_as_scans(tmp_path, scan):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["lattice"] = np.zeros((4, 5, 2, 2))
        file["orientation"] = np.zeros((4, 5, 3, 3))
        file["here/counts"] = scan
        file["probe"] = scan[:1, :2] // 2
    dataset = open_dataset(tmp_path / "a.h5")
    np.testing.assert_array_equal(everything(dataset), scan)
    (doubt,) = dataset.doubts
    assert "not the smaller probe (1, 2, 6, 7)" in doubt
    with pytest.raises(
        InputError, match=r"it has probe \(1, 2, 6, 7\), here/counts \(4, 5, 6, 7\)$"
    ):
        open_dataset(tmp_path / "a.h5", key="nothing")
    assert open_dataset(tmp_path / "a.h5", key="lattice").detector_shape == (2, 2)  # if asked for


# Formats


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, scan, save):
    save(tmp_path / "a.npz", table=np.eye(3), counts=scan.astype(">u2"), names=np.array(["a"]))
    dataset = open_dataset(tmp_path / "a.npz")
    np.testing.assert_array_equal(everything(dataset), scan)
    how = "memory-mapped" if save is np.savez else "unpacked in memory"
    assert any(how in note for note in dataset.notes)


def test_a_npy_file_of_another_name(tmp_path, scan):
    np.save(tmp_path / "a.npy", scan)
    (tmp_path / "a.npy").rename(tmp_path / "a.raw")
    np.testing.assert_array_equal(everything(open_dataset(tmp_path / "a.raw")), scan)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"imagej": True}, {"byteorder": ">"}]
)
def test_tiff(tmp_path, scan, options):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", scan.reshape(20, 6, 7), **options)
    dataset = open_dataset(tmp_path / "a.tif", scan_shape=(4, 5))
    np.testing.assert_array_equal(everything(dataset), scan)
    np.testing.assert_array_equal(dataset.source.read(slice(1, 3), slice(2, 4)), scan[1:3, 2:4])


def test_tiff_that_is_none_or_a_picture(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((9, 9, 3), "u1"), photometric="rgb")
    (tmp_path / "text.tif").write_text("words")
    with pytest.raises(InputError, match="pictures with axes YXS"):
        open_dataset(tmp_path / "rgb.tif")
    with pytest.raises(InputError, match="no TIFF file"):
        open_dataset(tmp_path / "text.tif")


def test_small_objects_of_matlab_are_not_looked_at(tmp_path, scan, monkeypatch):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["cbed"] = scan.transpose(1, 0, 3, 2)
        file["cbed"].attrs["MATLAB_class"] = np.bytes_("uint16")
        for i in range(3000):
            file[f"#refs#/{i}"] = np.arange(2.0)
        file["#refs#/scan"] = scan
    opened = []
    look = h5py.h5o.get_info
    monkeypatch.setattr(h5py.h5o, "get_info", lambda *args: (opened.append(args), look(*args))[1])
    begin = time.perf_counter()
    np.testing.assert_array_equal(everything(open_dataset(tmp_path / "a.mat")), scan)
    assert time.perf_counter() - begin < 1
    assert len(opened) == 2
    key = "#refs#/scan"  # what is asked for is found there
    np.testing.assert_array_equal(everything(open_dataset(tmp_path / "a.mat", key=key)), scan)
    with h5py.File(tmp_path / "a.mat", "a") as file:
        del file["cbed"]
    np.testing.assert_array_equal(everything(open_dataset(tmp_path / "a.mat")), scan)


@pytest.mark.parametrize("size", [300, 3])
def test_crowded_groups_are_looked_at_where_they_could_hold_a_scan(tmp_path, size):
    scan = np.ones((size, 20, 20, 10), "u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(1100):
            file[f"many/{i}"] = i
        file["many/other"] = np.ones((20, 20, 20, 20), "u2")
        file["scan"] = scan
    if size == 3:
        assert open_dataset(tmp_path / "a.h5").shape == (20, 20, 20, 20)
    else:  # the rest of the file is less than half of it
        assert open_dataset(tmp_path / "a.h5").shape == scan.shape


def write_py4dstem(path, scan, **calibration):
    with h5py.File(path, "w") as file:
        file["root/datacube/data"] = scan
        group = file.create_group("root/metadatabundle/calibration")
        for name, value in calibration.items():
            group[name] = value


@pytest.mark.parametrize("flip", [False, True])
def test_py4dstem_turns_the_detector(tmp_path, scan, flip):
    angle = -0.4
    write_py4dstem(
        tmp_path / "a.h5", scan, Q_pixel_size=0.3, Q_pixel_units="q_A^-1", QR_rotation=angle, QR_flip=flip, R_pixel_size=7,
        R_pixel_units="furlong",
    )  # fmt: skip
    dataset = open_dataset(tmp_path / "a.h5")
    assert dataset.calibration.pixel_inv_angstrom == pytest.approx(0.3 / (2 * np.pi))
    assert any("'furlong' not used" in doubt for doubt in dataset.doubts)
    # From scan to detector: turned counter-clockwise on the screen, then, with a flip, the axes exchanged.
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    turn = turn[::-1] if flip else turn
    wanted = (0.02, -0.01, 0.004, 0.01)
    gradient = np.asarray(deformation(*wanted))
    seen = np.array(strain_of(jnp.asarray(turn @ gradient @ turn.T)))
    found = strain_in_scan_axes(np.asarray(seen), dataset.calibration)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def write_hspy(path, data, units, scales):
    with h5py.File(path, "w") as file:
        group = file.create_group("Experiments/s")
        group["data"] = data
        for i, (unit, scale) in enumerate(zip(units, scales, strict=True)):
            group.create_group(f"axis-{i}").attrs.update(scale=scale, units=unit)


def test_units_order_the_axes_of_a_file(tmp_path, scan):
    stored = scan.transpose(2, 3, 0, 1)
    write_hspy(tmp_path / "a.hspy", stored, ["1/nm", "1/nm", "nm", "nm"], [0.3, 0.3, 4, 5])
    dataset = open_dataset(tmp_path / "a.hspy")
    np.testing.assert_array_equal(everything(dataset), scan)
    assert dataset.calibration.pixel_inv_angstrom == pytest.approx(0.03)
    assert dataset.calibration.scan_step_y_nm == 4
    assert dataset.calibration.scan_step_nm == 5
    as_told = open_dataset(tmp_path / "a.hspy", axes="scan_y,scan_x,det_y,det_x")
    assert as_told.shape == stored.shape
    assert as_told.calibration.pixel_inv_angstrom is None
    assert any("the scan is measured in lengths" in doubt for doubt in as_told.doubts)


def test_info_estimates_gain_and_electrons(tmp_path):
    y, x = np.indices((48, 48))
    mean = 1.0 + 60.0 * (np.hypot(y - 24, x - 23) < 6)
    counts = 40 * np.random.default_rng(0).poisson(mean, (6, 6, 48, 48))
    np.save(tmp_path / "a.npy", counts.astype("u2"))
    line = next(line for line in info(tmp_path / "a.npy").output.splitlines() if "electron" in line)
    words = line.split()
    dose, gain = words[1], words[words.index("at") + 1]
    assert float(dose) == pytest.approx(mean.sum(), rel=0.1)
    assert float(gain) == pytest.approx(40, rel=0.1)


def test_info_shows_counts_and_doubts(tmp_path):
    data = np.full((3, 3, 8, 8), 4, "u1")
    data[:, :, 2, 3], data[:, :, 4, 4] = 255, 1
    data[2, 2] = 0
    write_hspy(tmp_path / "a.hspy", data, ["nm", "nm", "1/nm", "1/mile"], [2, 3, 0.5, 0.5])
    text = info(tmp_path / "a.hspy").output
    assert "step 2 x 3 nm" in text
    assert "counts    0 to 255, mean" in text
    assert "whole numbers" in text
    doubts = [line for line in text.splitlines() if line.startswith("doubt ")]
    for words in (
        "y and x differ",
        "'1/mile' not used",
        "1 of 9 patterns are the same",
        "1 pixels reach 255",
    ):
        assert sum(words in doubt for doubt in doubts) == 1, text
    wild = np.array([1e-20, 1.0, 2e38, np.nan] * 16, "f4").reshape(1, 1, 8, 8)
    np.save(tmp_path / "wild.npy", wild)
    assert len(glance(open_dataset(tmp_path / "wild.npy")).doubts) == 2


def test_info_doubts_a_sign_that_was_made_up(tmp_path, rng):
    counts = rng.poisson(100.0, (3, 4, 16, 16)).astype("u1")
    counts[:, :, 4:8, 4:8] += 60
    for name, stored, said in (
        ("a", counts, 0),
        ("b", counts.view("i1"), 1),
        ("c", counts // 2, 0),
    ):
        np.save(tmp_path / f"{name}.npy", stored)
        found = glance(open_dataset(tmp_path / f"{name}.npy")).doubts
        assert sum("give dtype uint8" in doubt for doubt in found) == said, found
    again = open_dataset(tmp_path / "b.npy", dtype="uint8")
    np.testing.assert_array_equal(again.source.read(slice(0, 3), slice(0, 4)), counts)


def test_info_doubts_exchanged_axes(tmp_path, rng):
    y, x = np.indices((24, 20))
    mean = 0.2 + 30 * np.exp(-np.hypot(y - 11, x - 9) / 3)
    data = rng.poisson(mean * np.linspace(0.3, 1, 30)[:, None, None], (8, 30, 24, 20))
    aborted = np.where(np.arange(8)[:, None, None, None] < 5, data, 0)
    cases = ("a", data, 0), ("b", aborted, 0), ("c", data.transpose(2, 3, 0, 1), 1)
    for name, stored, said in cases:
        np.save(tmp_path / f"{name}.npy", stored)
        found = glance(open_dataset(tmp_path / f"{name}.npy")).doubts
        assert sum("exchanged" in doubt for doubt in found) == said, found


# RosettaSciIO: what its readers do, by stand-ins


class Lazy:
    """As Dask's arrays are: nothing is read before `compute`."""

    def __init__(self, data, broken=False):
        self.data, self.broken = data, broken
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

    def __getitem__(self, index):
        return Lazy(self.data[index], self.broken)

    def compute(self):
        if self.broken:
            raise ValueError("mmap length is greater than file size")
        return np.asarray(self.data)


@pytest.fixture
def rosetta(monkeypatch):
    """Registers readers for a suffix, each a function that returns signals."""
    module = types.ModuleType("rsciio")
    module.IO_PLUGINS = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rsciio", module)

    def register(name, suffix, reader):
        api = types.ModuleType(f"rsciio.{name}")
        api.file_reader = lambda path, lazy: reader()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, api.__name__, api)
        module.IO_PLUGINS.append({"name": name, "file_extensions": [suffix], "api": api.__name__})  # type: ignore[attr-defined]

    return register


def signal(data, units=(), scales=(), broken=False):
    axes = [{"units": u, "scale": s} for u, s in zip(units, scales, strict=True)]
    return {"data": Lazy(data, broken), "axes": axes}


def fails(error):
    def reader():
        raise error

    return reader


def test_the_reader_that_fits_is_taken(tmp_path, scan, rosetta):
    path = tmp_path / "a.zzz"
    path.write_bytes(b"anything")
    module_lacks = ImportError("No module named 'zzz_codec'", name="zzz_codec")
    rosetta("Other", "zzz", fails(KeyError("metaId")))
    rosetta("Lacking", "zzz", fails(module_lacks))
    rosetta("Spectrum", "zzz", lambda: [signal(scan[0, 0, 0])])
    rosetta("Short", "zzz", lambda: [signal(scan, broken=True)])
    with pytest.raises(InputError) as error:
        open_dataset(path)
    for words in (
        "Other: 'metaId'",
        "Lacking: needs zzz_codec: pip install 'jax4dstem[formats]'",
        "Spectrum: no patterns of numbers, but uint16 (7,)",
        "Short: mmap length is greater",
    ):
        assert words in str(error.value)

    def last():
        warnings.warn("the signature is strange", UserWarning, stacklevel=1)
        stored = scan.transpose(2, 3, 0, 1)
        return [
            signal(stored, ["mrad", "mrad", "Å", "Å"], [0.5, 0.5, 30, 30]),
            signal(scan[0, 0]),
        ]

    rosetta("Right", "zzz", last)
    dataset = open_dataset(path, energy_kv=300)
    np.testing.assert_array_equal(everything(dataset), scan)
    assert dataset.calibration.scan_step_nm == 3
    assert dataset.doubts == ("the signature is strange",)


def test_a_header_names_the_counts_beside_it(tmp_path, rosetta):
    rosetta("Merlin", "mib", fails(ValueError))
    for name in ("a.hdr", "a.mib", "a.txt", "b.mib"):
        (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(InputError, match=r"unknown format .hdr; beside it is a.mib"):
        open_dataset(tmp_path / "a.hdr")


def test_lazy_formats_are_read_by_parts(tmp_path, scan, rosetta):
    """Peak memory is that of what is asked for: no part of the array is computed but the last pattern and that."""
    computed = []

    class Counting(Lazy):
        def __getitem__(self, index):
            return Counting(self.data[index], self.broken)

        def compute(self):
            computed.append(self.data.shape)
            return super().compute()

    (tmp_path / "a.zzz").write_bytes(b"anything")
    rosetta("Lazy", "zzz", lambda: [{"data": Counting(scan), "axes": []}])
    dataset = open_dataset(tmp_path / "a.zzz")
    assert computed == [(6, 7)]
    dataset.source.read(slice(1, 2), slice(0, 3))
    assert computed[1:] == [(1, 3, 6, 7)]


def test_blo_and_mrc(tmp_path, scan):
    pytest.importorskip("rsciio")
    header = np.zeros(256, "<i4")
    header[:4] = 7, 6, 20, 6  # columns, rows, sections, uint16
    header[7:10] = 7, 6, 20
    header[52] = int.from_bytes(b"MAP ", "little")
    (tmp_path / "a.mrc").write_bytes(header.tobytes() + scan.astype("<u2").tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = open_dataset(tmp_path / "a.mrc", scan_shape=(4, 5))
        np.testing.assert_array_equal(everything(dataset), scan)
        (tmp_path / "cut.mrc").write_bytes((tmp_path / "a.mrc").read_bytes()[:-300])
        (tmp_path / "text.blo").write_text("words, words, words")
        with pytest.raises(InputError, match="cannot be read, or is truncated"):
            open_dataset(tmp_path / "cut.mrc", scan_shape=(4, 5))
        with pytest.raises(InputError, match="it begins with b'words,', not b'IMGBLO'"):
            open_dataset(tmp_path / "text.blo")


def test_what_is_no_scan_or_has_no_names_is_told_what_to_do(tmp_path):
    pytest.importorskip("rsciio")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"unknown format .txt; read are .h5, .*bare counts"):
        open_dataset(tmp_path / "notes.txt")
    np.save(tmp_path / "scan.npy", np.ones((2, 2, 8, 8)))
    with pytest.raises(InputError, match="no named datasets: leave key out"):
        open_dataset(tmp_path / "scan.npy", key="data")
