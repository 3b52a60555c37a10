"""The WS2/WSe2 course project: domains, then an autoencoder and a variational one per material.

    python experiments/wse2_heterojunction/run.py --data cbed_wide2_like.mat --truth cbed_wide2_like_truth.h5
    python experiments/wse2_heterojunction/run.py          # the built-in simulation

Writes result.json and a figure beside this script, and the pipeline's report to --report. About 6 minutes
on 2 cores.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from jax4dstem import (
    Dataset,
    map_patterns,
    open_dataset,
    open_results,
    prepare_patterns,
    use_all_cores,
)
from jax4dstem.domains import VaryingPixels, feature_vectors
from jax4dstem.embed import RotationInvariantEstimator, embed_tsne, embed_umap
from jax4dstem.patterns import to_polar
from jax4dstem.pipeline import Results, analyze, analyze_dataset, load_recipe
from jax4dstem.plots import scale_bar
from jax4dstem.regions import standardize_region
from jax4dstem.report import write_report
from jax4dstem.simulate import heterojunction

HERE = Path(__file__).parent
STEP_NM = 8.0
MATERIALS = {"WS2": 1, "WSe2": 2}
K = 4
# The study's recipe: annulus 24 to 57 px, top 30 % of its pixels, 512 hidden, 8 latent, 40 epochs.
INNER, OUTER = 24.0, 57.0
STUDY = {
    "features.inner": INNER,
    "features.outer": OUTER,
    "features.fraction": 0.3,
    "strain.enabled": False,
    "latent.enabled": True,
    "latent.k": K,
    "latent.patience": "auto",
}
RINGS, ANGLES = 24, 120


def explained(values: np.ndarray, labels: np.ndarray) -> float:
    """Eta squared: share of the variance of ``values`` that lies between the clusters."""
    known = np.isfinite(values) & (labels >= 0)
    values, labels = values[known], labels[known]
    total = np.var(values)
    means = [(np.mean(labels == c), values[labels == c].mean()) for c in np.unique(labels)]
    return float(sum(share * (mean - values.mean()) ** 2 for share, mean in means) / total)


def clusters(codes: np.ndarray) -> np.ndarray:
    return KMeans(K, n_init=10, random_state=0).fit_predict(codes)


def identity(x):
    return x


def polar(pattern, center):
    """Square root of the counts on rings of the annulus, so that noise is equal everywhere."""
    return to_polar(jnp.sqrt(jnp.maximum(pattern, 0)), center, INNER, OUTER, (RINGS, ANGLES))


def compare(dataset: Dataset, found: Results, level: np.ndarray, truth: dict) -> dict:
    """Every representation's clusters against the true fields, within each material."""
    prepared = prepare_patterns(dataset, found.survey, found.beam)
    vectors = feature_vectors(prepared, VaryingPixels(INNER, OUTER), found.features)
    rings = map_patterns(polar, prepared.patterns, jnp.asarray(prepared.center))
    result = {}
    for material, number in MATERIALS.items():
        inside = truth["label"] == number
        ids, counts = np.unique(level[inside & (level >= 0)], return_counts=True)
        region = int(ids[counts.argmax()])
        chosen = level == region
        x = map_patterns(identity, standardize_region(vectors, chosen))[chosen]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            rvae = RotationInvariantEstimator((RINGS, ANGLES), 4, epochs=40, batch_size=256)
            flat = rings[chosen].reshape(int(chosen.sum()), -1)
            turned = rvae.fit(flat).rotation(flat)
        content = rvae.transform(flat)
        labels = {
            "raw features": clusters(x),
            "PCA, 8 components": clusters(PCA(8, random_state=0).fit_transform(x)),
            "AE": found.latent.models["ae"].labels[chosen],
            "VAE": found.latent.models["vae"].labels[chosen],
            "rVAE content": clusters(content),
            "rVAE content and angle": clusters(
                np.c_[
                    content / content.std(0), 3 * wrapped(turned)[:, None] / wrapped(turned).std()
                ]
            ),
        }
        regions = {k: m.regions[f"region_{region}"] for k, m in found.latent.models.items()}
        models = {
            kind: {
                "loss": float(own.trained.history["reconstruction"][-1]),
                "held_out": float(own.trained.history["validation"][-1]),
                "boundary_sharpness": own.boundary_sharpness,
            }
            for kind, own in regions.items()
        }
        own = truth["label"][chosen] == number
        result[material] = {
            "region": region,
            "positions": int(chosen.sum()),
            "share_of_material": float(own.mean()),
            "models": models,
            "eta_squared": {
                name: {
                    field: explained(
                        np.where(own, truth[field][chosen], np.nan), np.asarray(own_labels)
                    )
                    for field in ("theta", "e_xx", "e_yy")
                }
                for name, own_labels in labels.items()
            },
            "rvae_angle_error_deg": angle_error(turned[own], truth["theta"][chosen][own]),
        }
    return result


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles modulo 60 degrees, around their mean."""
    mean = np.angle(np.exp(6j * angle).mean()) / 6
    return (angle - mean + np.pi / 6) % (np.pi / 3) - np.pi / 6


def angle_error(found: np.ndarray, true: np.ndarray) -> float:
    """Median of the error in degrees, after the common offset is removed."""
    return float(np.degrees(np.median(np.abs(wrapped(found - true)))))


def draw(found: Results, regions: dict[str, int], level: np.ndarray, path: Path) -> None:
    """Clusters of the AE codes on the scan, and three pictures of the codes, per material."""
    figure = Figure(figsize=(14, 7), layout="constrained")
    codes_of_all = found.latent.models["ae"]
    for axes, material in zip(figure.subplots(2, 4), MATERIALS, strict=True):
        chosen = level == regions[material]
        labels, codes = codes_of_all.labels, codes_of_all.codes[chosen]
        names, own = np.unique(labels[chosen], return_inverse=True)
        shown = np.full(level.shape, np.nan)
        shown[chosen] = own
        axes[0].imshow(shown, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
        axes[0].set_title(f"{material}: {len(names)} clusters of AE codes")
        axes[0].set(xticks=[], yticks=[], facecolor="0.7")
        scale_bar(axes[0], shown.shape[1], STEP_NM, "nm")
        pictures = {
            "PCA": PCA(2).fit_transform(codes),
            "UMAP": embed_umap(codes, n_components=2, min_dist=0.1),
            "t-SNE": embed_tsne(codes),
        }
        for ax, (name, points) in zip(axes[1:], pictures.items(), strict=True):
            ax.scatter(*points.T, c=own, s=4, cmap="tab10", vmin=0, vmax=9, linewidths=0)
            ax.set(title=f"{name} of the codes", xticks=[], yticks=[])
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--umap", action="store_true", help="also UMAP, as a picture")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    use_all_cores()
    # In the built-in simulation the first level only tells crystal from film.
    overrides = {**STUDY, "embed.umap": options.umap, "latent.level": 1 if options.data else 2}
    with tempfile.TemporaryDirectory() as folder:
        out = options.report or Path(folder)
        begin = time.perf_counter()
        if options.data:
            given = {"calibration.pixel": 0.016, "calibration.scan_step": STEP_NM}
            recipe = load_recipe(None, {**overrides, **given})
            dataset = open_dataset(options.data, pixel_inv_angstrom=0.016, scan_step_nm=STEP_NM)
            analyze(options.data, out, recipe)
            with h5py.File(options.truth) as file:
                truth = {name: file[name][()] for name in ("label", "e_xx", "e_yy")}
                truth["theta"] = np.radians(file["theta_ccw_deg"][()])
        else:
            recipe = load_recipe(None, overrides)
            dataset, made = heterojunction()
            analyze_dataset(dataset, out, recipe)
            truth = {name: getattr(made, name) for name in ("label", "e_xx", "e_yy", "theta")}
        seconds = time.perf_counter() - begin
        write_report(out)
        found = open_results(out)
        level = found.domains.levels[recipe.latent.level - 1]
        result = compare(dataset, found, level, truth)
        regions = {material: result[material]["region"] for material in MATERIALS}
        draw(found, regions, level, options.out.with_suffix(".png"))
    result["adjusted_rand_index"] = float(
        adjusted_rand_score(truth["label"].ravel(), level.ravel())
    )
    result["seconds_of_analyze"] = round(seconds, 1)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
