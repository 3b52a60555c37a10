"""What each cluster is: its mean pattern and cepstrum, its lattice, and how that lies to a reference cluster's."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jax4dstem.beam import Prepared
from jax4dstem.domains.cepstra import CepstralTransform
from jax4dstem.domains.clustering import LEVEL, Domains
from jax4dstem.domains.domain_map import DomainMap
from jax4dstem.domains.physics import ClusterPhysics, cluster_physics, relate_clusters, ring_of
from jax4dstem.fields import Result, entry, group
from jax4dstem.patterns.cepstrum import cepstral_contrast
from jax4dstem.reducers import Mean
from jax4dstem.stream import reduce_patterns


@dataclass(frozen=True)
class ClusterTable(Result):
    """The clusters of one level; the first axis of every array counts the clusters.

    Attributes:
        ids: Cluster ids, ``(clusters,)``.
        parent: Of each, ``(clusters,)``; -1 is the whole scan.
        size: Positions in each, ``(clusters,)``.
        mean_pattern: Mean prepared pattern of its positions, ``(clusters, det_y, det_x)``.
        mean_cepstrum: Mean cepstrum, right half plane, ``(clusters, size_y, half_x)``.
        basis: Real-space lattice vectors as rows (y, x), ``(clusters, 2, 2)``; NaN where there is no lattice.
        strain: e_xx, e_yy, e_xy and theta (radians) of the lattice relative to the reference's, ``(clusters, 4)``.
        relation: How each lattice lies to the reference's, in words, ``(clusters,)``.
        state: "crystalline", "polycrystalline" or "amorphous", ``(clusters,)``.
        crystallinity: Peak power over mean power of the mean cepstrum, ``(clusters,)``.
        annular_dark_field: Mean over its positions in electrons, ``(clusters,)``.
        stability: Adjusted Rand index over seeds of the level.
        reference: Id of the reference cluster; -1 where there is none.
        unit: Of the lattice vectors.
    """

    ids: np.ndarray = entry("domain", "", "cluster ids at this level")
    parent: np.ndarray = entry("domain", "", "id of the parent; -1 = the whole scan")
    size: np.ndarray = entry("domain", "positions", "positions")
    mean_pattern: np.ndarray = entry("domain det_y det_x", "electrons", "mean prepared pattern")
    mean_cepstrum: np.ndarray = entry(
        "domain quefrency_y quefrency_x", "", "mean EWPC, right half plane"
    )
    basis: np.ndarray = entry("domain vector yx", "{unit}", "lattice vectors as rows (y, x)")
    strain: np.ndarray = entry(
        "domain component",
        "",
        "e_xx, e_yy, e_xy, theta (radians) of the lattice relative to cluster {reference}",
    )
    relation: np.ndarray = entry(
        "domain", "", "how each lattice lies, relative to cluster {reference}"
    )
    state: np.ndarray = entry("domain", "", "crystallinity class")
    crystallinity: np.ndarray = entry(
        "domain", "1", "peak power over mean power of the mean cepstrum"
    )
    annular_dark_field: np.ndarray = entry("domain", "electrons", "mean over the members")
    stability: float = entry("", "", "adjusted Rand index over seeds")
    reference: int = entry("", "", "id of the reference cluster; -1 = none")
    unit: str = "px"


@dataclass(frozen=True)
class DomainTables(Result):
    """What the domains, and the clusters of every level, are.

    Attributes:
        levels: A table per level, such as ``levels["level_1"]``; of the domain map, ``levels["domains"]``.
    """

    levels: dict[str, ClusterTable] = group("clusters")


class ClusterMeans(NamedTuple):
    """Means over the members of every cluster, by id."""

    pattern: np.ndarray
    cepstrum: np.ndarray
    contrast: np.ndarray


def describe_domains(
    domains: Domains,
    prepared: Prepared,
    dark_field: np.ndarray,
    cepstrum: CepstralTransform | None = None,
    *,
    reference: int | None = None,
) -> DomainTables:
    """Mean patterns, lattices, states and relations of all clusters.

    Args:
        domains: From `find_domains`.
        prepared: Patterns of the same scan.
        dark_field: Annular dark field, ``(scan_y, scan_x)``.
        cepstrum: Which cepstrum the lattices are read from; None takes the default.
        reference: Cluster that strain and rotation of the others are relative to; None takes the largest crystalline one
            of each level.

    Returns:
        A table per level.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.beam import align_scan, prepare_patterns, survey_scan
        >>> scan, _ = polycrystal((4, 4), (64, 64), n_grains=2)
        >>> survey = survey_scan(scan)
        >>> prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
        >>> from jax4dstem.domains import KMeansSplitter, find_domains
        >>> columns = np.broadcast_to(np.arange(4.0)[:, None] // 2, (4, 4, 1))
        >>> domains = find_domains(columns, [KMeansSplitter(k=2)])
        >>> tables = describe_domains(domains, prepared, np.ones((4, 4)))
        >>> tables.levels["level_1"].size.tolist(), tables.levels["level_1"].basis.shape
        ([8, 8], (2, 2, 2))
    """
    return DomainTables(_described([(domains, reference)], prepared, dark_field, cepstrum)[0])


def describe_map(
    found: DomainMap,
    prepared: Prepared,
    dark_field: np.ndarray,
    cepstrum: CepstralTransform | None = None,
    *,
    levels: Domains | None = None,
    reference: int | None = None,
) -> DomainTables:
    """Mean patterns, lattices, states and relations of the domains of a map; see `describe_domains`.

    Args:
        found: From `map_domains`.
        prepared: Patterns of the same scan.
        dark_field: Annular dark field, ``(scan_y, scan_x)``.
        cepstrum: Which cepstrum the lattices are read from; None takes the default.
        levels: Clusters of the same scan, which the same pass over the patterns describes too.
        reference: Of the clusters, as for `describe_domains`.

    Returns:
        The table "domains", and those of the levels.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.beam import align_scan, prepare_patterns, survey_scan
        >>> scan, _ = polycrystal((12, 12), (64, 64), n_grains=2)
        >>> survey = survey_scan(scan)
        >>> prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
        >>> from jax4dstem.domains import map_domains
        >>> tables = describe_map(map_domains(prepared), prepared, np.ones((12, 12)))
        >>> int(tables.levels["domains"].size.sum())
        144
    """
    parts = [(found.as_level(), None)] + ([] if levels is None else [(levels, reference)])
    of_map, *of_levels = _described(parts, prepared, dark_field, cepstrum)
    tables = {"domains": of_map[LEVEL.format(1)]}
    return DomainTables(tables | (of_levels[0] if of_levels else {}))


def _described(
    parts: list[tuple[Domains, int | None]],
    prepared: Prepared,
    dark_field: np.ndarray,
    cepstrum: CepstralTransform | None,
) -> list[dict[str, ClusterTable]]:
    """Tables of the levels of several sets of clusters with their references, in one pass over the scan."""
    cepstrum = cepstrum or CepstralTransform()
    size, padding = cepstrum.size(prepared), cepstrum.padding
    unit, tables = prepared.calibration.quefrency_step(1)[1], []
    all_means = _means([domains for domains, _ in parts], prepared, cepstrum)
    for (domains, reference), means in zip(parts, all_means, strict=True):
        physics = [
            cluster_physics(half, float(contrast), size, padding, prepared.calibration)
            for half, contrast in zip(means.cepstrum, means.contrast, strict=True)
        ]
        tables.append(
            {
                LEVEL.format(level): _table(
                    domains, level, means, physics, dark_field, reference, unit
                )
                for level in range(1, len(domains.levels) + 1)
            }
        )
    return tables


def cluster_means(
    domains: Domains, prepared: Prepared, cepstrum: CepstralTransform
) -> ClusterMeans:
    """Mean pattern, mean cepstrum and mean cepstral contrast of every cluster, in one pass over the scan.

    Args:
        domains: From `find_domains`.
        prepared: Patterns of the same scan.
        cepstrum: Which cepstrum.

    Returns:
        Patterns ``(clusters, det_y, det_x)``, cepstra ``(clusters, size_y, half_x)`` and contrasts ``(clusters,)``, by id.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.beam import align_scan, prepare_patterns, survey_scan
        >>> scan, _ = polycrystal((4, 4), (64, 64), n_grains=2)
        >>> survey = survey_scan(scan)
        >>> prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
        >>> from jax4dstem.domains import KMeansSplitter, find_domains
        >>> columns = np.broadcast_to(np.arange(4.0)[:, None] // 2, (4, 4, 1))
        >>> domains = find_domains(columns, [KMeansSplitter(k=2)])
        >>> means = cluster_means(domains, prepared, CepstralTransform())
        >>> means.pattern.shape, means.cepstrum.shape
        ((2, 64, 64), (2, 64, 33))
    """
    return _means([domains], prepared, cepstrum)[0]


def _means(
    parts: list[Domains], prepared: Prepared, cepstrum: CepstralTransform
) -> list[ClusterMeans]:
    """`cluster_means` of several sets of clusters."""
    ring = ring_of(cepstrum.size(prepared), cepstrum.padding)
    weights = np.concatenate([_members(domains) for domains in parts], axis=-1)
    values = cepstrum.beside(prepared).map(_with_contrast, ring)
    means = reduce_patterns(Mean(), values, weights=weights, progress="cluster means")
    ends = np.cumsum([len(domains.size) for domains in parts])[:-1]
    split = [np.split(np.asarray(mean), ends) for mean in means]
    return [ClusterMeans(*of_part) for of_part in zip(*split, strict=True)]


def _members(domains: Domains) -> np.ndarray:
    """1 where a position is in a cluster at any level, ``(scan_y, scan_x, clusters)``."""
    members = np.zeros((*domains.levels[0].shape, len(domains.size)), np.float32)
    for labels in domains.levels:
        for cluster in np.unique(labels[labels >= 0]):
            members[labels == cluster, cluster] = 1
    return members


def _with_contrast(both: Any, ring: Any) -> Any:
    pattern, half = both
    return pattern, half, cepstral_contrast(half, ring)


def _table(
    domains: Domains,
    level: int,
    means: ClusterMeans,
    physics: list[ClusterPhysics],
    dark_field: np.ndarray,
    reference: int | None,
    unit: str,
) -> ClusterTable:
    ids, labels = domains.ids(level), domains.levels[level - 1]
    members = [physics[i] for i in ids]
    sizes = domains.size[ids]
    related = relate_clusters(ids, members, sizes, reference)
    return ClusterTable(
        ids,
        domains.parent[ids],
        sizes,
        means.pattern[ids],
        means.cepstrum[ids],
        np.array([member.basis for member in members]),
        related.strain,
        np.array(related.names),
        np.array([member.state for member in members]),
        np.array([member.crystallinity for member in members]),
        np.array([np.nanmean(dark_field[labels == i]) for i in ids]),
        float(domains.stability[level - 1]),
        related.reference,
        unit,
    )
