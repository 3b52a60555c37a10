import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax4dstem import InputError, OutputError, map_patterns, open_dataset, open_results
from jax4dstem.fields import Field
from jax4dstem.io.results import read_group, write_group
from jax4dstem.report import write_report

SHAPE = (4, 5, 6, 7)


def everything(dataset):
    return dataset.source.read(slice(0, dataset.shape[0]), slice(0, dataset.shape[1]))


@pytest.fixture
def scan():
    return np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.uint16)


def write_hdf5(path, arrays, attributes=None, **options):
    with h5py.File(path, "w") as file:
        for name, data in arrays.items():
            file.create_dataset(name, data=data, **options)
        for name, values in (attributes or {}).items():
            file[name].attrs.update(values)
    return path


DTYPES = ["u1", "<u2", ">u2", "<u4", ">i4", "i8", "u8", "f2", "<f4", ">f4", ">f8", "?"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", [".h5", ".npy"])
def test_types_and_byte_orders(tmp_path, scan, dtype, suffix):
    data = (scan % 2 if dtype == "?" else scan).astype(dtype)
    path = tmp_path / f"scan{suffix}"
    if suffix == ".npy":
        np.save(path, data)
    else:
        write_hdf5(path, {"data": data})
    dataset = open_dataset(path)
    found = everything(dataset)
    np.testing.assert_array_equal(found, data)
    assert found.dtype == dataset.dtype
    assert found.dtype.isnative
    total = map_patterns(lambda pattern: pattern.astype(float).sum(), dataset)
    np.testing.assert_allclose(total, data.astype(float).sum((2, 3)), rtol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_any_rectangle_of_any_layout(tmp_path_factory, data):
    y0 = data.draw(st.integers(0, 3))
    y1 = data.draw(st.integers(y0 + 1, 4))
    x0 = data.draw(st.integers(0, 4))
    x1 = data.draw(st.integers(x0 + 1, 5))
    skip, flyback = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 2))
    scan = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
    folder = tmp_path_factory.mktemp("any")
    expected = scan[y0:y1, x0:x1]
    rows, cols = slice(y0, y1), slice(x0, x1)
    chunked = write_hdf5(folder / "a.h5", {"d": scan}, chunks=(2, 3, 6, 7))
    np.testing.assert_array_equal(open_dataset(chunked).source.read(rows, cols), expected)
    padded = np.concatenate([scan, np.full((4, flyback, 6, 7), -1)], axis=1).reshape(-1, 6, 7)
    stack = np.concatenate([np.full((skip, 6, 7), -2), padded]).astype(np.int32)
    np.save(folder / "b.npy", stack)
    dataset = open_dataset(folder / "b.npy", scan_shape=(4, 5), frame_skip=skip, flyback=flyback)
    np.testing.assert_array_equal(dataset.source.read(rows, cols), expected)
    reversed_axes = write_hdf5(folder / "c.h5", {"d": scan.transpose(1, 0, 3, 2)})
    dataset = open_dataset(reversed_axes, axes="scan_x,scan_y,det_x,det_y")
    np.testing.assert_array_equal(dataset.source.read(rows, cols), expected)


def test_matlab_files_have_reversed_axes(tmp_path, scan):
    path = tmp_path / "cbed.mat"
    attributes = {"cbed": {"MATLAB_class": np.bytes_("single")}}
    write_hdf5(path, {"cbed": scan.transpose(1, 0, 3, 2).astype("f4")}, attributes)
    dataset = open_dataset(path)
    np.testing.assert_array_equal(everything(dataset), scan)
    assert any("MATLAB" in note for note in dataset.notes)


def test_calibration_from_attributes_axes_and_vectors(tmp_path, scan):
    plain = write_hdf5(
        tmp_path / "a.h5", {"data": scan}, {"data": {"q_pixel_invA": "0.03", "scan_step_nm": 2.0}}
    )
    assert open_dataset(plain).calibration.pixel_inv_angstrom == 0.03
    assert open_dataset(plain).calibration.scan_step_nm == 2.0
    hspy = tmp_path / "b.hspy"
    with h5py.File(hspy, "w") as file:
        group = file.create_group("Experiments/one")
        group["data"] = scan
        for i, (scale, units) in enumerate([(3, "nm"), (3, "nm"), (0.2, "1/nm"), (0.2, "1/nm")]):
            axis = group.create_group(f"axis-{i}")
            axis.attrs.update(scale=scale, units=units, navigate=i < 2)
    calibration = open_dataset(hspy).calibration
    assert calibration.pixel_inv_angstrom == pytest.approx(0.02)
    assert calibration.scan_step_nm == 3
    emd = tmp_path / "c.emd"
    with h5py.File(emd, "w") as file:
        group = file.create_group("root/datacube")
        group["data"] = scan
        for i, (step, units) in enumerate([(5, "Å"), (5, "Å"), (0.01, "A^-1"), (0.01, "A^-1")]):
            group[f"dim{i}"] = step * np.arange(SHAPE[i])
            group[f"dim{i}"].attrs["units"] = units
    calibration = open_dataset(emd).calibration
    assert calibration.pixel_inv_angstrom == pytest.approx(0.01)
    assert calibration.scan_step_nm == pytest.approx(0.5)
    given = open_dataset(emd, pixel_inv_angstrom=0.5, bin_detector=2)
    assert given.calibration.pixel_inv_angstrom == 1.0
    assert any("given" in note for note in given.notes)


def test_nexus_default_signal(tmp_path, scan):
    path = write_hdf5(tmp_path / "a.nxs", {"entry/data/counts": scan, "entry/other/dark": scan})
    with h5py.File(path, "a") as file:
        file.attrs["default"] = "entry"
        file["entry"].attrs["default"] = "data"
        file["entry/data"].attrs["signal"] = "counts"
    np.testing.assert_array_equal(everything(open_dataset(path)), scan)


def test_stacks_in_several_linked_files(tmp_path, scan):
    stack = scan.reshape(20, 6, 7)
    with h5py.File(tmp_path / "master.h5", "w") as master:
        for i, part in enumerate((stack[:9], stack[9:17], stack[17:])):
            name = f"data_00000{i + 1}"
            write_hdf5(tmp_path / f"{name}.h5", {"entry/data": part})
            master.require_group("entry/data")[name] = h5py.ExternalLink(f"{name}.h5", "entry/data")
    dataset = open_dataset(tmp_path / "master.h5", scan_shape=(4, 5))
    np.testing.assert_array_equal(everything(dataset), scan)
    np.testing.assert_array_equal(dataset.source.read(slice(1, 3), slice(2, 4)), scan[1:3, 2:4])


def test_zarr(tmp_path, scan):
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    root.create_array("inside/data", data=scan, chunks=(2, 2, 6, 7))
    np.testing.assert_array_equal(everything(open_dataset(tmp_path / "a.zarr")), scan)
    assert open_dataset(tmp_path / "a.zarr").source.chunks == (2, 2)


def test_square_scans_are_guessed_and_said_so(tmp_path, scan):
    np.save(tmp_path / "a.npy", scan.reshape(20, 6, 7)[:16])
    dataset = open_dataset(tmp_path / "a.npy")
    assert dataset.scan_shape == (4, 4)
    assert any("guessed" in note for note in dataset.notes)


def wrong_inputs(folder, scan):
    """Name, path, options and what the one line says."""
    np.save(folder / "ok.npy", scan)
    np.save(folder / "stack.npy", scan.reshape(20, 6, 7))
    np.save(folder / "flat.npy", scan[0, 0, 0])
    np.save(folder / "six.npy", scan[None, None])
    np.save(folder / "series.npy", np.stack([scan] * 3))
    np.savez(folder / "two.npz", a=scan, b=scan)
    (folder / "cut.npz").write_bytes((folder / "two.npz").read_bytes()[:-3000])
    (folder / "named.xml").write_text("<root></root>")
    write_hdf5(folder / "complex.h5", {"a": scan.astype(complex)})
    write_hdf5(folder / "tables.h5", {"a": np.zeros((9, 9, 2, 2)), "b": np.zeros((7, 3, 3))})
    write_hdf5(folder / "empty.h5", {"a": scan[:, :0]})
    np.save(folder / "empty.npy", scan[:0])
    np.save(folder / "complex.npy", scan.astype(complex))
    (folder / "zero.h5").touch()
    (folder / "text.npy").write_text("x,y\n1,2\n")
    (folder / "old.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    (folder / "odd.raw").write_bytes(bytes(1000))
    (folder / "fake.h5").write_bytes(b"no HDF5 at all")
    (folder / "strange.xyz").write_bytes(b"12345678")
    two = write_hdf5(folder / "two.h5", {"a": scan, "b": scan})
    whole = write_hdf5(folder / "whole.h5", {"a": scan}).read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.npy").write_bytes((folder / "ok.npy").read_bytes()[:-50])
    write_hdf5(folder / "high.h5", {"a": np.zeros((2, 3, 4, 5, 6)), "b": np.zeros((2, 2, 2, 2))})
    return {
        "missing file": ("none.h5", {}, "there is no file"),
        "missing key": (two.name, {"key": "c"}, "has no dataset 'c'; it has a (4, 5, 6, 7), b"),
        "several keys": (two.name, {}, "several possible scans, choose one with key: a"),
        "truncated HDF5": ("cut.h5", {}, "damaged or truncated"),
        "truncated npy": ("cut.npy", {}, "truncated"),
        "not npy": ("text.npy", {}, "no .npy file: it begins with other bytes"),
        "not HDF5": ("fake.h5", {}, "no HDF5 file"),
        "empty file": ("zero.h5", {}, "is empty"),
        "old MATLAB": ("old.mat", {}, "-v7.3"),
        "raw remainder": ("odd.raw", {}, "1000 bytes, which does not divide"),
        "raw half told": ("odd.raw", {"dtype": "u1"}, "both dtype and detector_shape"),
        "stack, no shape": ("stack.npy", {}, "give scan_shape"),
        "wrong shape": ("stack.npy", {"scan_shape": (3, 5)}, "needs 15 patterns, but the file has 20"),
        "too large": ("stack.npy", {"scan_shape": (5, 8)}, "needs 40 patterns, but the file has 20"),
        "too small": ("stack.npy", {"scan_shape": (3, 6)}, "2 too many; give frame_skip"),
        "shape of 4D": ("ok.npy", {"scan_shape": (5, 4)}, "the scan in the file is 4 x 5"),
        "1D": ("flat.npy", {}, "has 1 axes"),
        "6D": ("six.npy", {}, "has 6 axes"),
        "5D beside 4D": ("high.h5", {}, "a series of 2 scans"),
        "series": ("series.npy", {}, "a series of 3 scans, each 4 x 5 x 6 x 7 (scan_y, scan_x, det_y"),
        "series, far": ("series.npy", {"index": 3}, "holds 3 scans, 0 to 2"),
        "no series": ("ok.npy", {"index": 0}, "index is for a series"),
        "several in npz": ("two.npz", {}, "choose one with key: a (4, 5, 6, 7), b"),
        "truncated npz": ("cut.npz", {}, "truncated or no .npz"),
        "xml alone": ("named.xml", {}, "named.raw, which is not there"),
        "complex HDF5": ("complex.h5", {}, "no array of real numbers, but a (4, 5, 6, 7) complex128"),
        "tables": ("tables.h5", {}, "no scan (4 axes), stack of patterns (3) or series of scans (5)"),
        "empty axis": ("empty.h5", {}, "is empty: shape (4, 0, 6, 7)"),
        "gap of HDF5": ("high.h5", {"gap_bytes": 8}, "gap_bytes is for bare .raw files"),
        "detector of npy": ("ok.npy", {"detector_shape": (9, 9)}, "detector_shape is for bare"),
        "empty scan": ("empty.npy", {}, "is empty"),
        "complex": ("complex.npy", {}, "expected real numbers"),
        "axes": ("ok.npy", {"axes": "y,x,ky,kx"}, "must name scan_y"),
        "dtype": ("ok.npy", {"dtype": "number"}, "is not a type"),
        "crop": ("ok.npy", {"crop_scan": (0, 9, 0, 2)}, "outside the 4 x 5 scan"),
        "bin": ("ok.npy", {"bin_detector": 9}, "cannot bin"),
        "flyback of 4D": ("ok.npy", {"flyback": 2}, "stacks of patterns"),
        "directory": (".", {}, "is a directory"),
    }  # fmt: skip


@pytest.mark.parametrize("number", range(38))
def test_bad_input_is_one_clear_line(tmp_path, scan, number):
    cases = wrong_inputs(tmp_path, scan)
    assert len(cases) == 38
    name, options, message = list(cases.values())[number]
    with pytest.raises(InputError) as error:
        open_dataset(tmp_path / name, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_breaks_off_while_reading(tmp_path, scan):
    path = write_hdf5(
        tmp_path / "a.h5", {"a": scan.repeat(40, 0)}, chunks=(1, 5, 6, 7), compression="gzip"
    )
    dataset = open_dataset(path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 2000] = bytes(2000)
    path.write_bytes(raw)
    with pytest.raises(InputError, match="cannot be read"):
        map_patterns(lambda pattern: pattern.sum(), dataset)


def test_results_round_trip(tmp_path):
    tree = {
        "a": Field(np.arange(20000.0), "nm", "numbers", ("n",)),
        "group": {"flag": Field(np.array(True)), "name": Field("inertia", "", "text")},
    }
    write_group(tmp_path / "r.h5", tree, {"seed": 3})
    found, attributes = read_group(tmp_path / "r.h5")
    assert attributes["seed"] == 3
    assert found["a"].units == "nm"
    assert found["a"].description == "numbers"
    assert found["group"]["name"].data == "inertia"
    np.testing.assert_array_equal(found["a"].data, tree["a"].data)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    import resource

    file = tmp_path / "r.h5"
    write_group(file, {"a": Field(np.arange(3), dims=("n",))}, {})
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        noise = np.random.default_rng(0).normal(size=100_000)
        with pytest.raises(OutputError, match="File too large"):
            write_group(file, {"a": Field(noise, dims=("n",))}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["r.h5"]


def test_opening_no_results(tmp_path):
    with pytest.raises(InputError, match="no results"):
        open_results(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt is no results file: expected what jax4dstem"):
        open_results(tmp_path / "notes.txt")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["data/counts"] = np.zeros((2, 2, 4, 4))
    with pytest.raises(InputError, match=r"scan\.h5 is an HDF5 file, but not of results: expected"):
        open_results(tmp_path / "scan.h5")


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("test1.blo", (3, 2, 144, 144), np.uint8),
        ("001_4x2_6bit.mib", (2, 4, 256, 256), np.uint8),
        ("002_4x2_6bit_roi128.mib", (2, 4, 128, 256), np.uint8),
        ("mgo_sped_crop_y62-104_x0-50_u16.h5", (43, 50, 144, 144), np.uint16),
        ("cbed_wide2_like.mat", (96, 96, 128, 128), np.float32),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_real_files(shared_data, name, shape, dtype):
    if not name.endswith(("h5", "mat")):
        pytest.importorskip("rsciio")
    dataset = open_dataset(shared_data / name)
    assert dataset.shape == shape
    assert dataset.dtype == dtype
    assert dataset.source.read(slice(0, 1), slice(0, 2)).max() > 0


@pytest.mark.whole
def test_results_of_the_first_version_still_open(tmp_path):
    """The file is one that version 0.1.0 has written: 6 x 7 positions of a simulated polycrystal."""
    shutil.copy(Path(__file__).parent / "data" / "results_0_1_0.h5", tmp_path / "results.h5")
    found = open_results(tmp_path)
    assert found.images.bright_field.shape == (6, 7)
    assert found.beam.center.shape == (6, 7, 2)
    tree = found.to_xarray()
    assert tree["labels/level_1"].dims == ("scan_y", "scan_x")
    assert tree["embedding/pca"].dims == ("scan_y", "scan_x", "component")
    assert tree["clusters/level_1/mean_pattern"].dims == ("domain", "det_y", "det_x")
    assert tree["clusters/level_1/state"].dims == ("domain",)
    assert tree["strain/bases/e_xx"].dims == ("scan_y", "scan_x")
    assert tree["strain/lattice/covariance"].dims[:2] == ("scan_y", "scan_x")
    assert tree["strain/model/lattice"].dims == ("vector", "yx")
    assert "median" in str(tree["strain/pooled/reference_source"].values)
    assert "Strain" in write_report(tmp_path).read_text()
