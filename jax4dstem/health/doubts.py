"""The doubts: one function for each thing that may be wrong, most serious first in `DOUBTS`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from jax4dstem.beam import ScanDetector
from jax4dstem.health.evidence import Evidence
from jax4dstem.health.rows import rows_that_fit_better
from jax4dstem.io.axes import seem_exchanged
from jax4dstem.strain import StrainAnswers

FEW = 0.5  # share of the positions with strain, below which the reasons are told
MANY_PIXELS = 0.01  # share of masked pixels that is told: hot pixels alone are some 1e-4
TOUCHING = 2.5  # radii between reflections, below which there are no pixels between disks that tell the background
LOST = 0.02  # share of positions whose beam was taken from their neighbors
SCATTER = 1.25  # times more or less than the noise expects: bars of that noise would be off by more than 10 %
QUIET = 0.25  # share of the disks, the quietest
FAR = 1 / 8  # of the detector: half of how far the beam is looked for by default
LOW = 1000.0  # electrons: five reflections with a tenth of them leave twenty electrons for each


class HealthDoubt(NamedTuple):
    """Something that may be wrong.

    Attributes:
        subject: What it is about, in a word or two.
        text: What is seen.
        assumed: What the answers take for true.
        remedy: How to overrule that.
    """

    subject: str
    text: str
    assumed: str
    remedy: str


def _reading(evidence: Evidence) -> Iterator[HealthDoubt]:
    for text in evidence.reading:
        yield HealthDoubt("file", text, "the file is as it was read", "see jax4dstem info FILE")


def _axes(evidence: Evidence) -> Iterator[HealthDoubt]:
    survey = evidence.survey
    mean = np.where(survey.detector.bad_pixels, np.nan, survey.mean_electrons)
    if seem_exchanged(survey.dose[survey.valid], mean):
        yield HealthDoubt(
            "axes",
            "patterns differ from each other more than their pixels do",
            f"the scan has {survey.dose.shape}, the detector {mean.shape} points",
            "--set input.axes=det_y,det_x,scan_y,scan_x",
        )


def _rows(evidence: Evidence) -> Iterator[HealthDoubt]:
    survey, strain = evidence.survey, evidence.measured
    images = [
        np.where(survey.valid, survey.dose, np.nan),
        *np.moveaxis(evidence.beam.measured, -1, 0),
    ]
    if strain is not None:
        images += [strain.strain.e_xx, strain.strain.e_yy, strain.strain.theta]
    for image in images:
        better = rows_that_fit_better(image)
        if better and np.isfinite(image).mean() > FEW:
            yield HealthDoubt(
                "scan",
                f"neighboring rows are more alike in a scan of {better[0]} x {better[1]} positions",
                f"it has {image.shape[0]} x {image.shape[1]}",
                f"--scan-shape {better[0]},{better[1]}",
            )
            return


def _no_strain(evidence: Evidence) -> Iterator[HealthDoubt]:
    if evidence.no_strain:
        yield HealthDoubt(
            "strain", evidence.no_strain, "nothing: there is no strain", _help_to_strain(evidence)
        )


def _given_lattice(evidence: Evidence) -> Iterator[HealthDoubt]:
    found = evidence.measured
    if found is None or found.lattices is None or found.lattices.share[0] > 0:
        return
    yield HealthDoubt(
        "strain",
        f"the reference ({found.strain.reference_source}) is the lattice of no position; another one was found",
        "strain relative to that one's median",
        "--g1 Y,X --g2 Y,X of the lattice in strain/lattices/reference",
    )


def _few_strains(evidence: Evidence) -> Iterator[HealthDoubt]:
    found = evidence.measured
    valid = evidence.survey.valid
    if found is not None and found.strain.ok[valid].mean() < FEW:
        status = found.strain.status[valid]
        yield HealthDoubt(
            "strain",
            f"{(status == 0).sum()} of {status.size} positions have strain; "
            f"{evidence.in_words(status)}",
            "the others show no lattice",
            _help_to_strain(evidence),
        )


def _overlap(evidence: Evidence) -> Iterator[HealthDoubt]:
    found = evidence.strain
    if not isinstance(found, StrainAnswers) or found.strain.ok[evidence.survey.valid].mean() >= FEW:
        return
    radius = float(found.model.radius)
    apart = float(np.linalg.norm(np.asarray(found.model.lattice), axis=1).min())
    if apart < TOUCHING * radius:
        yield HealthDoubt(
            "overlap",
            f"disks with a radius of {radius:.3g} px that lie {apart:.3g} px apart touch or overlap",
            "each disk can be told from its neighbors",
            "record with a smaller convergence angle; no option tells them apart",
        )


def _help_to_strain(evidence: Evidence) -> str:
    if evidence.dose < LOW:
        return "--set strain.bin=2 sums neighbors"
    return "--g1 Y,X --g2 Y,X gives the lattice, --center Y,X the beam"


def _beam(evidence: Evidence) -> Iterator[HealthDoubt]:
    beam = evidence.beam
    lost = float(beam.outlier[evidence.survey.valid].mean())
    if beam.word:
        yield HealthDoubt("direct beam", beam.word, "the center that is told", "--center Y,X")
    elif lost > LOST:
        yield HealthDoubt(
            "direct beam",
            f"{100 * lost:.0f} % of the positions have theirs far from their neighbors'",
            "the center of their neighborhood",
            "--center Y,X, or --set prepare.search=PX",
        )


def _gain(evidence: Evidence) -> Iterator[HealthDoubt]:
    detector = evidence.survey.detector
    if _is_assumed(detector):
        yield HealthDoubt(
            "gain",
            detector.source.replace("assumed: ", "") + _and_scatter(evidence),
            f"{detector.gain:.3g} counts per electron",
            "--set detector.gain=COUNTS_PER_ELECTRON",
        )


def _scaling(evidence: Evidence) -> Iterator[HealthDoubt]:
    detector = evidence.survey.detector
    if detector.scaled_in_words:
        yield HealthDoubt(
            "scaled counts",
            detector.scaled_in_words + _and_scatter(evidence),
            "values are proportional to electrons; error bars and evidence are of such",
            "give the counts as they were recorded; no --set undoes it",
        )


def _saturation(evidence: Evidence) -> Iterator[HealthDoubt]:
    found, detector = evidence.measured, evidence.survey.detector
    if found is not None:  # whose own beam tells more than the mean one
        detector = replace(detector, saturation=float(found.model.detector.saturation))
    if detector.clipped_in_words:
        yield HealthDoubt(
            "saturation",
            detector.clipped_in_words,
            "clipped pixels say nothing but at least so many",
            "record with less beam; no option gives clipped counts back",
        )


def _dispersion(evidence: Evidence) -> Iterator[HealthDoubt]:
    detector, scatter = evidence.survey.detector, _scatter(evidence)
    if scatter is None or detector.scaled_in_words or _is_assumed(detector):
        return  # or another doubt gives the reason
    why = "thresholded or smoothed counts?" if scatter < 1 else "another gain, or a blur?"
    yield HealthDoubt(
        "noise",
        f"{_scatter_in_words(scatter)}: {why}",
        f"a gain of {detector.gain:.3g}; error bars are of the scatter that is seen around each disk",
        "--set detector.gain=COUNTS_PER_ELECTRON",
    )


def _scatter(evidence: Evidence) -> float | None:
    """Variance around disks over that of electrons, where that is another; None without strain too."""
    found = evidence.measured
    if found is None:
        return None
    # A misfit raises the scatter of bright disks, a gain that of all: the quietest tell.
    quiet = np.quantile(np.asarray(found.model.dispersion)[1:], QUIET)
    scatter = float(quiet * np.nanmedian(found.lattice.dispersion[found.strain.ok]))
    return None if 1 / SCATTER < scatter < SCATTER else scatter


def _is_assumed(detector: ScanDetector) -> bool:
    return "assumed" in detector.source


def _and_scatter(evidence: Evidence) -> str:
    """After a reason for it."""
    scatter = _scatter(evidence)
    return "" if scatter is None else f"; {_scatter_in_words(scatter)}"


def _scatter_in_words(scatter: float) -> str:
    return f"counts around the quietest disks scatter with {scatter:.2g} times the variance of electrons"


def _mask(evidence: Evidence) -> Iterator[HealthDoubt]:
    bad = evidence.survey.detector.bad_pixels
    if bad.mean() > MANY_PIXELS:
        yield HealthDoubt(
            "masked pixels",
            f"{bad.sum()} of {bad.size} pixels ({100 * bad.mean():.1f} %) cannot be used",
            "the others say enough",
            "--set prepare.repair_pixels=false takes only those of the file and of --mask",
        )


def _dose(evidence: Evidence) -> Iterator[HealthDoubt]:
    if evidence.dose < LOW:
        yield HealthDoubt(
            "dose",
            f"{evidence.dose:.3g} electrons per pattern (median) are few",
            "each pattern says enough alone",
            "--set strain.bin=2 sums neighbors",
        )


def _drift(evidence: Evidence) -> Iterator[HealthDoubt]:
    moved = np.ptp(evidence.beam.surface.reshape(-1, 2), axis=0)
    if moved.max() > FAR * min(evidence.survey.mean.shape):
        yield HealthDoubt(
            "descan",
            f"the direct beam moves by {moved[0]:.1f} px (y) and {moved[1]:.1f} px (x)",
            "it is never farther from its mean than a quarter of the detector",
            "--set prepare.search=PX, --set prepare.descan_order=3",
        )


def _blur(evidence: Evidence) -> Iterator[HealthDoubt]:
    blur = evidence.survey.detector.blur
    if blur > 0:
        yield HealthDoubt(
            "blur",
            f"neighboring pixels share electrons (a blur of {blur:.2g} px)",
            "pixels are independent; the gain is that of sums of pixels",
            "--set detector.gain=COUNTS_PER_ELECTRON",
        )


def _calibration(evidence: Evidence) -> Iterator[HealthDoubt]:
    calibration, missing = evidence.calibration, []
    if calibration.pixel_inv_angstrom is None:
        missing.append("no detector pixel in 1/Å")
    if calibration.scan_step_nm is None:
        missing.append("no scan step in nm")
    if missing:
        yield HealthDoubt(
            "calibration",
            f"the file has {' and '.join(missing)}",
            "lengths in px and positions; strain needs neither",
            "--pixel 1/Å --step NM",
        )


DOUBTS: tuple[Callable[[Evidence], Iterator[HealthDoubt]], ...] = (
    _no_strain,
    _given_lattice,
    _axes,
    _rows,
    _beam,
    _few_strains,
    _overlap,
    _reading,
    _scaling,
    _gain,
    _saturation,
    _dispersion,
    _mask,
    _dose,
    _drift,
    _blur,
    _calibration,
)
