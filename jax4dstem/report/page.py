"""The HTML page: what was found, then figures and tables in the order of a story, embedded in one file."""

import base64
import datetime
import shlex
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from jax4dstem import plots
from jax4dstem.errors import InputError, OutputError
from jax4dstem.io.results import write_bytes
from jax4dstem.pipeline.results import RESULTS, Results, open_results
from jax4dstem.plots.style import DPI, STYLE
from jax4dstem.report.sections import Picture, Section, sections_of
from jax4dstem.report.story import sentences
from jax4dstem.report.tables import changed_settings

FORMATS = ("png", "svg", "pdf")
SHARP = 2  # px of a picture per px of the page, for fine screens
MOST_DOUBTS = 3  # told at the top


def write_report(out: str | Path, formats: Collection[str] = ("png",)) -> Path:
    """Draw the figures and the page of a results directory.

    Args:
        out: Directory with results.h5.
        formats: Of the files in ``figures/``: ``png``, ``svg``, ``pdf``.

    Returns:
        The path of report.html; the figures lie in ``figures/`` beside it.

    Raises:
        InputError: There is no results file, or no such format.
        OutputError: The report cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.pipeline import STAGES, analyze_dataset
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 32, 32))
        >>> counts[:, :, 14:18, 13:17] += 50
        >>> scan = Dataset.from_array(counts)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     path = analyze_dataset(scan, out, say=lambda line: None, stages=STAGES[:3])
        ...     write_report(out).name
        'report.html'
    """
    out = Path(out)
    check_formats(formats)
    if not (out / RESULTS).is_file():
        raise InputError(f"there is no {RESULTS} in {out}; run jax4dstem analyze first")
    results = open_results(out)
    try:
        folder = out / "figures"
        folder.mkdir(exist_ok=True)
        for stale in folder.iterdir():  # of results that are there no more
            if stale.suffix[1:] in FORMATS:
                stale.unlink()
        figures = _Figures(results, folder, formats)
        figures.draw(Picture("overview", "", plots.overview))
        sections = [_filled(section, figures) for section in sections_of(results)]
    except OSError as error:
        raise OutputError(f"cannot write the report to {out}: {error.strerror}") from error
    page = _render(results, out, [section for section in sections if section["parts"]])
    write_bytes(out / "report.html", page.encode())
    return out / "report.html"


def check_formats(formats: Collection[str]) -> None:
    """Raise InputError for a format that figures are not written in.

    Args:
        formats: Names, such as ``svg``.

    Example:
        >>> check_formats(["svg", "bmp"])
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: figures are written as png, svg, pdf, not 'bmp'
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"figures are written as {', '.join(FORMATS)}, not {name!r}")


class _Figures:
    """Draws pictures into files, and as they are embedded."""

    def __init__(self, results: Results, folder: Path, formats: Collection[str]):
        self.results, self.folder, self.formats = results, folder, {"png", *formats}

    def draw(self, picture: Picture) -> dict[str, Any] | None:
        """What the page needs of a picture; None where the results have nothing of it."""
        try:
            figure = picture.draw(self.results)
        except InputError:
            return None
        width, height = (round(float(side) * DPI) for side in figure.get_size_inches())
        for name in sorted(self.formats):
            (self.folder / f"{picture.name}.{name}").write_bytes(as_bytes(figure, name))
        image = (self.folder / f"{picture.name}.png").read_bytes()
        return {
            "name": picture.name,
            "caption": picture.caption,
            "image": base64.b64encode(image).decode(),
            "width": width,
            "height": height,
        }


def as_bytes(figure: Figure, name: str) -> bytes:
    """A figure as a file of a format."""
    buffer = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=name, dpi=SHARP * DPI)
    return buffer.getvalue()


def _filled(section: Section, figures: _Figures) -> dict[str, Any]:
    """A section with its pictures drawn; figures and tables in the order in which they are told."""
    parts = []
    for part in section.parts:
        if not isinstance(part, Picture):
            parts.append({"table": part})
        elif (drawn := figures.draw(part)) is not None:
            parts.append({"figure": drawn})
    return {"anchor": section.anchor, "title": section.title, "text": section.text} | {
        "folded": section.folded, "parts": parts,
    }  # fmt: skip


def _render(results: Results, out: Path, sections: list[dict[str, Any]]) -> str:
    environment = Environment(loader=PackageLoader("jax4dstem.report"), autoescape=True)
    about = results.about
    doubts = results.health.doubts if results.health is not None else []
    created = datetime.datetime.fromisoformat(str(about["created"]))
    return environment.get_template("page.html.j2").render(
        name=name_of(results),
        date=f"{created:%-d %B %Y, %H:%M} UTC",
        command=command_of(results, out),
        about=about,
        found=" ".join(sentences(results)),
        doubts=doubts,
        top_doubts=doubts[:MOST_DOUBTS],
        story=[section for section in sections if not section["folded"]],
        details=[section for section in sections if section["folded"]],
        settings=changed_settings(results),
    )


def name_of(results: Results) -> str:
    """What the results are of: the file, or what a scan in memory says of itself."""
    path = str(results.about.get("input_path", "memory"))
    if path != "memory":
        return Path(path).name
    note = str(results.about.get("notes", "")).partition("\n")[0]
    return f"{note[:1].upper()}{note[1:]}" or "A scan in memory"


def command_of(results: Results, out: Path) -> str:
    """The command that makes the same results of the same file; "" for a scan in memory, or a recipe of an earlier version."""
    path, settings = str(results.about.get("input_path", "memory")), changed_settings(results)
    if path == "memory" or settings is None:
        return ""
    job = "analyze" if results.domain_map is not None or results.domains is not None else "strain"
    words = ["jax4dstem", job, path, "-o", str(out)]
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    return shlex.join(words)
