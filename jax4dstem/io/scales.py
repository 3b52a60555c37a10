"""Physical scales that files tell: their units, and which source wins."""

from collections.abc import Iterable, Mapping
from math import isfinite, sin
from typing import Any

from jax4dstem.coordinates import Calibration, electron_wavelength

Scales = Mapping[
    str, float
]  # by attribute of `Calibration`; or "pixel_mrad", until the energy is known
Sourced = tuple[Scales, str]  # and where they come from

TO_INV_ANGSTROM = {"1/Å": 1.0, "1/A": 1.0, "A^-1": 1.0, "Å^-1": 1.0, "1/nm": 0.1, "nm^-1": 0.1}
TO_MRAD = {"mrad": 1.0, "rad": 1e3}
TO_NM = {"nm": 1.0, "Å": 0.1, "A": 0.1, "µm": 1e3, "μm": 1e3, "um": 1e3, "pm": 1e-3, "m": 1e9}
SPELLING = str.maketrans({**dict.fromkeys(" $[]{}_()", ""), "⁻": "^-", "¹": "1"})
PLAIN_NAMES = {
    "pixel_inv_angstrom": ("pixel_inv_angstrom", "q_pixel_invA", "q_pixel_inv_angstrom"),
    "scan_step_nm": ("scan_step_nm", "r_pixel_nm", "step_nm"),
    "energy_kv": ("energy_kv", "energy_kV", "beam_energy_kV", "accelerating_voltage_kV"),
}
TOLD = {
    "pixel_inv_angstrom": "detector pixel {:g} 1/Å",
    "scan_step_nm": "scan step {:g} nm",
    "energy_kv": "beam energy {:g} kV",
}


def calibrate(sources: Iterable[Sourced]) -> tuple[Calibration, tuple[str, ...]]:
    r"""Calibration in which the first source that tells a scale wins, and a note on each.

    An angular pixel α becomes a reciprocal one once a source tells the energy,

    .. math:: \Delta k = \sin \alpha / \lambda .

    Example:
        >>> found, notes = calibrate([({"scan_step_nm": 2.0}, "given")])
        >>> found.scan_step_nm, notes
        (2.0, ('scan step 2 nm: given',))
    """
    chosen: dict[str, Sourced] = {}
    for scales, source in sources:
        for name in scales:
            chosen.setdefault(name, (scales, source))
    values: dict[str, Any] = {name: scales[name] for name, (scales, _) in chosen.items()}
    origin = {name: source for name, (_, source) in chosen.items()}
    notes: tuple[str, ...] = ()
    angle = values.pop("pixel_mrad", None)
    if angle is not None and "pixel_inv_angstrom" not in values:
        if "energy_kv" in values:
            wavelength = electron_wavelength(values["energy_kv"])
            values["pixel_inv_angstrom"] = sin(1e-3 * angle) / wavelength
            origin["pixel_inv_angstrom"] = f"{angle:g} mrad, {origin['pixel_mrad']}"
        else:
            notes = (f"detector pixel {angle:g} mrad: not used, give energy_kv",)
    if not values:
        return Calibration(), (*notes, "not calibrated: the file has no scales and none were given")
    told = tuple(f"{TOLD[name].format(value)}: {origin[name]}" for name, value in values.items())
    return Calibration(**values), (*notes, *told)


def from_axes(axes: Iterable[Mapping[str, Any]]) -> Scales:
    """Scales of axes that tell their scale, units and whether they are of the scan (navigate)."""
    scales = {}
    for axis in axes:
        scale = positive(axis.get("scale"))
        units = str(text(axis.get("units", ""))).translate(SPELLING)
        if scale is None:
            continue
        if units in TO_INV_ANGSTROM:
            scales["pixel_inv_angstrom"] = scale * TO_INV_ANGSTROM[units]
        elif units in TO_MRAD:
            scales["pixel_mrad"] = scale * TO_MRAD[units]
        elif units in TO_NM and str(axis.get("navigate", False)) in ("True", "1"):
            scales["scan_step_nm"] = scale * TO_NM[units]
    return scales


def from_attributes(*attributes: Mapping[str, Any]) -> Scales:
    """Scales under plain names such as ``scan_step_nm``; earlier attributes win."""
    scales = {}
    for name, spellings in PLAIN_NAMES.items():
        found = (positive(source.get(key)) for source in attributes for key in spellings)
        value = next((number for number in found if number is not None), None)
        if value is not None:
            scales[name] = value
    return scales


def energy(kilovolts: Any) -> Scales:
    """The beam energy as scales, where there is one."""
    number = positive(kilovolts)
    return {} if number is None else {"energy_kv": number}


def positive(value: Any) -> float | None:
    """The size of a number or its text; None where it is missing, zero or not finite."""
    try:
        number = abs(float(text(value)))
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) and number > 0 else None


def text(value: Any) -> Any:
    """Text of bytes; anything else as it is."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
