"""Silver tilt series: which features and which clusterer find three crystal orientations, and where each stops working.

    python experiments/silver_tilt/run.py --data ag_tilt.h5

Three orientations of FCC silver, 100 tilts each, in eight ranges of tilt; patterns as simulated, and disturbed by drift,
in-plane rotation and thickness; without noise and at three doses. Writes result.json, condition by condition (a stopped run
continues), and figures beside this script. About 40 minutes on 2 cores, most of it UMAP.
"""

import argparse
import dataclasses
import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import sklearn.cluster
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import affine_transform

from jax4dstem import Dataset
from jax4dstem.domains import agreement
from jax4dstem.pipeline import DOMAIN_STAGES, analyze_in_memory, load_recipe

HERE = Path(__file__).parent
RANGES = (1, 2, 5, 10, 15, 20, 25, 30)
DOSES = (None, 1e5, 3e3, 300.0)
SEEDS = range(20, 25)  # none was looked at while the recipe was made (0, 1 and 10 to 14 were)
TRUTH = np.repeat([0, 1, 2], 100)
NO_NOISE = 1e7  # counts that noise-free patterns are scaled to
# The published ways: everything, then a fixed clusterer, in the data or in their UMAP embedding.
PUBLISHED = {"cepstrum": "cepstrum", "diffraction": "raw"}


def disturbed(patterns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Center drift (normal, 1 px), any in-plane rotation, and 0.5 to 1.5 times the scattered intensity."""
    middle = np.full(2, patterns.shape[-1] / 2)
    y, x = np.indices(patterns.shape[1:])
    beam = np.hypot(y - middle[0], x - middle[1]) < 7
    turned = []
    for pattern in patterns:
        angle, drift = rng.uniform(0, 2 * np.pi), rng.normal(0, 1, 2)
        scaled = np.where(beam, pattern, pattern * rng.uniform(0.5, 1.5))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = affine_transform(scaled, turn, middle - turn @ (middle + drift), order=1)
        turned.append(moved / moved.sum())
    return np.stack(turned)


def make_scan(
    clean: np.ndarray, harsh: bool, dose: float | None, seed: int
) -> tuple[Dataset, np.ndarray]:
    """A scan of all patterns in random order, and their true classes."""
    rng = np.random.default_rng(seed)
    patterns = disturbed(clean, rng) if harsh else clean
    order = rng.permutation(len(patterns))
    expected = patterns[order] * (dose or NO_NOISE)
    counts = rng.poisson(expected).astype(np.uint32) if dose else np.round(expected)
    return Dataset.from_array(counts.reshape(15, 20, *clean.shape[1:])), TRUTH[order]


def accuracy(truth: np.ndarray, labels: np.ndarray) -> float:
    return agreement(truth, labels).share


def published(scan: Dataset, truth: np.ndarray, seed: int) -> dict[str, float]:
    """Accuracy of the four published methods with both clusterers."""
    found = {}
    for name, kind in PUBLISHED.items():
        recipe = load_recipe(
            None,
            {"features.kind": kind, "features.scale": "none", "embed.keep_features": True, "seed": seed, "cluster.k": 3,
             "cluster.methods": ["kmeans"], "cluster.restarts": 1},
        )  # fmt: skip
        embedding = analyze_in_memory(scan, recipe, DOMAIN_STAGES).embedding
        for space, maps in {"data": embedding.features, "manifold": embedding.umap}.items():
            points = maps.reshape(scan.n_patterns, -1)
            for clusterer in (
                sklearn.cluster.HDBSCAN(50, copy=True),
                sklearn.cluster.KMeans(3, n_init=10, random_state=seed),
            ):
                labels = clusterer.fit_predict(points)
                found[f"{name} {space}, {type(clusterer).__name__}"] = accuracy(truth, labels)
    return found


def ours(scan: Dataset, truth: np.ndarray, seed: int) -> dict[str, float]:
    """Accuracy of the recipe beside this script, and of its variants."""
    recipe = dataclasses.replace(load_recipe(HERE / "recipe.toml"), seed=seed)
    found = analyze_in_memory(scan, recipe, DOMAIN_STAGES)
    points = found.scores.scores.reshape(scan.n_patterns, -1)
    k_means = sklearn.cluster.KMeans(3, n_init=10, random_state=seed).fit_predict(points)
    return {
        "recipe": accuracy(truth, found.domains.levels[0].ravel()),
        "angular correlations, KMeans": accuracy(truth, k_means),
    }


def draw_accuracy(result: dict) -> Figure:
    """Accuracy against tilt range, a panel per dose; clean patterns above, disturbed ones below."""
    figure = Figure(figsize=(19, 9), layout="constrained")
    axes = figure.subplots(2, len(DOSES), sharex=True, sharey=True)
    colors = {"cepstrum": "#EE6677", "diffraction": "#4477AA"}
    for row, state in zip(axes, ("clean", "disturbed"), strict=True):
        for one, dose in zip(row, DOSES, strict=True):
            parts = [result[f"{state}, {dose or 'no noise'}, {tilt}"] for tilt in RANGES]
            for name in parts[0]["published"]["20"]:
                values = [[v[name] for v in part["published"].values()] for part in parts]
                one.plot(
                    RANGES, np.mean(values, axis=1), color=colors[name.split()[0]],
                    ls="-" if "manifold" in name else ":", marker="o" if "KMeans" in name else "x",
                    label=name, alpha=0.8,
                )  # fmt: skip
            values = np.array([[v["recipe"] for v in part["ours"].values()] for part in parts])
            one.errorbar(
                RANGES, values.mean(1), values.std(1), color="black", lw=2.5, capsize=3,
                label="this recipe",
            )  # fmt: skip
            electrons = "no noise" if dose is None else f"{dose:g} electrons"
            one.set_title(f"{state}, {electrons}", fontsize=14)
            one.grid(alpha=0.3)
    for one in axes[1]:
        one.set_xlabel("tilt range ± degrees", fontsize=13)
    for one in axes[:, 0]:
        one.set_ylabel("accuracy", fontsize=13)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=11)
    return figure


def draw_embeddings(patterns: np.ndarray) -> Figure:
    """PCA, UMAP and the codes of a variational autoencoder of the same features of one disturbed scan."""
    scan, truth = make_scan(patterns, True, 3e3, SEEDS[0])
    overrides = {"embed.umap": True, "embed.codes": "vae"}
    found = analyze_in_memory(scan, load_recipe(HERE / "recipe.toml", overrides), DOMAIN_STAGES)
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    embeddings = {
        "PCA": found.scores.scores,
        "variational autoencoder": found.embedding.codes,
        "UMAP": found.embedding.umap,
    }
    for one, (name, maps) in zip(figure.subplots(1, 3), embeddings.items(), strict=True):
        points = maps.reshape(scan.n_patterns, -1)
        for orientation, label in enumerate(("[100]", "[110]", "[111]")):
            chosen = truth == orientation
            one.scatter(*points[chosen, :2].T, s=14, label=label)
        one.set_title(f"{name}, components 1 and 2", fontsize=14)
    one.legend(fontsize=12)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--only-ours", action="store_true", help="leave out the published methods")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with h5py.File(arguments.data) as file:
        clean = file["patterns"][...].reshape(len(RANGES), len(TRUTH), 128, 128)
    path = HERE / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    for harsh in (True, False):
        for dose in DOSES:
            for tilt, patterns in zip(RANGES, clean, strict=True):
                key = f"{'disturbed' if harsh else 'clean'}, {dose or 'no noise'}, {tilt}"
                row = result.setdefault(key, {})
                for seed in SEEDS[: arguments.seeds]:
                    for part in (ours,) if arguments.only_ours else (ours, published):
                        if str(seed) in row.setdefault(part.__name__, {}):
                            continue
                        scan, truth = make_scan(patterns, harsh, dose, seed)
                        row[part.__name__][str(seed)] = part(scan, truth, seed)
                path.write_text(json.dumps(result, indent=1))
                means = {
                    name: np.mean([values[name] for values in part.values()]).round(3)
                    for part in row.values()
                    for name in next(iter(part.values()))
                }
                print(key, means, flush=True)
    if not arguments.only_ours:
        FigureCanvasAgg(draw_accuracy(result)).print_png(HERE / "accuracy.png")
        figure = draw_embeddings(clean[RANGES.index(10)])
        FigureCanvasAgg(figure).print_png(HERE / "embeddings.png")


if __name__ == "__main__":
    main()
