"""Two runs on one scan: do they find the same domains, images and strain?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jax4dstem.coordinates import wrap_angle
from jax4dstem.domains import agreement
from jax4dstem.errors import InputError
from jax4dstem.fields import Result, entry
from jax4dstem.pipeline.results import Results
from jax4dstem.strain import COMPONENTS, StrainAnswers, StrainMap

IMAGES = ("bright_field", "annular_dark_field")
NORMAL_MEDIAN = 0.67449  # of |z|, z from the normal distribution
MANY_BARS = 3.0


@dataclass(frozen=True)
class ResultsCompared(Result):
    """How far two runs agree.

    Attributes:
        divisions: Domain map and levels that both have, ``(divisions,)``.
        number: Domains of the first and of the second run, ``(divisions, 2)``.
        index: Adjusted Rand index of each, ``(divisions,)``.
        share: Of the positions that agree after matching, ``(divisions,)``.
        images: Names of maps that both have, ``(images,)``.
        correlation: Pearson's, of each, ``(images,)``.
        components: Of strain, with the way it was measured, ``(components,)``.
        positions: That have it in both runs, ``(components,)``.
        offset: Median difference, second minus first, ``(components,)``.
        scatter: Robust standard deviation of the difference about that, ``(components,)``.
        in_bars: Typical difference in units of the joint error bar, ``(components,)``; 1 where two independent measurements
            have the right error bars.
        beyond: Share of the positions whose difference is more than three joint error bars, ``(components,)``.
        notes: What makes the runs different before anything is compared, ``(notes,)``.
    """

    divisions: np.ndarray = entry("division", "", "domain map and levels")
    number: np.ndarray = entry("division run", "", "domains")
    index: np.ndarray = entry("division", "1", "adjusted Rand index")
    share: np.ndarray = entry("division", "1", "positions that agree after matching")
    images: np.ndarray = entry("image", "", "virtual images")
    correlation: np.ndarray = entry("image", "1", "Pearson correlation")
    components: np.ndarray = entry("component", "", "way and component of strain")
    positions: np.ndarray = entry("component", "", "positions with strain in both")
    offset: np.ndarray = entry("component", "1", "median difference, second minus first")
    scatter: np.ndarray = entry("component", "1", "robust standard deviation about that")
    in_bars: np.ndarray = entry("component", "1", "typical difference over the joint error bar")
    beyond: np.ndarray = entry("component", "1", "share of differences beyond three error bars")
    notes: np.ndarray = entry("note", "", "what makes the runs different")

    @property
    def lines(self) -> list[str]:
        """As tables for the screen."""
        text = [f"note      {note}" for note in self.notes]
        if len(self.divisions):
            text += ["", f"{'':<24}{'domains':>12}{'Rand index':>14}{'positions alike':>18}"]
            for row in zip(self.divisions, self.number, self.index, self.share, strict=True):
                name, (first, second), index, share = row
                text.append(f"{name:<24}{f'{first}, {second}':>12}{index:>14.3f}{share:>17.1%}")
        if len(self.images):
            text += ["", f"{'':<24}{'correlation':>12}"]
            for name, value in zip(self.images, self.correlation, strict=True):
                text.append(f"{name:<24}{value:>12.4f}")
        if len(self.components):
            head = ("positions", "offset", "scatter", "in bars", "> 3 bars")
            text += ["", f"{'second - first':<24}" + "".join(f"{word:>11}" for word in head)]
            columns = (self.components, self.positions, self.offset, self.scatter, self.in_bars)
            for name, n, offset, scatter, bars, beyond in zip(*columns, self.beyond, strict=True):
                text.append(
                    f"{name:<24}{n:>11}{offset:>11.1e}{scatter:>11.1e}{bars:>11.2f}{beyond:>11.1%}"
                )
            text.append(
                "in bars: typical difference over the joint error bar; 1 for independent counts"
            )
        return text


def compare_results(first: Results, second: Results) -> ResultsCompared:
    r"""Compare domains, virtual images and strain of two runs on one scan.

    Differences of strain are looked at in units of their joint error bar,

    .. math:: z = \frac{\varepsilon_2 - \varepsilon_1}{\sqrt{\sigma_1^2 + \sigma_2^2}} ,

    whose median size over that of the normal distribution is given: 1 for independent measurements with the right bars. Runs on
    the same counts share their noise, and should differ by less.

    Args:
        first: Answers of one run.
        second: Of another.

    Returns:
        The comparison of what both have.

    Raises:
        InputError: The scans have different shapes, or the runs nothing in common.

    Example:
        >>> from jax4dstem.dataset import Dataset
        >>> from jax4dstem.pipeline import STAGES, analyze
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> found = analyze(scan, stages=STAGES[:3])
        >>> compare_results(found, found).correlation[0].round(6).item()
        1.0

    Reference: ours; the index is that of Hubert and Arabie, J. Classification 2, 193 (1985).
    """
    shapes = [tuple(map(int, found.about["scan_shape"])) for found in (first, second)]
    if shapes[0] != shapes[1]:
        one, other = (f"{height} x {width}" for height, width in shapes)
        raise InputError(
            f"the scans have {one} and {other} positions: compare two runs on one scan"
        )
    divisions = list(_divisions(first, second))
    images = list(_images(first, second))
    strains = list(_strains(first, second))
    if not (divisions or images or strains):
        raise InputError("the two runs have no domains, images or strain in common")
    names, numbers, agreements = zip(*divisions, strict=True) if divisions else ((), (), ())
    rows = [row for name, one, other in strains for row in _compared(name, one, other)]
    columns = (
        [np.array(column) for column in zip(*rows, strict=True)] if rows else [np.array([])] * 6
    )
    return ResultsCompared(
        np.array(names),
        np.array(numbers).reshape(-1, 2),
        np.array([found.index for found in agreements]),
        np.array([found.share for found in agreements]),
        np.array([name for name, _ in images]),
        np.array([value for _, value in images]),
        *columns,
        notes=np.array(list(_notes(first, second, strains))),
    )


def _divisions(first: Results, second: Results) -> Iterator[tuple[str, tuple[int, int], Any]]:
    """Name, numbers of domains and agreement of what both runs divide."""
    one, other = _labels(first), _labels(second)
    for name in one:
        if name in other:
            shape = one[name].shape
            counted = ~(first.left_out(shape) | second.left_out(shape))
            maps = one[name][counted], other[name][counted]
            first_count, count = (len(np.unique(labels[labels >= 0])) for labels in maps)
            yield name, (first_count, count), agreement(*maps)


def _labels(found: Results) -> dict[str, np.ndarray]:
    domains = {} if found.domain_map is None else {"domains": found.domain_map.labels}
    return domains | ({} if found.domains is None else found.domains.labels)


def _images(first: Results, second: Results) -> Iterator[tuple[str, float]]:
    """Name and correlation of the images that both runs have."""
    if first.images is None or second.images is None:
        return
    for name in IMAGES:
        maps = np.stack([getattr(found.images, name).ravel() for found in (first, second)])
        known = maps[:, np.isfinite(maps).all(0)].astype(float)
        varies = (np.ptp(known, axis=1) > 0).all() if known.shape[1] > 1 else False
        yield name, float(np.corrcoef(known)[0, 1]) if varies else np.nan


def _strains(first: Results, second: Results) -> Iterator[tuple[str, StrainMap, StrainMap]]:
    """Strain of every pattern, and pooled, of both runs."""
    one, other = first.strain, second.strain
    if not isinstance(one, StrainAnswers) or not isinstance(other, StrainAnswers):
        return
    if (one.strain.ok & other.strain.ok).any():
        yield "pattern", one.strain, other.strain
        yield "pooled", one.pooled.strain, other.pooled.strain


def _compared(way: str, one: StrainMap, other: StrainMap) -> Iterator[tuple[Any, ...]]:
    """A row per component, of maps that overlap: name, positions, offset, scatter, in bars, beyond three."""
    both = one.ok & other.ok
    for name in COMPONENTS:
        difference = getattr(other, name)[both] - getattr(one, name)[both]
        if name == "theta":
            difference = wrap_angle(difference, one.period)
        bar = np.hypot(one.std(name)[both], other.std(name)[both])
        z = np.abs(difference) / bar
        offset = np.median(difference)
        scatter = np.median(np.abs(difference - offset)) / NORMAL_MEDIAN
        typical, beyond = np.median(z) / NORMAL_MEDIAN, np.mean(z > MANY_BARS)
        yield f"{way} {name}", int(both.sum()), offset, scatter, typical, beyond


def _notes(
    first: Results, second: Results, strains: list[tuple[str, StrainMap, StrainMap]]
) -> Iterator[str]:
    """What makes two runs different before anything is compared."""
    if first.about.get("input_hash") != second.about.get("input_hash"):
        yield "the two runs are of different data"
    for run, found in (("first", first), ("second", second)):
        if not isinstance(found.strain, StrainAnswers) or not found.strain.strain.ok.any():
            yield f"the {run} run has no strain"
        if found.domain_map is None:
            yield f"the {run} run has no domain map"
    for _, one, other in strains[:1]:
        size = np.linalg.norm(one.reference)
        gap = np.linalg.norm(one.reference - other.reference) / size
        if gap > 1e-6:  # more than rounding of float32
            yield (
                f"the references differ by {gap:.2e} of their length, and strain by a constant (offset): "
                f"{one.reference_source}; {other.reference_source}"
            )
