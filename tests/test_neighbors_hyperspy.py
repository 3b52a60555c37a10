"""Signals of HyperSpy and pyxem: values, order of axes, sizes and units, both ways."""

from types import SimpleNamespace

import numpy as np
import pytest

from jax4dstem import Calibration, Dataset, InputError, map_patterns, open_dataset
from jax4dstem.fields import Field
from jax4dstem.neighbors import from_hyperspy, map_to_hyperspy, to_hyperspy
from jax4dstem.pipeline import Results

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
SHAPE = (2, 3, 4, 5)
CALIBRATION = Calibration(0.02, 2.0, 200.0, pixel_y_inv_angstrom=0.021, scan_step_y_nm=2.5)


@pytest.fixture
def data():
    return np.arange(120, dtype=np.uint16).reshape(SHAPE)


@pytest.fixture
def hs():
    return pytest.importorskip("hyperspy.api")


def everything(scan):
    return scan.source.read(slice(0, scan.shape[0]), slice(0, scan.shape[1]))


def stand_in(data, axes, energy=None):
    """What is used of a signal; axes by their place in the array: name, scale, units."""
    made = [
        SimpleNamespace(index_in_array=i, name=n, scale=s, units=u)
        for i, (n, s, u) in enumerate(axes)
    ]
    in_order = {axis.name: axis for axis in made}
    manager = SimpleNamespace(
        navigation_axes=tuple(in_order[n] for n in ("x", "y") if n in in_order),
        signal_axes=tuple(in_order[n] for n in ("kx", "ky") if n in in_order),
    )
    metadata = SimpleNamespace(get_item=lambda path, default: energy or default)
    return SimpleNamespace(data=data, axes_manager=manager, metadata=metadata)


def test_axes_are_taken_by_what_they_are_not_by_where_they_are(data):
    """Without HyperSpy: a transposed signal, as its axes tell it."""
    axes = [("ky", 0.21, "1/nm"), ("kx", 0.2, "1/nm"), ("y", 2.5, "nm"), ("x", 2.0, "nm")]
    scan = from_hyperspy(stand_in(data.transpose(2, 3, 0, 1), axes, energy=200))
    np.testing.assert_array_equal(everything(scan), data)
    found = scan.calibration
    assert found.pixel_inv_angstrom == pytest.approx(0.02)
    assert found.pixel_y_inv_angstrom == pytest.approx(0.021)
    assert (found.scan_step_nm, found.scan_step_y_nm, found.energy_kv) == (2.0, 2.5, 200.0)


def test_a_line_is_a_scan_of_one_row(data):
    line = stand_in(data[0], [("x", 3.0, "nm"), ("ky", 1, "<undefined>"), ("kx", 1, "<undefined>")])
    scan = from_hyperspy(line)
    np.testing.assert_array_equal(everything(scan), data[:1])
    assert scan.calibration.scan_step_nm == 3.0
    with pytest.raises(
        InputError, match="1 signal and 1 navigation axes; expected 2 and at most 2"
    ):
        from_hyperspy(stand_in(data[0, 0], [("x", 1, ""), ("kx", 1, "")]))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_scan_goes_to_hyperspy_and_comes_back(hs, data, lazy):
    scan = Dataset.from_array(data, CALIBRATION)
    signal = to_hyperspy(scan, lazy=lazy)
    assert signal._lazy == lazy
    assert signal.axes_manager.navigation_shape == (3, 2)
    assert signal.axes_manager.signal_shape == (5, 4)
    assert [a.units for a in signal.axes_manager.signal_axes] == ["1/Å"] * 2
    np.testing.assert_array_equal(np.asarray(signal.inav[2, 1].data), data[1, 2])
    again = from_hyperspy(signal)
    np.testing.assert_array_equal(everything(again), data)
    assert again.calibration == CALIBRATION
    turned = from_hyperspy(signal.T)  # signal and navigation axes exchanged
    np.testing.assert_array_equal(everything(turned), data.transpose(2, 3, 0, 1))


def test_hyperspy_computes_what_we_compute(hs, data):
    scan = Dataset.from_array(data, CALIBRATION)
    ours = map_patterns(lambda pattern: pattern.astype(float).std(), scan)
    theirs = to_hyperspy(scan).std(axis=("kx", "ky")).data
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_chain_is_computed_where_hyperspy_asks(hs, data):
    gain = np.arange(6.0).reshape(2, 3)
    scan = Dataset.from_array(data).map(lambda p, g: g * p, per_position=[gain])
    signal = to_hyperspy(scan.crop_detector(0, 4, 1, 3), lazy=True)
    assert signal.data.shape == (2, 3, 4, 2)
    expected = gain[..., None, None] * data[..., 1:3]
    np.testing.assert_allclose(np.asarray(signal.data), expected)
    np.testing.assert_allclose(np.asarray(signal.data[1, 2, 1:3]), expected[1, 2, 1:3])


def test_a_saved_signal_opens(hs, data, tmp_path):
    to_hyperspy(Dataset.from_array(data, CALIBRATION)).save(tmp_path / "scan.hspy")
    again = open_dataset(tmp_path / "scan.hspy")
    np.testing.assert_array_equal(everything(again), data)
    assert again.calibration.pixel_inv_angstrom == pytest.approx(0.02)
    assert again.calibration.scan_step_y_nm == pytest.approx(2.5)
    lazy = from_hyperspy(hs.load(tmp_path / "scan.hspy", lazy=True))
    np.testing.assert_array_equal(everything(lazy), data)


def test_a_pyxem_signal_goes_both_ways(hs, data):
    pytest.importorskip("pyxem")
    scan = Dataset.from_array(data, Calibration(0.02, 2.0, 200.0))
    signal = to_hyperspy(scan, signal_type="electron_diffraction")
    assert type(signal).__name__ == "ElectronDiffraction2D"
    assert signal.beam_energy == 200
    signal.calibration(scale=0.3, units="k_nm^-1")  # as pyxem writes it
    again = from_hyperspy(signal)
    np.testing.assert_array_equal(everything(again), data)
    assert again.calibration.pixel_inv_angstrom == pytest.approx(0.03)


def test_maps_are_signals_with_axes(hs, rng):
    values = rng.normal(size=(2, 3, 2)).astype(np.float32)
    stored = {"beam": {"offset": Field(values, "px", "offset", ("scan_y", "scan_x", "yx"))}}
    results = Results(about={"scan_step_nm": 2.0}, stored=stored)
    both = map_to_hyperspy(results, "offset")
    assert both.axes_manager.navigation_shape == (2,)
    one = map_to_hyperspy(results, "offset[x]")
    np.testing.assert_array_equal(one.data, values[..., 1])
    x, y = one.axes_manager.signal_axes
    assert (x.name, x.scale, x.units, y.name, y.size) == ("x", 2.0, "nm", "y", 2)
    assert one.metadata.General.title == "beam/offset[x]"
    assert one.metadata.Signal.quantity == "offset (px)"


def test_signs_of_strain_are_those_of_pyxem(hs):
    """`to_pyxem` on its own strain map of known lattices."""
    pytest.importorskip("pyxem")
    from pyxem.generators import displacement_gradient_tensor_generator as generator

    from jax4dstem.coordinates import deformation
    from jax4dstem.strain import StrainMap, to_pyxem

    lattice = np.array([[0.0, 20.0], [20.0, 3.0]])
    known = (2e-3, -1e-3, 4e-4, 3e-3)
    strained = lattice @ np.linalg.inv(np.asarray(deformation(*known), np.float64))
    vectors = hs.signals.Signal2D(np.tile(strained[:, ::-1], (2, 3, 1, 1)))
    tensors = generator.get_DisplacementGradientMap(vectors, lattice[:, ::-1].copy())
    parts = [np.full((2, 3), value) for value in known]
    ours = to_pyxem(
        StrainMap(*parts, np.zeros((2, 3, 4, 4)), np.zeros((2, 3), np.int8), lattice, "")
    )
    theirs = tensors.get_strain_maps().data
    np.testing.assert_allclose(theirs, np.stack(list(ours.values())), atol=1e-5)


def test_without_hyperspy_it_is_said(data, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hyperspy.api", None)
    with pytest.raises(InputError, match=r"pip install 'jax4dstem\[hyperspy\]'"):
        to_hyperspy(Dataset.from_array(data))
