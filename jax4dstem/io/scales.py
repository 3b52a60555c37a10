"""Physical scales that files tell: what they mean, and which source wins."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import degrees, isclose, isfinite, sin
from typing import Any

from jax4dstem.coordinates import Calibration, electron_wavelength
from jax4dstem.dataset import Doubt
from jax4dstem.io.units import is_blank, parse_unit

# By attribute of `Calibration`, or "pixel_mrad" until the energy is known; lengths may be pairs (y, x).
Scales = Mapping[str, Any]
AGREE = 1e-3  # scales in y and x that differ by less are one: files write them with three or four digits
PLAIN_NAMES = {
    "pixel_inv_angstrom": ("pixel_inv_angstrom", "q_pixel_invA", "q_pixel_inv_angstrom"),
    "scan_step_nm": ("scan_step_nm", "r_pixel_nm", "step_nm"),
    "energy_kv": ("energy_kv", "energy_kV", "beam_energy_kV", "accelerating_voltage_kV"),
}
SECOND_SCALE = {
    "pixel_inv_angstrom": "pixel_y_inv_angstrom",
    "scan_step_nm": "scan_step_y_nm",
}
TOLD = {
    "pixel_inv_angstrom": "detector pixel {} 1/Å",
    "scan_step_nm": "scan step {} nm",
    "energy_kv": "beam energy {} kV",
    "scan_rotation": "rotation from scan to detector {}°",
    "scan_flip": "detector mirrored against the scan: {}",
    "ellipse": "ellipse {}",
}


@dataclass(frozen=True)
class Told:
    """Scales of one source.

    Attributes:
        scales: By name.
        source: Where they come from.
        ignored: What else it tells and is not used, one sentence each.
    """

    scales: Scales
    source: str
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Axis:
    """What a file tells of one stored axis."""

    scale: Any
    units: Any


def calibrate(sources: Iterable[Told]) -> tuple[Calibration, tuple[str, ...]]:
    r"""Calibration in which the first source that tells a scale wins, and a note on each.

    An angular pixel α becomes a reciprocal one once a source tells the energy,

    .. math:: \Delta k = \sin \alpha / \lambda .

    Example:
        >>> found, notes = calibrate([Told({"scan_step_nm": (2.0, 2.5)}, "given")])
        >>> found.scan_step_y_nm, found.scan_step_nm, notes[0]
        (2.0, 2.5, 'scan step 2 (y), 2.5 (x) nm: given; y and x differ')
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    notes: list[str] = []
    for told in sources:
        notes += (Doubt(text) for text in told.ignored)
        for name in told.scales.keys() - values.keys():
            values[name], origin[name] = told.scales[name], told.source
    if "pixel_mrad" in values:
        angle, why = values.pop("pixel_mrad"), origin["pixel_mrad"]
        if "pixel_inv_angstrom" not in values and "energy_kv" not in values:
            notes.append(
                Doubt(f"detector pixel {_in_words(angle)} mrad: not used, give the energy")
            )
        elif "pixel_inv_angstrom" not in values:
            values["pixel_inv_angstrom"] = _reciprocal(angle, values["energy_kv"])
            origin["pixel_inv_angstrom"] = f"{_in_words(angle)} mrad, {why}"
    if not values:
        notes.append("not calibrated: the file has no scales and none were given")
    fields: dict[str, Any] = {}
    for name, form in TOLD.items():
        if name in values:
            note = f"{form.format(_in_words(values[name], name))}: {origin[name]}"
            fields |= _fields(name, values[name])
            differs = SECOND_SCALE.get(name) in fields
            notes.append(Doubt(f"{note}; y and x differ") if differs else note)
    return Calibration(**fields), tuple(notes)


def from_axes(axes: Sequence[Axis], names: Sequence[str], source: str) -> Told:
    """Scales of the axes of an array, once it is known which axis is which."""
    found: dict[str, dict[str, float]] = {}
    ignored: dict[str, list[str]] = {}
    for axis, name in zip(axes, names, strict=True):
        space, _, direction = name.partition("_")
        read = scale_of(axis, space)
        if isinstance(read, tuple):
            found.setdefault(read[0], {})[direction] = read[1]
        elif read is not None:
            ignored.setdefault(read, []).append(name)
    scales = {
        name: (both.get("y", both.get("x")), both.get("x", both.get("y")))
        for name, both in found.items()
    }
    reasons = tuple(f"{', '.join(both)}: {reason}" for reason, both in ignored.items())
    return Told(scales, source, reasons)


def scale_of(axis: Axis, space: str) -> tuple[str, float] | str | None:
    """Name and value of an axis' scale, why it is not used, or None where there is none.

    Args:
        axis: Of the file.
        space: "scan" or "det".
    """
    scale, units = positive(axis.scale), text(axis.units)
    if space not in ("scan", "det"):
        return None
    if scale is None:
        told = axis.scale is not None and not is_blank(units)
        return f"scale {text(axis.scale)} {units!r} not used, it is no size" if told else None
    if is_blank(units):
        return None if scale == 1 else f"scale {scale:g} not used, it has no unit"
    unit = parse_unit(units)
    told = f"scale {scale:g} {units!r} not used"
    if unit is None:
        return f"{told}, the unit is not understood"
    if space == "scan":
        if unit.kind == "length":
            return "scan_step_nm", scale * unit.size
        return f"{told}, the scan is measured in lengths"
    if unit.kind == "length":
        return f"{told}, the detector is measured in 1/Å or mrad"
    return "pixel_inv_angstrom" if unit.kind == "reciprocal" else "pixel_mrad", scale * unit.size


def from_attributes(*attributes: Mapping[str, Any]) -> Told:
    """Scales under plain names such as ``scan_step_nm``; earlier attributes win."""
    scales = {}
    for name, spellings in PLAIN_NAMES.items():
        found = (positive(source.get(key)) for source in attributes for key in spellings)
        value = next((number for number in found if number is not None), None)
        if value is not None:
            scales[name] = value
    for name, along_y in SECOND_SCALE.items():
        value = next(
            (n for n in (positive(source.get(along_y)) for source in attributes) if n), None
        )
        if value is not None and name in scales:
            scales[name] = value, scales[name]
    return Told(scales, "attributes in the file")


def energy(kilovolts: Any, source: str = "the metadata in the file") -> Told:
    """The beam energy, where there is one."""
    number = positive(kilovolts)
    return Told({} if number is None else {"energy_kv": number}, source)


def positive(value: Any) -> float | None:
    """The size of a number or its text; None where it is missing, zero or not finite."""
    number = finite(value)
    return abs(number) if number else None


def finite(value: Any) -> float | None:
    """A number or its text; None where it is missing or not finite."""
    try:
        number = float(text(value))
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None


def text(value: Any) -> Any:
    """Text of bytes; anything else as it is."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _fields(name: str, value: Any) -> dict[str, Any]:
    """Attributes of a calibration: one for both directions where they agree."""
    if name == "ellipse" or not isinstance(value, tuple):
        return {name: value}
    y, x = value
    if isclose(y, x, rel_tol=AGREE):
        return {name: (y + x) / 2}
    return {name: x, SECOND_SCALE[name]: y}


def _reciprocal(angle: Any, kilovolts: float) -> tuple[float, float]:
    """Reciprocal pixels, (y, x) in 1/Å, of angular ones in mrad."""
    wavelength = electron_wavelength(kilovolts)
    y, x = (sin(1e-3 * size) / wavelength for size in _pair(angle))
    return y, x


def _in_words(value: Any, name: str = "") -> str:
    if name == "ellipse":
        a, b = value
        return f"a = {a:.4g}, b = {b:.4g}"
    if name == "scan_rotation":
        return f"{degrees(value):g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    y, x = _pair(value)
    return f"{x:g}" if isclose(y, x, rel_tol=AGREE) else f"{y:g} (y), {x:g} (x)"


def _pair(value: Any) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)
