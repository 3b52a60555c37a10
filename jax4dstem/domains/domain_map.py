"""The domain map: which domain every position shows, how sure that is, and what it was told by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import silhouette_samples

from jax4dstem.beam import Prepared
from jax4dstem.domains.chains import SHARES, linked_sets, nearest_of, smallest_set
from jax4dstem.domains.clustering import LEVEL, Domains
from jax4dstem.domains.embedding import Scores, score_features
from jax4dstem.domains.feature_kinds import AngularPatterns, DiskSums, FeatureKind
from jax4dstem.domains.features import choose_features, feature_vectors, pattern_moments
from jax4dstem.domains.gaps import Gap, join_without_gaps
from jax4dstem.domains.gradual import join_gradual
from jax4dstem.domains.peaks import density_peaks
from jax4dstem.domains.shares import Shares, inside_domains, keep_whole, share_out, without_mixtures
from jax4dstem.domains.signal import Signal, signal_components
from jax4dstem.domains.steps import steps_across
from jax4dstem.domains.turns import same_but_turned
from jax4dstem.domains.unusual import typicality, unusual_positions
from jax4dstem.embed import subsample
from jax4dstem.errors import InputError
from jax4dstem.fields import SCAN, Result, entry
from jax4dstem.reducers import MomentsResult
from jax4dstem.rows import to_map

COMPONENTS = 48  # of every kind of features, before their signal is looked for
LEARNED = 20_000  # positions that domains are found on; the others join their neighbors' domains
AS_FINE = 0.4  # of the entropy of the finest division: what divides less says too little
AS_CLEAR = 0.08  # silhouette by which one division may be less clear than another
NO_LESS = 0.01  # the same for two divisions by the same features, of which the finer one counts
# Of what a silhouette lacks of 1, that a coarser division of a collection without order has at most: 0.5 to 0.73 where the finer one cut chains of tilted
# patterns (silver, seeds 10 to 14), 0.85 where the coarser one had joined grains in random order.
CLOSER = 0.8
SLICES = (
    0.5  # silhouette of slices of a uniform field: borders explain no division that is not clearer
)
JUDGED = 5000  # positions that a silhouette is taken of


@dataclass(frozen=True)
class DomainMap(Result):
    """The domains of a scan, one per position.

    Attributes:
        labels: Domain with the largest share, largest domain first; -1 where there is no valid pattern; ``(scan_y, scan_x)``.
        confidence: Probability that no other domain has a larger share, the same shape; NaN where there is no pattern. Where shares are
            not told (patterns without order, by angular correlations), that of its own domain.
        second: Domain that has a significant share beside it, -1 for none; the same shape.
        share: Of the first domain, the same shape.
        kind: Of the features that the domains are told by.
        kinds: All kinds that were tried, ``(kinds,)``.
        number: Domains by each, the same shape.
        clarity: Mean silhouette of each, the same shape; NaN for one domain.
        typicality: Probability that a position of the domains is as unlike all of their mixtures, ``(scan_y, scan_x)``; NaN where
            there is no pattern. None in results of older versions.
        unusual: Positions unlike any domain; of these one in twenty is expected to be so by chance, the same shape.

    Example:
        >>> labels, certain = np.array([[0, 0, 1]]), np.ones((1, 3))
        >>> tried = np.array(["sums"]), np.array([2]), np.array([0.9])
        >>> DomainMap(labels, certain, np.full((1, 3), -1), certain, "sums", *tried).size.tolist()
        [2, 1]
    """

    labels: np.ndarray = entry(
        SCAN, "", "domain with the largest share; -1 = no pattern", "labels/domains"
    )
    confidence: np.ndarray = entry(
        SCAN, "1", "probability that no other domain has a larger share", "labels/confidence"
    )
    second: np.ndarray = entry(
        SCAN, "", "domain with a significant share beside it; -1 = none", "labels/second"
    )
    share: np.ndarray = entry(SCAN, "1", "share of the first domain", "labels/share")
    kind: str = entry("", "", "features that the domains are told by", "domains/kind")
    kinds: np.ndarray = entry("candidate", "", "kinds of features that were tried", "domains/kinds")
    number: np.ndarray = entry("candidate", "", "domains by each kind", "domains/number")
    clarity: np.ndarray = entry("candidate", "1", "mean silhouette of each", "domains/clarity")
    typicality: np.ndarray | None = entry(
        SCAN,
        "1",
        "probability that a position of the domains is as unlike all of their mixtures",
        "labels/typicality",
        default=None,
    )
    unusual: np.ndarray | None = entry(
        SCAN, "", "unlike any domain, one in twenty by chance", "labels/unusual", default=None
    )

    @property
    def size(self) -> np.ndarray:
        """Positions of every domain."""
        return np.bincount(self.labels[self.labels >= 0])

    def as_level(self) -> Domains:
        """The same labels as one level of clusters, as `describe_domains` takes them."""
        parent = np.full(len(self.size), -1, np.int32)
        return Domains(
            {LEVEL.format(1): self.labels},
            parent,
            self.size.astype(np.int32),
            np.full(1, np.nan),
            {},
        )


class Division(NamedTuple):
    """A scan divided by one kind of features.

    Attributes:
        labels: Domain of every valid position, ``(n,)``.
        clarity: Mean silhouette; NaN for one domain.
    """

    labels: np.ndarray
    clarity: float

    @property
    def number(self) -> int:
        """Of domains."""
        return int(self.labels.max()) + 1

    @property
    def entropy(self) -> float:
        """Of the domain of a position, in nats."""
        share = np.bincount(self.labels) / len(self.labels)
        return float(-np.sum(share * np.log(np.maximum(share, 1e-300))))


def map_domains(
    prepared: Prepared, kinds: Mapping[str, FeatureKind] | None = None, *, seed: int = 0
) -> DomainMap:
    """Find the domains of a scan: how many there are, and by which features they are told, is found too.

    Every kind of features is looked at alike: components that neighbors share, peaks of their density, joined where there is no gap
    between them, so that what varies without a gap is one domain, and without those that are mixtures of two others. In a collection of
    patterns without order, sets that chains of neighbors hold together are looked at as well: the finest count, or coarser ones that are much clearer. Positions on sharp borders
    bridge no gap, if the domains are as clear without them, and neighbors between which patterns change gradually are one domain.
    The finest division counts, unless a coarser one is clearer by far, or about as clear and joins the same patterns turned by a few degrees.
    What is unlike all mixtures of domains is said beside it. Shares, and with them the domains of mixed positions, come from
    sums over disks, which are linear in the counts.

    Args:
        prepared: From `prepare_patterns`.
        kinds: Features to try; None tries sums over disks, which see orientation, and angular correlations, which do not.
        seed: Of everything random.

    Returns:
        The map.

    Raises:
        InputError: No position has a valid pattern, or the patterns are not prepared.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.beam import align_scan, prepare_patterns, survey_scan
        >>> scan, truth = polycrystal((12, 12), (64, 64), n_grains=2)
        >>> survey = survey_scan(scan)
        >>> found = map_domains(prepare_patterns(scan, survey, align_scan(scan, survey)))
        >>> found.labels.shape, bool((found.labels >= 0).all())
        ((12, 12), True)
    """
    if not isinstance(prepared, Prepared):
        raise InputError(
            f"map_domains takes prepared patterns, not {type(prepared).__name__}: "
            "prepare_patterns(scan, survey, align_scan(scan, survey)) gives them"
        )
    valid = prepared.valid
    if not valid.any():
        raise InputError("no position has a pattern to find domains in")
    tried = kinds or {"sums": DiskSums(), "angular": AngularPatterns()}
    moments = pattern_moments(prepared)
    sums = tried.get("sums", DiskSums())
    scores = {kind: _scores(prepared, kind, moments) for kind in {*tried.values(), sums}}
    signals = {
        name: signal_components(scores[kind].scores, valid, seed=seed)
        for name, kind in tried.items()
    }
    linear = signals.get("sums") or signal_components(scores[sums].scores, valid, seed=seed)
    divisions = {name: _divide(signal, linear, valid, seed) for name, signal in signals.items()}
    ordered = len(linear.ratio) > 0
    same = partial(same_but_turned, prepared) if ordered else (lambda fine, coarse: False)
    kind = list(tried)[_choose(list(divisions.values()), same)]
    labels = divisions[kind].labels
    if ordered or tried[kind] == sums:
        found = _by_size(share_out(linear.points, labels))
    else:
        found = _by_size(keep_whole(signals[kind].points, labels))
    of_sums = scores[sums]
    typical = typicality(
        of_sums.scores[valid],
        np.asarray(of_sums.rest)[valid],
        found.label,
        -of_sums.components @ of_sums.mean,
        valid if ordered else None,
    )
    return DomainMap(
        to_map(found.label.astype(np.int32), valid, -1),
        to_map(found.confidence.astype(np.float32), valid),
        to_map(found.second.astype(np.int32), valid, -1),
        to_map(found.share.astype(np.float32), valid),
        kind,
        np.array(list(tried)),
        np.array([division.number for division in divisions.values()], np.int32),
        np.array([division.clarity for division in divisions.values()]),
        to_map(typical.astype(np.float32), valid),
        to_map(unusual_positions(typical), valid, False),
    )


def _scores(prepared: Prepared, kind: FeatureKind, moments: MomentsResult) -> Scores:
    vectors = feature_vectors(prepared, kind, choose_features(prepared, kind, moments))
    return score_features(vectors, prepared.valid, COMPONENTS)


def _divide(signal: Signal, linear: Signal, valid: np.ndarray, seed: int) -> Division:
    """Domains by one kind of features; where the scan has order, positions on borders bridge no gap if that is no less clear."""
    points, ordered = signal.points, len(linear.ratio) > 0
    learned = subsample(len(points), LEARNED, seed)
    peaks = density_peaks(points[learned])
    like = np.arange(len(points))
    if len(learned) < len(points):
        like = nearest_of(points[learned], points)

    def division(sets: np.ndarray, *how: Any) -> Division:
        labels = join_without_gaps(points[learned], sets, *how)[like]
        inside = None
        if ordered:  # a collection of patterns has no rims
            labels = without_mixtures(linear.points, labels, valid)
            labels = join_gradual(signal.measured, labels, valid)
            inside = inside_domains(to_map(labels, valid, -1))[valid]
        clarity = _clarity(points, labels, inside, seed)
        sliced = ordered and clarity < SLICES
        return Division(np.zeros_like(labels), np.nan) if sliced else Division(labels, clarity)

    gaps: dict[tuple, Gap] = {}
    every = division(peaks, None, gaps)
    if not ordered:
        if every.number == 1:  # what is one has no pieces that chains would join
            return every
        smallest = {smallest_set(len(learned), of) for of in SHARES}
        return _closest([every, *(division(linked_sets(points[learned], of)) for of in smallest)])
    if not len(signal.ratio):
        return every
    finer = division(peaks, steps_across(points, valid)[:, learned], gaps)
    as_clear = finer.clarity >= np.nan_to_num(every.clarity) - NO_LESS
    too_coarse = every.entropy < AS_FINE * finer.entropy
    return finer if as_clear or too_coarse else every


def _closest(divisions: list[Division]) -> Division:
    """The finest, or a coarser one whose domains hold together much better, unless it says too little."""
    finest, *coarser = sorted(divisions, key=lambda one: -one.entropy)
    chosen = finest
    for other in coarser:
        says = other.entropy >= AS_FINE * finest.entropy
        if says and 1 - other.clarity < CLOSER * (1 - chosen.clarity):
            chosen = other
    return chosen


def _clarity(points: np.ndarray, labels: np.ndarray, inside: np.ndarray | None, seed: int) -> float:
    """Mean silhouette of positions inside, where every domain scatters alike; NaN for one domain.

    Without order (None) it is the mean over domains: a few patterns that are unlike the others make all of the others clear.
    """
    if labels.max() < 1 or len(labels) <= labels.max() + 1:
        return float("nan")
    apart = LinearDiscriminantAnalysis().fit_transform(points, labels)
    judged = np.arange(len(labels)) if inside is None else np.flatnonzero(inside)
    judged = judged[subsample(len(judged), JUDGED, seed)]
    own = labels[judged]
    if len(np.unique(own)) < 2:
        return float("nan")
    each = silhouette_samples(apart[judged], own)
    if inside is None:
        return float(np.mean([each[own == n].mean() for n in np.unique(own)]))
    return float(each.mean())


def _choose(divisions: list[Division], same: Callable[[np.ndarray, np.ndarray], bool]) -> int:
    """The finest, or a coarser one that is clearer, or about as clear and joins what is the same; the first where there is one domain by all."""
    entropy = np.array([division.entropy for division in divisions])
    fine = [n for n in np.argsort(-entropy, kind="stable") if entropy[n] >= AS_FINE * entropy.max()]
    chosen, *coarser = fine
    for other in coarser:
        gain = divisions[other].clarity - divisions[chosen].clarity
        if gain > AS_CLEAR or (
            gain > -AS_CLEAR and same(divisions[chosen].labels, divisions[other].labels)
        ):
            chosen = other
    return int(chosen)


def _by_size(found: Shares) -> Shares:
    """Domains numbered by size, largest first; one that has lost all of its positions is none, nor a second one."""
    size = np.bincount(found.label, minlength=found.second.max() + 1)
    rank = np.argsort(np.argsort(-size, kind="stable"))
    new = np.append(np.where(size > 0, rank, -1), -1)  # the last is that of -1, no second domain
    return found._replace(label=new[found.label], second=new[found.second])
