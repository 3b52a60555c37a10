"""Files for and by py4DSTEM: what it finds in ours, what we find in its, on lattices that are known.

What py4DSTEM 0.14.18 said is kept in tests/data. Where PY4DSTEM_PYTHON names a Python that has it (it needs NumPy 1, and so
an environment of its own), it is asked anew.
"""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from jax4dstem import Calibration, Dataset, InputError, OutputError, open_dataset
from jax4dstem.coordinates import deformation
from jax4dstem.neighbors import FittedDisks, fitted_disks, to_py4dstem_calibration, write_emd
from jax4dstem.strain import StrainMap, to_py4dstem

HERE = Path(__file__).parent
KEPT = HERE / "data"
SHAPE, DETECTOR = (3, 4), (20, 24)
CALIBRATION = Calibration(0.02, 2.0, 200.0, scan_rotation=0.4, scan_flip=True, ellipse=(0.03, -0.02))  # fmt: skip
LATTICE = np.array([[5.0, 0.4], [-1.0, 4.5]])
INDICES = np.array([(h, k) for h in (-1, 0, 1) for k in (-1, 0, 1)])
Y, X = np.indices(SHAPE)


def known_strain():
    values = 1e-3 * np.stack([X - 1, -0.5 * Y, 0.3 * (X - Y), 1.0 * (Y + X)], axis=-1)
    parts = np.moveaxis(values, -1, 0)
    return StrainMap(*parts, np.zeros((*SHAPE, 4, 4)), np.zeros(SHAPE, np.int8), LATTICE, "given")


def known_lattices(strain):
    gradients = [[np.asarray(deformation(*v), np.float64) for v in row] for row in strain.values]
    return LATTICE @ np.linalg.inv(gradients)


def known_disks(strain):
    center = np.stack([9.5 + 0.1 * Y, 12 + 0.2 * X], axis=-1)
    nodes = INDICES @ known_lattices(strain)
    position = center[..., None, :] + nodes @ CALIBRATION.to_detector
    intensity = np.full(position.shape[:3], 50.0)
    intensity[0, 0, -1] = np.nan
    return FittedDisks(position, intensity, center)


@pytest.fixture
def scan():
    data = np.arange(np.prod((*SHAPE, *DETECTOR))).reshape(*SHAPE, *DETECTOR)
    return Dataset.from_array(data.astype(np.uint16), CALIBRATION)


@pytest.fixture
def written(scan, tmp_path):
    strain = known_strain()
    return write_emd(tmp_path / "ours.emd", scan, disks=known_disks(strain), strain=strain)


def ask(script, *arguments):
    """What py4DSTEM says now, or None without it."""
    python = os.environ.get("PY4DSTEM_PYTHON")
    if not python:
        return None
    command = [python, str(HERE / "peers" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout.partition("JSON")[2])


def test_py4dstem_finds_in_our_file_what_we_know(written, scan):
    reference = (LATTICE * CALIBRATION.pixel_inv_angstrom).ravel()
    kept = json.loads((KEPT / "py4dstem_0_14_18.json").read_text())
    theirs = ask("py4dstem_reads.py", written, *reference) or kept
    data = scan.source.array
    np.testing.assert_array_equal(theirs["sums"], data.sum(axis=(2, 3)))
    np.testing.assert_array_equal(theirs["pixels"], data[1, 2, :2, :3])
    assert theirs["dtype"] == "uint16"
    assert [unit for _, unit in theirs["axes"]] == ["nm", "nm", "A^-1", "A^-1"]
    np.testing.assert_allclose(theirs["R_pixel"][0], 2.0)
    assert all(
        theirs["calstate"].values()
    )  # center, ellipse, pixel and rotation are used without being asked for
    strain = known_strain()
    disks = known_disks(strain)
    np.testing.assert_allclose(np.moveaxis(theirs["origin"], 0, -1), disks.center)
    np.testing.assert_allclose(np.transpose(theirs["raw"][:2]), disks.position[1, 2])
    np.testing.assert_allclose(
        np.transpose(theirs["calibrated"]),
        CALIBRATION.pixel_inv_angstrom * INDICES @ known_lattices(strain)[1, 2],
        atol=1e-7,  # single precision of the deformations
    )
    for name, ours in to_py4dstem(strain).items():
        np.testing.assert_allclose(theirs["given"][name], ours, err_msg=name)
        # Its strain is infinitesimal: they differ by the squares of strain and rotation, (5e-3)² / 2.
        np.testing.assert_allclose(theirs["strain"][name], ours, atol=1.4e-5, err_msg=name)


def test_our_file_is_laid_out_as_the_one_that_was_asked_about(written):
    """Where py4DSTEM is not there to be asked: names, kinds and types of all that it reads."""
    with h5py.File(written) as ours, h5py.File(KEPT / "py4dstem_0_14_18.emd") as theirs:
        names: list[str] = []
        theirs["datacube_root"].visit(names.append)
        for name in names:
            found, wanted = ours["datacube_root"][name], theirs["datacube_root"][name]
            kinds = ("emd_group_type", "python_class", "type", "name")
            told = {key: wanted.attrs[key] for key in kinds if key in wanted.attrs}
            assert {key: found.attrs[key] for key in told} == told, name
            if isinstance(wanted, h5py.Dataset) and h5py.check_string_dtype(wanted.dtype) is None:
                assert h5py.check_vlen_dtype(found.dtype) == h5py.check_vlen_dtype(wanted.dtype)


def test_we_find_in_their_file_what_they_know(tmp_path):
    path = KEPT / "py4dstem_0_14_18.emd"
    theirs = ask("py4dstem_writes.py", tmp_path / "theirs.emd")
    if theirs is not None:
        path = tmp_path / "theirs.emd"
    else:
        theirs = json.loads((KEPT / "py4dstem_0_14_18.json").read_text())["of its file"]
    scan = open_dataset(path)
    assert scan.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(scan.source.read(slice(0, 2), slice(0, 3)).ravel(), range(120))
    assert scan.calibration.scan_step_nm == 2.5
    # Its Bragg vectors turn against the definition by which its files are read.
    turned = replace(scan.calibration, scan_rotation=-scan.calibration.scan_rotation)
    if scan.calibration.scan_flip:
        turned = replace(turned, scan_rotation=turned.scan_rotation - np.pi)
    scan = scan.with_calibration(scan_rotation=turned.scan_rotation)
    found = theirs["from_center"] @ scan.calibration.to_scan_axes
    np.testing.assert_allclose(found * scan.calibration.pixel_inv_angstrom, theirs["calibrated"])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("ellipse", [(0.0, 0.0), (0.05, 0.0), (-0.02, 0.03)])
def test_a_calibration_comes_back(tmp_path, flip, ellipse):
    ours = Calibration(0.02, 2.0, 80.0, scan_rotation=-0.7, scan_flip=flip, ellipse=ellipse)
    scan = Dataset.from_array(np.ones((2, 3, 8, 8), np.uint8), ours)
    again = open_dataset(write_emd(tmp_path / "a.emd", scan))
    np.testing.assert_allclose(again.calibration.to_scan_axes, ours.to_scan_axes, atol=1e-12)
    assert again.calibration.pixel_inv_angstrom == pytest.approx(0.02)
    assert (again.calibration.scan_step_nm, again.calibration.energy_kv) == (2.0, 80.0)
    np.testing.assert_array_equal(again.source.read(slice(0, 2), slice(0, 3)), scan.source.array)


def test_pixels_that_are_not_square_become_an_ellipse():
    ours = Calibration(0.02, pixel_y_inv_angstrom=0.021, scan_rotation=0.3)
    theirs = to_py4dstem_calibration(ours)
    assert theirs["a"] == pytest.approx(1.05)
    assert theirs["theta"] == pytest.approx(
        np.pi / 2
    )  # along columns, whose pixels are the smaller ones
    assert theirs["Q_pixel_size"] == pytest.approx(0.021)


def test_the_chain_is_written_in_tiles(scan, tmp_path):
    binned = scan.bin_detector(2).map(lambda pattern, gain: gain * pattern, 2.0)
    again = open_dataset(write_emd(tmp_path / "a.emd", binned))
    sums = scan.source.array.reshape(*SHAPE, 10, 2, 12, 2).sum(axis=(3, 5))
    np.testing.assert_array_equal(again.source.read(slice(0, 3), slice(0, 4)), 2.0 * sums)
    assert again.calibration.pixel_inv_angstrom == pytest.approx(0.04)


def test_disks_of_fits_lie_on_the_fitted_lattice(two_grains):
    scan, _, measured = two_grains
    disks = fitted_disks(scan, measured)
    ok = measured.strain.ok
    assert np.isfinite(disks.position[ok]).any(axis=(1, 2)).all()
    assert not np.isfinite(disks.intensity[~ok]).any()
    y, x = np.argwhere(ok)[5]
    there = np.isfinite(disks.intensity[y, x])
    indices = np.asarray(measured.model.indices)[there]
    unknown = np.linalg.lstsq(
        np.column_stack([np.ones(len(indices)), indices]), disks.position[y, x][there], rcond=None
    )[0]
    np.testing.assert_allclose(unknown[0], disks.center[y, x], atol=1e-4)
    np.testing.assert_allclose(unknown[1:], measured.fitted_lattices[y, x], atol=1e-4)
    counted = scan.source.array[y, x].sum()
    assert 0.5 * counted < np.nansum(disks.intensity[y, x]) < 1.05 * counted


def test_disks_alone_make_a_small_file(scan, tmp_path):
    path = write_emd(
        tmp_path / "disks.emd", scan, patterns=False, disks=known_disks(known_strain())
    )
    with h5py.File(path) as file:
        root = file["datacube_root"]
        assert sorted(root) == ["braggvectors", "metadatabundle"]
        assert len(root["braggvectors/_v_uncal/data"][0, 0]) == len(INDICES) - 1


def test_what_cannot_be_written_is_said(scan, tmp_path):
    strain = known_strain()
    with pytest.raises(InputError, match="nothing to write"):
        write_emd(tmp_path / "a.emd", scan, patterns=False)
    with pytest.raises(InputError, match="disks are of a scan of"):
        write_emd(tmp_path / "a.emd", scan.crop_scan(0, 2, 0, 2), disks=known_disks(strain))
    (tmp_path / "a.emd").write_text("mine")
    with pytest.raises(InputError, match="already there"):
        write_emd(tmp_path / "a.emd", scan)
    with pytest.raises(OutputError, match="cannot write"):
        write_emd(tmp_path / "a.emd" / "b.emd", scan)
    broken = replace(scan, source=replace(scan.source, array=scan.source.array[:1]))
    with pytest.raises(InputError):
        write_emd(tmp_path / "a.emd", broken, strain=strain, overwrite=True)
    assert (tmp_path / "a.emd").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a.emd"]
