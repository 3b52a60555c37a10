"""Units as people spell them, and the scales that axes with units tell."""

from math import pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax4dstem.coordinates import electron_wavelength
from jax4dstem.io.axes import order_by_units
from jax4dstem.io.scales import Axis, Told, calibrate, energy, from_axes
from jax4dstem.io.units import is_blank, parse_unit

NM = {
    "pm": 1e-3, "Å": 0.1, "A": 0.1, "Angstrom": 0.1, "ångström": 0.1, "angstroms": 0.1, "Ang.": 0.1, "\\AA": 0.1,
    "\\mathring{A}": 0.1, "nm": 1.0, "nanometer": 1.0, "nanometres": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "\\mu m": 1e3,
    "micrometer": 1e3, "microns": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9, "metre": 1e9,
}  # fmt: skip
MRAD = {
    "mrad": 1.0, "milliradians": 1.0, "rad": 1e3, "radian": 1e3, "µrad": 1e-3, "deg": 1e3 * pi / 180,
    "degrees": 1e3 * pi / 180, "°": 1e3 * pi / 180,
}  # fmt: skip
INVERSES = [
    "1/{}",
    "1 / {}",
    "{}^-1",
    "{}^{{-1}}",
    "{}⁻¹",
    "{}-1",
    "{}**-1",
    "{}$^{{-1}}$",
    "{} ^ -1",
]
AROUND = ["{}", " {} ", "[{}]", "({})", "${}$", "\\mathrm{{{}}}"]
NAMES = st.sampled_from(["k_{}", "k [{}]", "g ({})", "s / {}", "{}"])


@given(st.sampled_from(list(NM)), st.sampled_from(AROUND))
def test_every_length(name, around):
    unit = parse_unit(around.format(name))
    assert unit is not None
    assert (unit.kind, unit.size) == ("length", NM[name])


@given(st.sampled_from(list(NM)), st.sampled_from(INVERSES), st.sampled_from(AROUND), NAMES)
def test_every_reciprocal_length(name, inverse, around, symbol):
    text = symbol.format(around.format(inverse.format(name)))
    unit = parse_unit(text)
    assert unit is not None, text
    assert unit.kind == "reciprocal"
    assert unit.size == pytest.approx(0.1 / NM[name])
    of_q = parse_unit(f"q_{inverse.format(name)}")
    assert of_q is not None
    assert 2 * pi * of_q.size == pytest.approx(unit.size)


@given(st.sampled_from(list(MRAD)), st.sampled_from(["{}", "2th_{}", "2theta ({})", "2θ [{}]"]))
def test_every_angle(name, symbol):
    unit = parse_unit(symbol.format(name))
    assert unit is not None
    assert unit.kind == "angle"
    assert unit.size == pytest.approx(MRAD[name])


@pytest.mark.parametrize(
    "text",
    ["furlong", "1/nm^2", "s", "eV", "k", "kg", "2th_nm^-1", "q_mrad", "1/mrad", "nm/s", "1/s"],
)
def test_what_is_not_understood_is_named(text):
    assert parse_unit(text) is None
    assert not is_blank(text)
    axes = [Axis(3.0, "nm")] * 2 + [Axis(0.25, text)] * 2
    told = from_axes(axes, ("scan_y", "scan_x", "det_y", "det_x"), "the axes")
    (note,) = told.ignored
    assert note == f"det_y, det_x: scale 0.25 {text!r} not used, the unit is not understood"
    calibration, notes = calibrate([told])
    assert calibration.pixel_inv_angstrom is None
    assert calibration.scan_step_nm == 3
    assert note in notes


@given(st.text(max_size=12))
def test_any_text_is_a_unit_or_none(text):
    unit = parse_unit(text)
    assert unit is None or unit.size > 0


@given(
    st.sampled_from([("1/nm", 0.1), ("k_A^-1", 1.0), ("q_nm^-1", 0.05 / pi)]),
    st.floats(1e-3, 1.0),
    st.floats(1.01, 3.0),
)
def test_scales_in_y_and_x_are_both_kept(unit, size, ratio):
    text, factor = unit
    axes = [Axis(2.0, "nm"), Axis(2e-3 * ratio, "µm"), Axis(size, text), Axis(size * ratio, text)]
    names = ("scan_y", "scan_x", "det_y", "det_x")
    calibration, notes = calibrate([from_axes(axes, names, "here")])
    assert calibration.pixel_y_inv_angstrom == pytest.approx(size * factor)
    assert calibration.pixel_inv_angstrom == pytest.approx(size * ratio * factor)
    assert calibration.scan_step_y_nm == pytest.approx(2)
    assert calibration.scan_step_nm == pytest.approx(2 * ratio)
    assert sum("y and x differ" in note for note in notes) == 2
    turned, _ = calibrate([from_axes(axes, ("scan_x", "scan_y", "det_x", "det_y"), "here")])
    assert turned.pixel_inv_angstrom == calibration.pixel_y_inv_angstrom
    assert calibration.binned(3).pixel_y_inv_angstrom == pytest.approx(3 * size * factor)
    assert calibration.binned_scan(2).scan_step_y_nm == pytest.approx(4)


@pytest.mark.parametrize("size", [0.0, float("nan"), "none"])
def test_a_scale_that_is_no_size_is_told(size):
    axes = [Axis(size, "nm"), Axis(size, "nm"), Axis(size, ""), Axis(None, "1/nm")]
    told = from_axes(axes, ("scan_y", "scan_x", "det_y", "det_x"), "here")
    assert not told.scales
    assert told.ignored == (f"scan_y, scan_x: scale {size} 'nm' not used, it is no size",)


def test_angles_need_the_energy():
    axes = [Axis(1, None), Axis(1, "px"), Axis(0.3, "mrad"), Axis(0.3, "mrad")]
    told = from_axes(axes, ("scan_y", "scan_x", "det_y", "det_x"), "here")
    assert not told.ignored
    found, _ = calibrate([told, energy(120)])
    assert found.pixel_inv_angstrom == pytest.approx(0.3e-3 / electron_wavelength(120), rel=1e-6)
    assert found.pixel_y_inv_angstrom is None
    without, notes = calibrate([told])
    assert without.pixel_inv_angstrom is None
    assert any("give the energy" in note for note in notes)
    given_pixel, notes = calibrate([Told({"pixel_inv_angstrom": 0.5}, "given"), told])
    assert given_pixel.pixel_inv_angstrom == 0.5
    assert not any("energy" in note for note in notes)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (["1/nm", "1/nm", "nm", "nm"], "det_y det_x scan_y scan_x"),
        (["µm", "µm", "mrad", "mrad"], "scan_y scan_x det_y det_x"),
        (["", "", "Å", "Å"], "det_y det_x scan_y scan_x"),
        (["nm", "nm", "", ""], "scan_y scan_x det_y det_x"),
        (["A^-1", "A^-1", "s"], "det_y det_x frame"),
        (["s", "1/nm", "1/nm", "nm", "nm"], "series det_y det_x scan_y scan_x"),
        (["", "", "µm", "µm"], None),  # of a detector's pixels, perhaps
        (["nm", "nm", "nm", "nm"], None),
        (["1/nm", "", "", ""], None),
        (["", "nm", "nm"], None),
    ],
)
def test_units_tell_the_order_of_axes(units, expected):
    found = order_by_units([Axis(0.5, unit) for unit in units])
    assert (found and " ".join(found[0])) == expected
