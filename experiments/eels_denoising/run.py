"""Denoising of synthetic iron-oxide spectra: autoencoder against PCA, over seeds.

    python experiments/eels_denoising/run.py              # 10 seeds, about 6 minutes on 2 cores
    python experiments/eels_denoising/run.py --seeds 1 2  # others

Writes result.json and eels_denoising.png beside this script. 400 spectra of four phases, of which 300 train
and 100 test; every figure is of the test spectra.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score

from jax4dstem.anomaly import AnomalyDetector
from jax4dstem.embed import DenoisingEstimator

HERE = Path(__file__).parent
ENERGY = np.linspace(695, 730, 240)
# Frozen on seed 42, where the noisy input's error is 0.0045 and that of PCA with 4 components 0.0020.
SHIFT, WIDTH, SPACING, SPREAD = 0.45, 0.7, 1.8, 0.08
ELECTRONS, READ_NOISE = 50, 0.035
RATIOS = np.array([2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
UNSEEN = 5  # two spacings beyond the last phase
TRAIN = 300


def spectra(rng: np.random.Generator, phase: np.ndarray) -> np.ndarray:
    """Fe L3 and L2 peaks on an edge; their energies shift and their heights vary within a phase."""
    n = len(phase)
    l3 = 707 + SPACING * (phase - 1.5)
    shift = rng.normal(0, SHIFT, n)
    height = 1 + SPREAD * rng.standard_normal((2, n))

    def peak(center: np.ndarray, width: float) -> np.ndarray:
        return np.exp(-((ENERGY - center[:, None]) ** 2) / 2 / width**2)

    lines = height[0][:, None] * peak(l3 + shift, WIDTH)
    lines += (height[1] / RATIOS[phase])[:, None] * peak(l3 + 13 + shift, 1.3 * WIDTH)
    return lines + 0.03 + 0.08 / (1 + np.exp(-(ENERGY - l3[:, None])))


def noisy(rng: np.random.Generator, clean: np.ndarray) -> np.ndarray:
    shot = rng.poisson(clean * ELECTRONS) / ELECTRONS
    return shot + rng.normal(0, READ_NOISE, clean.shape)


def autoencoder(latent: int, seed: int) -> DenoisingEstimator:
    return DenoisingEstimator(latent, (128, 64), "gelu", noise=0.3, random_state=seed)


def clusters(codes: np.ndarray, phase: np.ndarray) -> dict[str, float]:
    """How well four K-means clusters are separated, and how well they are the phases."""
    labels = KMeans(4, n_init=10, random_state=0).fit_predict(codes)
    return {
        "silhouette": float(silhouette_score(codes, labels)),
        "ari": float(adjusted_rand_score(phase, labels)),
    }


def one_seed(seed: int, ks: range) -> dict:
    rng = np.random.default_rng(seed)
    phase = rng.permutation(np.arange(400) % 4)
    clean = spectra(rng, phase)
    x = noisy(rng, clean)
    unseen = noisy(rng, spectra(rng, np.full(100, UNSEEN)))
    train, test = slice(None, TRAIN), slice(TRAIN, None)

    def error(reconstruction: np.ndarray) -> float:
        return float(np.mean((reconstruction - clean[test]) ** 2))

    result: dict = {"noisy": error(x[test]), "pca": {}, "clean_target": {}, "noisy_target": {}}
    for k in ks:
        pca = PCA(k).fit(x[train])
        codes = pca.transform(x[test])
        result["pca"][k] = {
            "mse": error(pca.inverse_transform(codes)),
            **clusters(codes, phase[test]),
        }
        for name, target in (("clean_target", clean), ("noisy_target", x)):
            model = autoencoder(k, seed).fit(x[train], target=target[train])
            codes = model.transform(x[test])
            result[name][k] = {
                "mse": error(model.reconstruct(x[test])),
                **clusters(codes, phase[test]),
            }
            if k == 4 and name == "clean_target":
                errors = model.reconstruction_error(x[test])
                far = model.reconstruction_error(unseen)
                detector = AnomalyDetector.fit(codes, errors)
                both = detector.find(model.transform(unseen), far)
                denoised = model.reconstruct(unseen)
                result["anomaly"] = {
                    "by_error": int((far > np.quantile(errors, 0.99)).sum()),
                    "by_both": int(both.by_threshold.sum()),
                    "by_discovery": int(both.by_discovery.sum()),
                    "ratio": float(far.mean() / errors.mean()),
                    # The noise is in both means; without it the ratio is that of what is not understood.
                    "ratio_above_noise": float(
                        np.mean((denoised - unseen) ** 2 - expected_noise(unseen))
                        / max(np.mean((model.reconstruct(x[test]) - clean[test]) ** 2), 1e-9)
                    ),
                }
    return result


def expected_noise(x: np.ndarray) -> float:
    """Mean variance of the noise of measured spectra."""
    return float(x.mean() / ELECTRONS + READ_NOISE**2)


def training_sizes(seed: int) -> dict:
    """Error against the number of training spectra, where noisy targets are all there is."""
    rng = np.random.default_rng(1000 + seed)
    result = {}
    for n in (25, 50, 100, 200, 400, 800):
        phase = np.arange(n + 200) % 4
        clean = spectra(rng, phase)
        x = noisy(rng, clean)
        pca = PCA(min(4, n)).fit(x[:n])
        fitted = pca.inverse_transform(pca.transform(x[n:]))
        result[n] = {"pca": float(np.mean((fitted - clean[n:]) ** 2))}
        for name, target in (("clean_target", clean), ("noisy_target", x)):
            model = autoencoder(4, seed).fit(x[:n], target=target[:n])
            result[n][name] = float(np.mean((model.reconstruct(x[n:]) - clean[n:]) ** 2))
    return result


def draw(results: list[dict], sizes: list[dict], ks: range, path: Path) -> None:
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for name, label in (
        ("pca", "PCA"),
        ("clean_target", "AE, clean targets"),
        ("noisy_target", "AE, noisy targets"),
    ):
        for ax, figure_name in zip(axes, ("mse", "silhouette"), strict=False):
            values = np.array([[r[name][k][figure_name] for k in ks] for r in results])
            ax.errorbar(list(ks), values.mean(0), values.std(0), fmt="o-", ms=4, label=label)
        ns = list(sizes[0])
        values = np.array([[s[n][name] for n in ns] for s in sizes])
        axes[2].errorbar(ns, values.mean(0), values.std(0), fmt="o-", ms=4, label=label)
    axes[0].set(yscale="log", xlabel="code size", ylabel="mean squared error, test")
    axes[1].set(xlabel="code size", ylabel="silhouette of 4 clusters, test")
    axes[0].set_ylim(1e-4, 3e-2)
    axes[2].set(xscale="log", yscale="log", xlabel="training spectra", ylabel="mean squared error")
    axes[2].set_xticks(ns, [str(n) for n in ns], minor=False)
    axes[2].set_xticks([], minor=True)
    axes[0].legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    ks = range(1, 9)
    results, sizes = [], []
    for seed in options.seeds:
        results.append(one_seed(seed, ks))
        if seed in options.seeds[:3]:
            sizes.append(training_sizes(seed))
        last = results[-1]
        print(
            f"seed {seed}: noisy {last['noisy']:.5f}  PCA {last['pca'][4]['mse']:.5f}  AE clean "
            f"{last['clean_target'][4]['mse']:.5f}  noisy {last['noisy_target'][4]['mse']:.5f}  silhouette "
            f"{last['pca'][4]['silhouette']:.2f} {last['clean_target'][4]['silhouette']:.2f}  "
            f"anomalies {last['anomaly']}",
            flush=True,
        )
    text = json.dumps({"seeds": options.seeds, "results": results, "sizes": sizes}, indent=1)
    (options.out / "result.json").write_text(text + "\n")
    draw(results, sizes, ks, options.out / "eels_denoising.png")


if __name__ == "__main__":
    main()
