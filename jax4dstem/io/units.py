"""Units as people spell them: one table of units, one of spellings."""

import re
import unicodedata
from dataclasses import dataclass
from math import pi
from typing import Any, Literal

LENGTHS = {
    "pm": 1e-3,
    "å": 0.1,
    "a": 0.1,
    "nm": 1.0,
    "um": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
}  # to nm
ANGLES = {"urad": 1e-3, "mrad": 1.0, "rad": 1e3, "deg": 1e3 * pi / 180}  # to mrad
ANGSTROM_IN_NM = LENGTHS["å"]
BLANK = ("", "none", "undefined", "<undefined>", "n/a", "unknown", "px", "pix", "pixel", "pixels")

# Of text in compatibility form (⁻¹ is −1) and lower case; the first entries are undone by none of the later ones.
SPELLINGS = (
    (r"\\(?:[,;!]|mathrm|text|rm|left|right|cdot)|[${}()\[\]<>_]", " "),
    (r"\\aa(?![a-z])|\\mathring *a\b|[åa]ngstr(?:ö|oe|o)ms?|\bang(?![a-z])\.?", "å"),
    (r"\\?μ|\\mu(?![a-z])[ }$]*|\bmicro(?=[mr])", "u"),
    (r"\bmicrons?\b", "um"),
    (r"\bnano(?=m)", "n"),
    (r"\bpico(?=m)", "p"),
    (r"\bmilli(?=[mr])", "m"),
    (r"\bcenti(?=m)", "c"),
    (r"met(?:er|re)s?(?![a-z])", "m"),
    (r"radians?", "rad"),
    (r"degrees?|°", "deg"),
    (r"\b(?:inverse|reciprocal|inv|per)(?: |(?=å|a$|nm))", "1/"),
    (r"\*\*", "^"),
    (r"⁄", "/"),
    (r"[−–]", "-"),
)
LENGTH, ANGLE = "|".join(LENGTHS), "|".join(ANGLES)
UNIT = re.compile(
    r"(?:(?P<symbol>k|q|g|s|2 ?theta|2 ?θ|2th|tth)[ ,/]+)?"
    rf"(?:1 ?/ ?(?P<inverse>{LENGTH})|(?P<power>{LENGTH}) ?\^? ?- ?1"
    rf"|(?P<length>{LENGTH})|(?P<angle>{ANGLE}))"
)


@dataclass(frozen=True)
class Unit:
    """What a unit measures, and its size.

    Attributes:
        kind: "reciprocal" in 1/Å without 2π, "length" in nm, "angle" (of scattering) in mrad.
        size: In that unit.
    """

    kind: Literal["reciprocal", "length", "angle"]
    size: float


def parse_unit(text: Any) -> Unit | None:
    """The unit that a text means; None where it is not understood.

    An angle is that between beam and ray, 2θ of diffraction. A unit of q, as pyxem writes ``q_nm^-1``, is one of 2π k.

    Example:
        >>> parse_unit("k_nm^-1"), parse_unit("$\\\\AA^{-1}$"), parse_unit("furlong")
        (Unit(kind='reciprocal', size=0.1), Unit(kind='reciprocal', size=1.0), None)
    """
    match = UNIT.fullmatch(_plain(text))
    if match is None:
        return None
    symbol, inverse = match["symbol"], match["inverse"] or match["power"]
    if inverse and (symbol is None or symbol in "kqgs"):
        size = ANGSTROM_IN_NM / LENGTHS[inverse]
        return Unit("reciprocal", size / (2 * pi) if symbol == "q" else size)
    if match["angle"] and (symbol is None or symbol not in "kqgs"):
        return Unit("angle", ANGLES[match["angle"]])
    if match["length"] and symbol is None:
        return Unit("length", LENGTHS[match["length"]])
    return None


def is_blank(text: Any) -> bool:
    """Whether a text is no unit but the lack of one: empty, undefined, pixels.

    Example:
        >>> is_blank(" px "), is_blank("nm")
        (True, False)
    """
    return text is None or str(text).strip(" _[]()").casefold() in BLANK


def _plain(text: Any) -> str:
    plain = unicodedata.normalize("NFKC", str(text)).casefold()
    for pattern, spelled in SPELLINGS:
        plain = re.sub(pattern, spelled, plain)
    return " ".join(plain.split())
