"""Options that several commands share, each declared once: its flag, its help, and the recipe key it sets.

A command takes a group of options as one parameter (see `command`); a new option is one field here.
"""

import dataclasses
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from jax4dstem.errors import InputError
from jax4dstem.pipeline.recipe import load_recipe, read_recipe_table
from jax4dstem.pipeline.sections import Recipe

File = Annotated[Path, typer.Argument(metavar="FILE", help="Raw 4D-STEM data.", show_default=False)]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="OUT", help="Directory for results and report.")
]
OF_CIF = "cif"  # rings that the crystal of the CIF file has
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of other data or recipes in OUT.")
]


@dataclass(frozen=True)
class Drawing:
    """How figures are written."""

    format: Annotated[
        str | None,
        typer.Option(metavar="svg,pdf", help="Write OUT/figures in these formats too; png is."),
    ] = None

    @property
    def formats(self) -> tuple[str, ...]:
        """All formats; InputError where one is none."""
        if self.format is None:
            return ("png",)
        from jax4dstem.report import check_formats

        names = tuple(name.strip().lower() for name in self.format.split(","))
        check_formats(names)
        return ("png", *names)


@dataclass(frozen=True)
class Sets:
    """The recipe key that an option sets.

    Attributes:
        key: Dotted, such as "input.key".
        read: From the flag and what was given to the key's value.
    """

    key: str
    read: Callable[[str, Any], Any] = lambda flag, given: given


@dataclass(frozen=True)
class Numbers:
    """Numbers separated by commas, or by x.

    Example:
        >>> Numbers(2, int, "8,8")("--scan-shape", "128,256")
        [128, 256]
    """

    count: int
    kind: type
    example: str

    def __call__(self, flag: str, text: str) -> list[float]:
        """The numbers; InputError names the flag."""
        try:
            numbers = [self.kind(part) for part in text.replace("x", ",").split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != self.count:
            raise InputError(
                f"{flag} expects {self.count} numbers such as {self.example}; got {text!r}"
            )
        return numbers


@dataclass(frozen=True)
class Reading:
    """How the file is read."""

    key: Annotated[str | None, typer.Option(help="Dataset inside the file."), Sets("input.key")] = (
        None
    )
    scan_shape: Annotated[
        str | None,
        typer.Option(metavar="Y,X", help="Scan positions, rows,columns."),
        Sets("input.scan_shape", Numbers(2, int, "128,256")),
    ] = None
    detector_shape: Annotated[
        str | None,
        typer.Option(metavar="Y,X", help="Detector pixels of a bare .raw file, rows,columns."),
        Sets("input.detector_shape", Numbers(2, int, "256,256")),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(help="Stored type of a bare .raw file, such as uint16."),
        Sets("input.dtype"),
    ] = None
    index: Annotated[
        int | None, typer.Option(help="Which scan of a series, from 0."), Sets("input.index")
    ] = None
    pixel: Annotated[
        float | None,
        typer.Option(help="Detector pixel in 1/Å."),
        Sets("calibration.pixel"),
    ] = None
    step: Annotated[
        float | None, typer.Option(help="Scan step in nm."), Sets("calibration.scan_step")
    ] = None
    scan_rotation: Annotated[
        float | None,
        typer.Option(help="From the scan's to the detector's axes, counter-clockwise, in degrees."),
        Sets("calibration.scan_rotation"),
    ] = None
    scan_flip: Annotated[
        bool | None,
        typer.Option(help="The detector's y axis is mirrored against the scan's."),
        Sets("calibration.scan_flip"),
    ] = None
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="Calibration, as `jax4dstem calibrate` writes it."),
        Sets("calibration", lambda flag, given: read_calibration(given)),
    ] = None


def _center(flag: str, text: str) -> Any:
    """Two numbers, or the name of a file."""
    return (
        text
        if any(letter.isalpha() for letter in text)
        else Numbers(2, float, "63.5,64")(flag, text)
    )


@dataclass(frozen=True)
class Beam:
    """Where the direct beam is."""

    center: Annotated[
        str | None,
        typer.Option(
            metavar="Y,X|FILE", help="Direct beam in px, or a file with that of every position."
        ),
        Sets("prepare.center", _center),
    ] = None
    no_align: Annotated[
        bool | None,
        typer.Option("--no-align", help="Every pattern has that center, or that of their mean."),
        Sets("prepare.align", lambda flag, given: not given),
    ] = None


@dataclass(frozen=True)
class Masks:
    """Pixels and positions that are left out."""

    mask: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Pixels that cannot be used: .npy, .tif, FILE.h5:KEY."),
        Sets("detector.mask"),
    ] = None
    scan_mask: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|Y0,Y1,X0,X1|CONDITION",
            help="Positions to leave out; a condition is such as 'dose < 100'.",
        ),
        Sets("prepare.scan_mask"),
    ] = None


@dataclass(frozen=True)
class Reference:
    """What strain is relative to."""

    g1: Annotated[
        str | None,
        typer.Option(metavar="Y,X", help="Reference vector in px."),
        Sets("strain.g1", Numbers(2, float, "0,28")),
    ] = None
    g2: Annotated[
        str | None,
        typer.Option(metavar="Y,X", help="Reference vector in px."),
        Sets("strain.g2", Numbers(2, float, "28,0")),
    ] = None
    cif: Annotated[
        list[str] | None,
        typer.Option(metavar="CIF", help="Crystal whose lattice is the reference; one or several."),
        Sets("strain.cif"),
    ] = None
    zone: Annotated[
        list[str] | None,
        typer.Option(metavar="U,V,W", help="Its direction along the beam, for each crystal."),
        Sets("strain.zone", lambda flag, texts: [Numbers(3, int, "0,0,1")(flag, t) for t in texts]),
    ] = None
    region: Annotated[
        str | None,
        typer.Option(metavar="Y0,Y1,X0,X1", help="Scan positions whose median is the reference."),
        Sets("strain.region", Numbers(4, int, "0,16,0,16")),
    ] = None


@dataclass(frozen=True)
class Probe:
    """What the disks look like."""

    probe: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Picture of the probe, or a scan of vacuum."),
        Sets("strain.probe"),
    ] = None
    probe_region: Annotated[
        str | None,
        typer.Option(
            metavar="Y0,Y1,X0,X1", help="Scan positions whose mean direct beam is the probe."
        ),
        Sets("strain.probe_region", Numbers(4, int, "0,4,0,16")),
    ] = None


@dataclass(frozen=True)
class KnownSpecimen:
    """A known crystal, lattice or polycrystal, and where it is; nothing of the recipe."""

    cif: Annotated[Path | None, typer.Option(metavar="CIF", help="The crystal.")] = None
    zone: Annotated[
        str | None, typer.Option(metavar="U,V,W", help="Its direction along the beam; 0,0,1.")
    ] = None
    lattice: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,GAMMA",
            help="Instead of a CIF file: projected cell, two lengths in Å and an angle in degrees.",
        ),
    ] = None
    rings: Annotated[
        str | None,
        typer.Option(
            metavar="cif|D1,D2,...",
            help="A polycrystal: rings of the crystal CIF, or of these spacings in Å.",
        ),
    ] = None
    region: Annotated[
        str | None,
        typer.Option(metavar="Y0,Y1,X0,X1", help="Scan positions that show it, unstrained."),
    ] = None

    @property
    def direction(self) -> tuple[int, int, int]:
        """The zone as numbers; InputError where it is none."""
        u, v, w = Numbers(3, int, "0,0,1")("--zone", self.zone or "0,0,1")
        return int(u), int(v), int(w)

    @property
    def cell(self) -> tuple[float, float, float]:
        """The lattice as numbers; InputError where it is none."""
        a, b, gamma = Numbers(3, float, "3.15,3.15,120")("--lattice", self.lattice or "")
        return a, b, gamma

    @property
    def spacings(self) -> tuple[float, ...]:
        """Those of the rings as numbers; InputError where they are none."""
        text = self.rings or ""
        return tuple(Numbers(text.count(",") + 1, float, "2.36,2.04,1.44")("--rings", text))

    @property
    def rectangle(self) -> tuple[int, int, int, int] | None:
        """The region as numbers, None for the whole scan; InputError where it is none."""
        if self.region is None:
            return None
        y0, y1, x0, x1 = map(int, Numbers(4, int, "0,16,0,16")("--region", self.region))
        return y0, y1, x0, x1

    def check(self) -> None:
        """InputError unless it is said in exactly one way, and in numbers, what the specimen is."""
        of_cif = self.rings == OF_CIF
        given = self.rings is not None and not of_cif
        if (self.cif is not None) + (self.lattice is not None) + given != 1:
            raise InputError(
                "say in one way what the specimen is: --cif CIF, --lattice A,B,GAMMA, --rings D1,D2,..., "
                f"or --rings {OF_CIF} with --cif CIF"
            )
        if of_cif and self.cif is None:
            raise InputError(f"--rings {OF_CIF} needs --cif CIF")
        if self.zone is not None and (self.cif is None or of_cif):
            raise InputError("--zone is of one crystal: it goes with --cif, without --rings")
        if self.cif is not None:
            _ = self.direction
        elif self.lattice is not None:
            _ = self.cell
        else:
            _ = self.spacings


@dataclass(frozen=True)
class Parameters:
    """The recipe, and single values of it."""

    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", "-r", help="TOML recipe; see `jax4dstem recipe`."),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="One recipe value, such as cluster.k=3; repeatable.",
        ),
    ] = None


def recipe_of(parameters: Parameters, *groups: Any, preset: dict[str, Any] | None = None) -> Recipe:
    """The recipe from its file, a preset, `--calibration`, `--set` and the groups' options, of which later ones win.

    Args:
        parameters: The recipe file and its single values.
        groups: `Reading`, `Beam`, `Masks`, `Reference`.
        preset: Values by dotted key.

    Raises:
        InputError: A value cannot be read, or the recipe is none.
    """
    given: dict[str, Any] = {}
    for group in groups:
        given.update(_overrides(group))
    calibration = given.pop("calibration", {})
    settings = dict(_parse_setting(text) for text in parameters.settings or [])
    return load_recipe(parameters.recipe, (preset or {}) | calibration | settings | given)


def read_calibration(path: Path) -> dict[str, Any]:
    """Values of a calibration file by recipe key.

    Raises:
        InputError: It is no recipe, or says other things than the calibration.
    """
    table = read_recipe_table(path)
    if set(table) != {"calibration"} or not isinstance(table["calibration"], dict):
        raise InputError(f"--calibration {path} must have one section, [calibration]")
    return {f"calibration.{name}": value for name, value in table["calibration"].items()}


def _overrides(group: Any) -> dict[str, Any]:
    """Recipe values by dotted key, of those options that were given."""
    hints = get_type_hints(type(group), include_extras=True)
    values = {}
    for field in dataclasses.fields(group):
        given = getattr(group, field.name)
        if given is not None:
            sets = next(note for note in hints[field.name].__metadata__ if isinstance(note, Sets))
            values[sets.key] = sets.read(f"--{field.name.replace('_', '-')}", given)
    return values


def _parse_setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"--set expects KEY=VALUE, got {text!r}")
    for toml in (value, f"[{value}]") if "," in value else (value,):  # 8,8 is a list
        try:
            return name.strip(), tomllib.loads(f"value = {toml}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return name.strip(), value.strip()  # a bare word is a string
