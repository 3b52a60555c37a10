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
    "Results": "Example",
    "StrainMap": "shape of theta, shape of status",
    "align_direct_beam": "Example",
    "analyze": "Example",
    "annular_dark_field": "Returns, Example",
    "bright_field": "Args pattern, Args center, Args radius, Returns, Example",
    "center_of_mass": "Args pattern, Returns",
    "center_pattern": "Args pattern, Args center, Returns, Example",
    "find_direct_beam": "Example",
    "fit_descan": "Example",
    "measure_images": "Returns, Example",
    "open_results": "Example",
    "pool_strain": "Example",
    "prepare_patterns": "Returns, Example",
    "use_all_cores": "Example",
    "virtual_image": "Args pattern, Args mask, Returns",
    "beam.BeamPositions": "shape of measured, shape of surface, shape of outlier",
    "beam.Survey": (
        "shape of invalid, shape of dose, shape of mean, shape of std, shape of bad_pixels, Example"
    ),
    "beam.VirtualImages": "shape of bright_field, shape of annular_dark_field, shape of radii",
    "cli.main": "Example",
    "coordinates.Strain": "Attributes e_xx, Attributes e_yy, Attributes e_xy, Attributes theta",
    "coordinates.detector_grid": "Args shape, Returns",
    "coordinates.electron_wavelength": "Returns",
    "coordinates.length": "Args squared, Returns, Example",
    "coordinates.radius_from": "Args center, Args shape, Returns, Example",
    "coordinates.reciprocal_basis": "Returns",
    "coordinates.rotation_matrix": "Returns",
    "coordinates.rotation_period": "Returns",
    "coordinates.wrap_angle": "Args theta, Args period, Returns",
    "domains.AngularCepstra": "Example",
    "domains.AngularPatterns": "Example",
    "domains.CepstralPixels": "Example",
    "domains.CepstralTransform": "Example",
    "domains.ClusterTable": (
        "shape of ids, shape of parent, shape of size, shape of mean_pattern, "
        "shape of mean_cepstrum, shape of relation, shape of state, "
        "shape of crystallinity, shape of annular_dark_field"
    ),
    "domains.ClusterTree": "Example",
    "domains.Comparison": "shape of labels, shape of disagreement",
    "domains.Curves": "shape of silhouette",
    "domains.DomainTables": "Attributes levels",
    "domains.Domains": "shape of parent, shape of size, shape of stability, Example",
    "domains.Features": (
        "shape of mean_pattern, shape of std_map, shape of mask, shape of ring, shape of scale"
    ),
    "domains.GaussianMixtureSplitter": "Example",
    "domains.HDBSCANSplitter": "Example",
    "domains.KMeansSplitter": "Example",
    "domains.RawPixels": "Example",
    "domains.Scores": (
        "shape of scores, shape of mean, shape of components, "
        "shape of explained_variance, shape of explained_variance_ratio"
    ),
    "domains.SplitEvidence": (
        "shape of k, shape of criterion, shape of silhouette, shape of noise"
    ),
    "domains.VaryingPixels": "Example",
    "domains.choose_features": "Example",
    "domains.cluster_means": "Args domains, Args prepared, Args cepstrum, Returns, Example",
    "domains.compute_vectors": "Args vectors, Args valid, Returns, Example",
    "domains.describe_domains": "Example",
    "domains.domain_agreement": "Returns",
    "domains.drop_outliers": "Example",
    "domains.embed_scores": "Example",
    "domains.encode_features": "Example",
    "domains.feature_vectors": "Returns, Example",
    "domains.score_features": "Example",
    "embed.RotationInvariantEstimator": "Example",
    "embed.VariationalEstimator": "Example",
    "embed.embed_umap": "Example",
    "models.AutoEncoder": "Example",
    "models.CycleConsistency": "Example",
    "models.CycleConsistentAutoEncoder": "Example",
    "models.CycleConsistentSpec": "Example",
    "models.LatticeBases": "Example",
    "models.LatticeBasesSpec": "Example",
    "models.MarginalLikelihood": "Example",
    "models.RotationInvariantVAE": "Example",
    "models.VariationalAutoEncoder": "Example",
    "models.VariationalSpec": "Attributes shape, Attributes latent, Attributes backbone, Example",
    "models.inverse_warp": (
        "Args image, Args matrix, Args center, Args shift, Args order, Returns, Example"
    ),
    "patterns.CepstrumPeak": (
        "Attributes vector, Attributes length, Attributes unit, Attributes height"
    ),
    "patterns.DescanFit": "Attributes surface, Attributes center, Attributes outlier",
    "patterns.DirectBeam": "Attributes center, Attributes radius",
    "patterns.annular_mask": "Args shape, Args center, Args inner, Args outer, Returns, Example",
    "patterns.beam_candidate": "Example",
    "patterns.cepstral_contrast": "Returns",
    "patterns.cepstral_ring": "Example",
    "patterns.check_ring": "Args shape, Args center, Args inner, Args outer, Example",
    "patterns.count_invalid": "Args pattern, Returns, Example",
    "patterns.count_offset": "Returns",
    "patterns.find_cepstrum_peaks": "Example",
    "patterns.fourier_shift": "Returns, Example",
    "patterns.gather_features": "Args pattern, Args pixels, Args scale, Returns, Example",
    "patterns.lattice_quefrencies": "Returns",
    "patterns.log_counts": "Args pattern, Args offset, Returns, Example",
    "patterns.mask_pixels": "Args mask, Returns, Example",
    "patterns.middle": "Args shape, Returns, Example",
    "patterns.noise_scale": "Example",
    "patterns.normalize_dose": "Args pattern, Args reference, Returns, Example",
    "patterns.normalize_peak": "Args pattern, Returns, Example",
    "patterns.quefrency_axes": "Example",
    "patterns.ring_mean": "Returns",
    "patterns.ring_radii": "Example",
    "patterns.root_counts": "Args pattern, Args noise, Returns, Example",
    "patterns.root_shares": "Args values, Returns",
    "patterns.sample_pattern": "Args pattern, Args y, Args x, Returns, Example",
    "patterns.scattering_radius": "shape of std, Example",
    "patterns.top_fraction": "shape of values, Returns, Example",
    "patterns.total_counts": "Args pattern, Returns, Example",
    "patterns.unfold_cepstrum": "Example",
    "pipeline.Recipe": (
        "Attributes seed, Attributes input, Attributes prepare, Attributes detectors, "
        "Attributes features, Attributes cepstrum, Attributes embed, Attributes cluster, "
        "Attributes strain, Attributes latent"
    ),
    "pipeline.RecipeKey": "Example",
    "pipeline.Stage": "Example",
    "pipeline.analyze_dataset": (
        "Args scan, Args out, Args recipe, Args say, Args stages, Args overwrite, Returns, Example"
    ),
    "pipeline.analyze_in_memory": "Example",
    "pipeline.recipe_keys": "Returns, Example",
    "regions.RegionCodes": "Attributes models",
    "regions.RegionModels": (
        "shape of codes, shape of reconstruction_error, shape of labels, "
        "shape of anomaly_p_value, shape of anomaly"
    ),
    "regions.boundary_sharpness": "Returns",
    "regions.encode_regions": "Example",
    "regions.standardize": "Args x, Args mean, Args scale, Returns, Example",
    "regions.standardize_region": "Returns, Example",
    "report.write_report": "Example",
    "simulate.hexagonal_indices": "Args shells, Returns",
    "simulate.lattice_positions": "Args center, Args vectors, Args indices, Returns",
    "simulate.patch_side": "Args radius, Args edge_width, Returns, Example",
    "simulate.probe_shares": "shape of domains",
    "simulate.smooth_slopes": "Returns",
    "strain.CCSTAEStrain": "shape of theta, shape of base, shape of status",
    "strain.LatticeStrain": (
        "shape of score, shape of dispersion, shape of amount, shape of step, shape of converged"
    ),
    "strain.LearnedModel": "Example",
    "strain.PooledStrain": "shape of n_pooled, shape of reach",
    "strain.StrainMeasurement": "Example",
    "strain.base_of_positions": "shape of base, Example",
    "strain.derive": "Returns",
    "strain.friedel_asymmetry": "Args fits, Args model, Example",
    "strain.lattice_amount": "Example",
    "strain.mix_bases": "Example",
    "strain.strain_by_bases": "Example",
    "strain.strain_from_cepstrum": "Example",
    "strain.strain_in_blocks": "Example",
    "strain.sum_neighbors": "Example",
    "strain.to_py4dstem": "Args strain",
    "strain.to_pyxem": "Args strain",
    "stream.Tile": "Attributes rows, Attributes cols",
    "stream.tiles": "Args scan_shape, Args chunks, Args limit, Returns, Example",
    "train.ApplyModel": "Example",
    "train.ArrayFeed": "Example",
    "train.DatasetFeed": "Example",
    "train.Trained": "Example",
    "train.denoise": "Example",
    "train.feed_of": "Returns, Example",
    "train.load_model": "Returns, Example",
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
