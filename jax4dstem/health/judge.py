"""From the answers of a run to its health."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.domains import DomainMap
from jax4dstem.fields import Result, entry
from jax4dstem.health.doubts import DOUBTS, HealthDoubt
from jax4dstem.health.evidence import Evidence

SURE = 0.95  # probability of a domain
MOST_LINES = 8  # on the screen: what somebody reads


@dataclass(frozen=True)
class Health(Result):
    """What was found, and doubts, most serious first.

    Attributes:
        found: What was found, ``(lines,)``.
        subject: What each doubt is about, ``(doubts,)``.
        text: What is seen, the same shape.
        assumed: What the answers take for true, the same shape.
        remedy: How to overrule that, the same shape.
        no_strain: Why no position has strain although it was asked for; None where one has.
    """

    found: np.ndarray = entry("line", "", "what was found", "health/found")
    subject: np.ndarray = entry("doubt", "", "what the doubt is about", "health/subject")
    text: np.ndarray = entry("doubt", "", "what is seen", "health/text")
    assumed: np.ndarray = entry("doubt", "", "what the answers take for true", "health/assumed")
    remedy: np.ndarray = entry("doubt", "", "how to overrule that", "health/remedy")
    no_strain: str | None = entry(
        "", "", "why no position has strain", "health/no_strain", default=None
    )

    @property
    def doubts(self) -> list[HealthDoubt]:
        """Most serious first."""
        columns = (self.subject, self.text, self.assumed, self.remedy)
        return [HealthDoubt(*map(str, row)) for row in zip(*columns, strict=True)]

    @property
    def lines(self) -> list[str]:
        """A few lines for the screen: what was found, and the most serious doubts."""
        found = [f"found     {line}" for line in self.found]
        told = [
            f"doubt     {d.subject}: {d.text}; assumed: {d.assumed}; to change it: {d.remedy}"
            for d in self.doubts
        ]
        room = MOST_LINES - len(found)
        if len(told) > room:
            rest = len(told) - room + 1
            told = [*told[: room - 1], f"doubt     {rest} more in the report"]
        return found + told


def judge(evidence: Evidence) -> Health:
    """Collect what was found and what is doubtful.

    Args:
        evidence: The answers that there are.

    Returns:
        The health of the run.

    Example:
        >>> from jax4dstem.beam import align_scan, survey_scan
        >>> from jax4dstem.coordinates import Calibration
        >>> from jax4dstem.dataset import Dataset
        >>> y, x = np.indices((32, 32))
        >>> beam = 2.0 + 100.0 * (np.hypot(y - 16, x - 15) < 3)
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(beam, (4, 5, 32, 32)))
        >>> survey = survey_scan(scan)
        >>> health = judge(Evidence(Calibration(), survey, align_scan(scan, survey)))
        >>> "calibration" in health.subject, health.no_strain
        (True, None)
    """
    doubts = [doubt for ask in DOUBTS for doubt in ask(evidence)]
    subject, text, assumed, remedy = (
        np.array([doubt[column] for doubt in doubts], dtype=str) for column in range(4)
    )
    found = np.array(_found(evidence), dtype=str)
    return Health(found, subject, text, assumed, remedy, evidence.no_strain)


def _found(evidence: Evidence) -> list[str]:
    survey, detector = evidence.survey, evidence.survey.detector
    lines = [f"{survey.valid.size} positions"]
    if not survey.valid.all():
        lines[0] += f", {(~survey.valid).sum()} of them left out"
    if evidence.domains is not None:
        lines.append(_domain_line(evidence.domains, survey.valid))
    if evidence.strain is not None:
        lines += [_strain_line(evidence), *_lattice_lines(evidence), *_second_lines(evidence)]
    masked = int(detector.bad_pixels.sum())
    lines.append(
        f"{evidence.dose:.3g} electrons per pattern at {detector.gain:.3g} counts per electron, "
        f"{masked} masked pixels"
    )
    return lines


def _domain_line(found: DomainMap, counted: np.ndarray) -> str:
    number, sure = len(found.size), 100 * (found.confidence > SURE)[counted].mean()
    told = f", told by {found.kind}; {sure:.0f} % of the positions are sure to 95 %"
    unusual = 0 if found.unusual is None else int(found.unusual.sum())
    unlike = f"; {unusual} position{'s' * (unusual != 1)} unlike any of them" * (unusual > 0)
    return f"{number} domain{'s' * (number != 1)}" + told * (number > 1) + unlike


def _strain_line(evidence: Evidence) -> str:
    found = evidence.measured
    if found is None:
        return f"NO strain: {evidence.no_strain}"
    ok = found.strain.ok
    one, pooled = (
        100 * float(np.nanmedian(strain.std("e_xx")))
        for strain in (found.strain, found.pooled.strain)
    )
    valid = evidence.survey.valid
    return (
        f"strain at {ok[valid].sum()} of {valid.sum()} positions ({100 * ok[valid].mean():.0f} %), "
        f"median error of e_xx {one:.2g} %, pooled {pooled:.2g} %"
    )


def _lattice_lines(evidence: Evidence) -> list[str]:
    """What the lattices are, where there are several."""
    found = evidence.measured
    table = None if found is None else found.lattices
    if table is None or len(table) < 2:
        return []
    cells = [
        f"{k}: {a:.4g} x {b:.4g} {table.unit}, {gamma:.1f}°, {100 * share:.0f} %"
        for k, (a, b, gamma, share) in enumerate(
            zip(table.a, table.b, table.gamma, table.share, strict=True)
        )
    ]
    return [f"{len(table)} lattices: {'; '.join(cells)}"]


def _second_lines(evidence: Evidence) -> list[str]:
    """Where two crystals lie on top of each other, if anywhere."""
    second = None if evidence.measured is None else evidence.measured.second
    if second is None:
        return []
    valid = evidence.survey.valid
    there = second.there & valid
    share = second.amount[there] / (second.amount + second.first_amount)[there]
    return [
        f"a second crystal under the probe at {there.sum()} of {valid.sum()} positions "
        f"({100 * there[valid].mean():.0f} %), with {100 * float(np.median(share)):.0f} % of the diffraction there (median)"
    ]
