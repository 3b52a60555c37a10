"""Which domains are there, and what is each of them: features, scores, clusters, and their lattices."""

from jax4dstem.domains.agreement import Agreement, agreement, domain_agreement, merge_by_majority
from jax4dstem.domains.cepstra import CepstralTransform
from jax4dstem.domains.clustering import Comparison, Domains, SplitEvidence, find_domains
from jax4dstem.domains.crystals import DomainCrystals, measure_crystals
from jax4dstem.domains.description import (
    ClusterTable,
    DomainTables,
    cluster_means,
    describe_domains,
    describe_map,
)
from jax4dstem.domains.domain_map import DomainMap, map_domains
from jax4dstem.domains.dose import DomainDose, predict_domain_dose
from jax4dstem.domains.embedding import (
    Embedding,
    Scores,
    compute_vectors,
    embed_scores,
    encode_features,
    score_features,
)
from jax4dstem.domains.feature_kinds import (
    FEATURE_KINDS,
    AngularCepstra,
    AngularPatterns,
    CepstralPixels,
    DiskSums,
    FeatureKind,
    LogPixels,
    RawPixels,
    RootPixels,
    VaryingPixels,
)
from jax4dstem.domains.features import Features, choose_features, feature_vectors
from jax4dstem.domains.splitters import (
    CLUSTERERS,
    Curves,
    GaussianMixtureSplitter,
    HDBSCANSplitter,
    KMeansSplitter,
    Split,
    Splitter,
)
from jax4dstem.domains.tree import ClusterTree, divide, drop_outliers

__all__ = [
    "CLUSTERERS",
    "FEATURE_KINDS",
    "Agreement",
    "AngularCepstra",
    "AngularPatterns",
    "CepstralPixels",
    "CepstralTransform",
    "ClusterTable",
    "ClusterTree",
    "Comparison",
    "Curves",
    "DiskSums",
    "DomainCrystals",
    "DomainDose",
    "DomainMap",
    "DomainTables",
    "Domains",
    "Embedding",
    "FeatureKind",
    "Features",
    "GaussianMixtureSplitter",
    "HDBSCANSplitter",
    "KMeansSplitter",
    "LogPixels",
    "RawPixels",
    "RootPixels",
    "Scores",
    "Split",
    "SplitEvidence",
    "Splitter",
    "VaryingPixels",
    "agreement",
    "choose_features",
    "cluster_means",
    "compute_vectors",
    "describe_domains",
    "describe_map",
    "divide",
    "domain_agreement",
    "drop_outliers",
    "embed_scores",
    "encode_features",
    "feature_vectors",
    "find_domains",
    "map_domains",
    "measure_crystals",
    "merge_by_majority",
    "predict_domain_dose",
    "score_features",
]
