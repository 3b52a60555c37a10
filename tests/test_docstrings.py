"""Every public name says what it takes and gives, in shapes and units, and shows it; the doctests run the examples.

Public is what stands in the `__all__` of a room. `MISSING` is what is still to be written: it may only shrink.
"""

import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest

import jax4dstem

ROOMS = ["jax4dstem", *(f"jax4dstem.{m.name}" for m in pkgutil.iter_modules(jax4dstem.__path__))]
MISSING: dict[str, str] = {
    "Covariance": "Example",
    "Maximum": "Example",
    "Mean": "Example",
    "StrainMap": "shape of theta, shape of status",
    "align_direct_beam": "Example",
    "annular_dark_field": "Returns, Example",
    "bright_field": "Args pattern, Args center, Args radius, Returns, Example",
    "center_of_mass": "Args pattern, Returns",
    "center_pattern": "Args pattern, Args center, Returns, Example",
    "find_direct_beam": "Example",
    "fit_descan": "Example",
    "open_results": "Example",
    "pool_strain": "Example",
    "use_all_cores": "Example",
    "virtual_image": "Args pattern, Args mask, Returns",
    "anomaly.AnomalyDetector": (
        "Attributes center, Attributes precision, Attributes errors, "
        "Attributes distances, Attributes percentile, Attributes discovery_rate, "
        "Example"
    ),
    "cluster.HDBSCAN": "Example",
    "cluster.ClusterTree": "Example",
    "cluster.Curves": "shape of silhouette",
    "cluster.GaussianMixture": "Example",
    "cluster.KMeans": "Example",
    "cluster.drop_outliers": "Example",
    "embed.PCA": (
        "Attributes mean, Attributes components, Attributes explained_variance, "
        "Attributes explained_variance_ratio"
    ),
    "embed.RotationInvariantVAE": "Example",
    "embed.VariationalAutoEncoder": "Example",
    "embed.decoded_centroids": "Example",
    "embed.embed_umap": "Example",
    "embed.interpolate": "Args model, Args start, Args end, Args steps, Returns, Example",
    "embed.project": "Args features, Args mean, Args components, Returns, Example",
    "embed.subsample": "Args n, Args limit, Args seed, Returns, Example",
    "embed.traverse": "Args model, Args code, Args axis, Args values, Returns, Example",
    "models.AlignedEvidenceBound": "Attributes kl_weight, Example",
    "models.AutoEncoder": "Example",
    "models.Convolutional": "Example",
    "models.CycleConsistency": "Example",
    "models.CycleConsistentAutoEncoder": "Example",
    "models.CycleConsistentSpec": "Example",
    "models.Dense": "Example",
    "models.EvidenceBound": "Example",
    "models.GaussianNoise": "Attributes sigma, Example",
    "models.LatticeBases": "Example",
    "models.LatticeBasesSpec": "Example",
    "models.MarginalLikelihood": "Example",
    "models.PoissonNoise": "Attributes electrons, Attributes sigma",
    "models.Reconstruction": "Example",
    "models.RotationInvariantSpec": "Example",
    "models.RotationInvariantVAE": "Example",
    "models.VariationalAutoEncoder": "Example",
    "models.VariationalSpec": "Attributes shape, Attributes latent, Attributes backbone, Example",
    "models.best_rotation": "Args x, Args content, Returns, Example",
    "models.inverse_warp": (
        "Args image, Args matrix, Args center, Args shift, Args order, Returns, Example"
    ),
    "models.join": "Args structure, Args weights, Returns, Example",
    "models.kl_to_standard_normal": "Args mean, Args log_variance, Returns, Example",
    "models.l1": "Args code, Returns, Example",
    "models.mean_squared_error": "Args x, Args target, Returns, Example",
    "models.poisson_deviance": "Returns, Example",
    "models.rotate_polar": "Args x, Args angle, Returns, Example",
    "models.split": "Args model, Returns, Example",
    "pipeline.Recipe": (
        "Attributes seed, Attributes input, Attributes prepare, Attributes detectors, "
        "Attributes features, Attributes cepstrum, Attributes embed, Attributes cluster, "
        "Attributes strain, Attributes latent"
    ),
    "pipeline.analyze": "Example",
    "pipeline.analyze_dataset": (
        "Args dataset, Args out, Args recipe, Args say, Args stages, Returns, Example"
    ),
    "pipeline.analyze_in_memory": "Example",
    "pipeline.dump_recipe": "Args recipe, Returns, Example",
    "report.write_report": "Example",
    "simulate.Background": (
        "Attributes tail_height, Attributes tail_width, Attributes halo_heights, "
        "Attributes halo_radii, Attributes halo_widths"
    ),
    "simulate.hexagonal_indices": "Args shells, Returns",
    "simulate.lattice_positions": "Args center, Args vectors, Args indices, Returns",
    "simulate.probe_shares": "shape of domains",
    "simulate.smooth_slopes": "Returns",
    "simulate.window_size": "Args radius, Args edge_width, Returns, Example",
    "strain.PooledStrain": "shape of n_pooled, shape of reach",
    "strain.derive": "Returns",
    "strain.friedel_asymmetry": "Args fits, Args model, Example",
    "strain.mix_bases": "Example",
    "strain.strain_by_bases": "Example",
    "strain.strain_from_cepstrum": "Example",
    "strain.strain_map": "shape of vectors, Example",
    "strain.to_py4dstem": "Args strain",
    "strain.to_pyxem": "Args strain",
    "train.ApplyModel": "Example",
    "train.ArrayFeed": "Example",
    "train.DatasetFeed": "Example",
    "train.EncodeAndJudge": "Attributes spec, Example",
    "train.TrainState": "Attributes weights, Attributes optimizer, Attributes step",
    "train.Trained": "Example",
    "train.Training": "Example",
    "train.denoise": "Example",
    "train.feed_of": "Returns, Example",
    "train.load_model": "Returns, Example",
    "train.model_fields": "Args trained, Returns, Example",
    "train.save_model": "Args path, Args trained, Example",
}


def public_names():
    """Each object once, under the first room that offers it."""
    found, seen = {}, set()
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            described = inspect.isfunction(item) or inspect.isclass(item)
            if described and item.__module__.startswith("jax4dstem.") and id(item) not in seen:
                seen.add(id(item))
                found[f"{room}.{name}".removeprefix("jax4dstem.")] = item
    return found


def section(doc, title):
    """Text of a section; None without one."""
    match = re.search(rf"^{title}:\n((?:[ ]+.*\n|\n)*)", f"{doc}\n", re.MULTILINE)
    return match.group(1) if match else None


def untold(names, text, what):
    """Names that a section does not explain, or whose shape it leaves open."""
    missing = []
    for name, annotation in names.items():
        match = re.search(rf"^ +{name}: (.*(?:\n {{8,}}.*)*)", text or "", re.MULTILINE)
        if match is None:
            missing.append(f"{what} {name}")
        # jaxtyping annotations have the shape in them, a bare array has not.
        elif annotation in (np.ndarray, "np.ndarray") and not re.search(
            r"\(.*\)|shape|rows|the same|boolean", match.group(1), re.IGNORECASE
        ):
            missing.append(f"shape of {name}")
    return missing


def missing_of_function(fn):
    doc, signature = inspect.getdoc(fn) or "", inspect.signature(fn)
    names = {p.name: p.annotation for p in signature.parameters.values()}
    missing = untold(names, section(doc, "Args"), "Args")
    gives = section(doc, "Returns") or section(doc, "Yields")
    if signature.return_annotation not in (None, "None") and gives is None:
        missing.append("Returns")
    return missing + ([] if section(doc, "Example") else ["Example"])


def missing_of_class(cls):
    if issubclass(cls, Exception | enum.Enum) or getattr(cls, "_is_protocol", False):
        return []  # their names and members are what they are
    doc = cls.__dict__.get("__doc__") or ""
    doc = inspect.cleandoc(doc)
    own = vars(cls).get("__annotations__", {})
    if dataclasses.is_dataclass(cls):
        own = {f.name: f.type for f in dataclasses.fields(cls) if f.name in own}
    head = doc.partition("\nAttributes:")[0]
    if re.search(r"``\(scan_y, scan_x", head):  # the shape of all is told at once
        own = dict.fromkeys(own)
    missing = untold(own, section(doc, "Attributes"), "Attributes")
    methods = [
        name
        for name, item in vars(cls).items()
        if inspect.isfunction(item) and (not name.startswith("_") or name == "__call__")
    ]
    written_by_hand = [name for name in methods if not name.startswith("_replace")]
    needs = written_by_hand and section(doc, "Example") is None
    return missing + (["Example"] if needs else [])


def missing_of(item):
    return missing_of_class(item) if inspect.isclass(item) else missing_of_function(item)


PUBLIC = public_names()


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_described(name):
    missing = ", ".join(missing_of(PUBLIC[name]))
    assert missing == MISSING.get(name, ""), (
        f"{name} lacks [{missing}]; MISSING says [{MISSING.get(name, '')}]"
    )


def test_what_is_missing_is_still_public():
    assert set(MISSING) <= set(PUBLIC)


def good(x: np.ndarray, gain: float) -> np.ndarray:
    """Scale.

    Args:
        x: ``(n,)``.
        gain: Factor.

    Returns:
        ``(n,)``.

    Example:
        >>> 1
        1
    """
    return gain * x


def bad(x: np.ndarray, gain: float) -> np.ndarray:
    """Scale.

    Args:
        x: Numbers.
    """
    return gain * x


def test_the_rules_see_what_is_missing():
    assert missing_of(good) == []
    assert missing_of(bad) == ["shape of x", "Args gain", "Returns", "Example"]
