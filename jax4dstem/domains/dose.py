"""With how many electrons the domains of a scan can be told apart."""

from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import optimize, stats

from jax4dstem.beam import Prepared
from jax4dstem.domains.clustering import Domains
from jax4dstem.fields import Result, entry
from jax4dstem.noise import Noise
from jax4dstem.reducers import Mean
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import Array, Float, Pattern

CONFUSED = 0.05  # share of a domain's positions that may be taken for another
UNSEEN = 0.5  # electrons in all patterns of a domain that a pixel is taken to have besides those it has (Jeffreys)
FEWEST = 2  # positions of a domain in each half
LEAST = 1e-30  # instead of a division by zero
WIDEST = 1e6  # times more or fewer electrons than the scan's are looked at


@dataclass(frozen=True)
class DomainDose(Result):
    """How well each domain can be told from the one that it is first taken for, by electrons per pattern.

    Attributes:
        ids: Of the domains, ``(domains,)``.
        rival: The domain that each is first taken for, ``(domains,)``; -1 where there is none to compare with.
        separation: Distance of the two at the scan's dose, in standard deviations of counting noise, ``(domains,)``.
        scatter: Standard deviation over the domain beyond the noise, over that distance, ``(domains,)``.
        needed: Electrons per pattern from which on at most 5 % of its positions are taken for the rival; infinite where they
            differ too much among themselves at any dose; ``(domains,)``.
        own: Electrons per pattern of the scan.
    """

    ids: np.ndarray = entry("domain", "", "cluster ids")
    rival: np.ndarray = entry("domain", "", "the domain that each is first taken for")
    separation: np.ndarray = entry("domain", "noise units", "distance of the two in the scan")
    scatter: np.ndarray = entry("domain", "1", "scatter over the domain over that distance")
    needed: np.ndarray = entry("domain", "electrons", "dose at which 5 % are taken for the rival")
    own: float = entry("", "electrons", "per pattern of the scan")


class _Pair(NamedTuple):
    """One domain against another, at the dose of the scan."""

    distance: float  # of their mean log-likelihood ratios
    squares: np.ndarray  # of the weights that every count has in the ratio
    mean: np.ndarray  # expected counts of the domain
    scatter: float  # variance of the ratio over the domain beyond counting noise


def predict_domain_dose(
    prepared: Prepared, domains: Domains, noise: Noise, *, level: int = 1
) -> DomainDose:
    r"""The dose at which two domains are confused, from the log-likelihood ratio of their mean patterns.

    Of a pattern with counts n the ratio of two domains a, b is :math:`L = \sum_r w_r n_r` and a constant, with the weights w of
    `Noise.evidence`. With a share f of the electrons the means of the two lie f Δ apart, and a position of a lies on b's side of
    their middle with the chance

    .. math:: P = \Phi\left(-\frac{f \Delta / 2}{\sqrt{\sum_r w_r^2 \, v(f \lambda_r) + f^2 V}}\right) ,

    with the variance v of the noise and what L scatters within the domain beyond it, V. Positions are weighted by the mean patterns of
    every second position that they are not among, and products of the two weights stand for w², so that noise in the means
    looks neither like a difference nor like scatter. It is the best that can be done with known means; a
    clusterer that has to find them needs more.

    Args:
        prepared: Patterns, normalized to equal dose.
        domains: From `find_domains`.
        noise: Of the detector's counts in electrons.
        level: Of the domains.

    Returns:
        For every domain the rival that needs the largest dose.

    Example:
        >>> from jax4dstem.beam import align_scan, prepare_patterns, survey_scan
        >>> from jax4dstem.domains import KMeansSplitter, find_domains
        >>> from jax4dstem.noise import COUNTED
        >>> from jax4dstem.simulate import polycrystal
        >>> scan, truth = polycrystal((8, 8), (64, 64), n_grains=2, seed=1)
        >>> survey = survey_scan(scan)
        >>> prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
        >>> domains = find_domains(truth.grain[..., None].astype(float), [KMeansSplitter(k=2)])
        >>> found = predict_domain_dose(prepared, domains, COUNTED)
        >>> found.rival.tolist(), bool((found.needed < 1e4).all())
        ([1, 0], True)

    Reference: Neyman and Pearson, Phil. Trans. R. Soc. A 231, 289 (1933).
    """
    labels, ids = domains.levels[level - 1], domains.ids(level)
    of_pixels = noise.summed(prepared.bin**2)
    members = labels[..., None] == ids
    odd = np.indices(labels.shape).sum(axis=0) % 2 == 1
    halves = np.stack([members & ~odd[..., None], members & odd[..., None]], axis=-2)
    means = _means(prepared, halves.reshape(*labels.shape, -1)).reshape(
        2, len(ids), *prepared.shape
    )
    compared: list[dict[int, _Pair]] = [{} for _ in ids]
    for a, b in combinations(range(len(ids)), 2):
        weights = of_pixels.evidence(means[:, a], means[:, b])
        both = map_patterns(weighted_sums, prepared.patterns, weights.astype(np.float32))
        ratios = np.where(odd, both[..., 0], both[..., 1])  # each by the means of the other half
        if min(halves[..., i].sum(axis=(0, 1)).min() for i in (a, b)) < FEWEST:
            continue
        distance = float(ratios[members[..., a]].mean() - ratios[members[..., b]].mean())
        for i, other in ((a, b), (b, a)):
            mean = means[:, i].mean(axis=0)
            counting = np.sum((weights**2).mean(axis=0) * of_pixels.variance(mean))
            scatter = max(float(ratios[members[..., i]].var() - counting), 0.0)
            compared[i][other] = _Pair(distance, weights.prod(axis=0), mean, scatter)
    rows = [_first_rival(one, of_pixels) for one in compared]
    rival, separation, scatter, share = (np.array(part) for part in zip(*rows, strict=True))
    names = np.where(rival >= 0, ids[rival], -1)
    return DomainDose(ids, names, separation, scatter, share * prepared.dose, prepared.dose)


def weighted_sums(
    pattern: Pattern, weights: Float[Array, "halves det_y det_x"]
) -> Float[Array, " halves"]:
    """Of the counts of a pattern: log-likelihood ratios, up to a constant."""
    return jnp.einsum("hyx,yx->h", weights, pattern)


def _means(prepared: Prepared, members: np.ndarray) -> np.ndarray:
    """Mean pattern of every domain, positive, ``(domains, det_y, det_x)``."""
    weights = members.astype(np.float32)
    sums = reduce_patterns(Mean(), prepared.patterns, weights=weights, progress="mean patterns")
    size = np.maximum(members.sum(axis=(0, 1)), 1)[:, None, None]
    return np.maximum(np.asarray(sums, np.float64), 0) + UNSEEN / size


def _first_rival(compared: dict[int, _Pair], noise: Noise) -> tuple[int, float, float, float]:
    """Of all other domains that which needs the most electrons: its row, separation, scatter, and share of electrons."""
    found = [(-1, np.nan, np.nan, np.nan)]
    for other, pair in compared.items():
        scatter = np.sqrt(pair.scatter) / max(pair.distance, 1e-30)
        found.append((other, _separation(pair, noise, 1.0), scatter, _share_needed(pair, noise)))
    return max(found, key=lambda row: np.nan_to_num(row[3], nan=-1.0, posinf=np.inf))


def _separation(pair: _Pair, noise: Noise, share: float) -> float:
    """Distance in standard deviations of counting noise, with a share of the electrons."""
    variance = float(np.sum(pair.squares * noise.variance(share * pair.mean)))
    return share * max(pair.distance, 0.0) / np.sqrt(max(variance, share**2 * LEAST))


def _share_needed(pair: _Pair, noise: Noise) -> float:
    """Electrons over the scan's at which the two are confused in 5 % of the positions."""
    relative = pair.scatter / max(pair.distance, LEAST) ** 2
    wanted = 1 / (4 * stats.norm.isf(CONFUSED) ** 2) - relative  # of the variance over Δ²

    def margin(logarithm: float) -> float:
        return wanted * _separation(pair, noise, np.exp(logarithm)) ** 2 - 1

    ends = -np.log(WIDEST), np.log(WIDEST)
    if margin(ends[1]) < 0:
        return np.inf
    return 0.0 if margin(ends[0]) > 0 else float(np.exp(optimize.brentq(margin, *ends)))
