"""Domains and strain by the default recipe of two specimens that another program (abTEM) scattered, dynamically.

    python experiments/dynamical/run.py FOLDER      # with twins.npz and particle.npz, as twins.py and particle.py write them

Writes result.json and a figure beside this script. Some half an hour on one core.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gold import CELL, TO_PLANE
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import binary_erosion
from sklearn.metrics import adjusted_rand_score

from jax4dstem import Calibration, Dataset, use_all_cores
from jax4dstem.pipeline import STAGES, Results, analyze_in_memory, load_recipe
from jax4dstem.plots import label_image
from jax4dstem.strain import StrainMap, StrainReference, pool_strain

HERE = Path(__file__).parent
COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
ENERGY_KV = 200.0
DOSES = (1e5, 1e4)
TWIN = (
    2 * TO_PLANE
)  # counter-clockwise on the screen; twin and cell are both mirrored, which together turns
FAR = 5.0  # error bars
TAILS = 4  # positions (9 Å) from the particle, as far as a probe's tails show its lattice
# Of `jax4dstem analyze` what is judged here; base lattices, cepstra, levels of clusters and UMAP are left out.
JUDGED = ("survey", "beam", "images", "domain_map", "strain", "crystals", "health")
RECIPE = {"strain.bases": 0, "strain.further": []}


class Specimen(NamedTuple):
    """Expected patterns, domains, and strain relative to the unstrained matrix; `crystal` has a lattice, `twin` is the mirrored one."""

    expected: np.ndarray
    label: np.ndarray
    interior: np.ndarray
    crystal: np.ndarray
    twin: np.ndarray
    strain: np.ndarray
    vectors: np.ndarray
    calibration: Calibration

    def counted(self, dose: float, seed: int = 0) -> Dataset:
        counts = np.random.default_rng(seed).poisson(dose * self.expected).astype(np.uint16)
        return Dataset.from_array(counts, self.calibration)


def read(folder: Path, name: str) -> Specimen:
    with np.load(folder / f"{name}.npz") as file:
        known = dict(file)
    label = known["label"]
    crystal = label >= (1 if name == "particle" else 0)
    twin = label == (2 if name == "particle" else 1)
    strain = np.stack([known[component] for component in COMPONENTS], axis=-1)
    # Mirrored on the {111} plane is what turning by the angle between two of them does to a lattice.
    strain[..., 3] += np.where(twin, TWIN, 0.0)
    indices = np.array([[1, 1], [1, -1]])
    vectors = ((indices / CELL[:2]) @ known["axes"].T / float(known["pixel"]))[:, ::-1]
    calibration = Calibration(float(known["pixel"]), float(known["step"]), ENERGY_KV)
    return Specimen(
        known["expected"], label, known["interior"], crystal, twin, strain, vectors, calibration
    )


def domain_scores(found: Results, specimen: Specimen) -> dict:
    """Adjusted Rand indices, and what the domains are called."""
    labels = found.domain_map.labels
    joined = np.where(specimen.twin, 1, np.where(specimen.crystal, 2, 0))
    inside = specimen.interior
    rows = []
    for number, size in enumerate(found.domain_map.size):
        here = specimen.label[labels == number]
        rows.append(
            {
                "positions": int(size),
                "most are": int(np.bincount(here).argmax()),
                "share": round(float(np.bincount(here).max() / len(here)), 3),
                "relation": str(found.crystals.relation[number]) if found.crystals else "",
            }
        )
    return {
        "domains": len(rows),
        "told_by": found.domain_map.kind,
        "all": score(specimen.label, labels),
        "interior": score(specimen.label[inside], labels[inside]),
        "interior, twin or not": score(joined[inside], labels[inside]),
        "purity": purity(specimen.label[inside], labels[inside]),
        "mixtures": mixtures(found, specimen),
        "table": rows,
        "unusual": int(found.domain_map.unusual.sum()),
    }


def score(true: np.ndarray, found: np.ndarray) -> float:
    return round(float(adjusted_rand_score(true.ravel(), found.ravel())), 3)


def purity(true: np.ndarray, found: np.ndarray) -> float:
    """Share of the positions that are what most of their domain is."""
    most = [np.bincount(true[found == n]).max() for n in np.unique(found)]
    return round(float(sum(most) / true.size), 3)


def mixtures(found: Results, specimen: Specimen) -> dict:
    """How often a second domain is told where there is one, and where there is none."""
    second = found.domain_map.second >= 0
    return {
        "at mixed positions": round(float(second[~specimen.interior].mean()), 3),
        "inside": round(float(second[specimen.interior].mean()), 3),
    }


def by_true_means(counts: np.ndarray, specimen: Specimen) -> np.ndarray:
    """Domains of largest Poisson likelihood by the mean expected patterns of pure positions."""
    kinds = np.unique(specimen.label)
    means = [
        specimen.expected[(specimen.label == n) & specimen.interior].mean(0).ravel() for n in kinds
    ]
    means = np.array(means) + 1e-3 * np.mean(specimen.expected)
    flat = counts.reshape(-1, means.shape[1]).astype(np.float32)
    means *= flat.mean() / specimen.expected.mean()
    return kinds[(flat @ np.log(means).T - means.sum(axis=1)).argmax(axis=1)]


def strain_scores(strain: StrainMap, specimen: Specimen, where: np.ndarray) -> dict:
    """Error over error bar where there is strain among `where`."""
    used = strain.ok & where
    error = (strain.values - specimen.strain)[used]
    error[:, 3] -= strain.period * np.round(error[:, 3] / strain.period)
    bar = np.stack([strain.std(name) for name in COMPONENTS], axis=-1)[used]
    z = np.abs(error) / bar
    return {
        "ok": round(float(used.sum() / where.sum()), 4),
        "median_error": np.median(np.abs(error), axis=0).round(6).tolist(),
        "median_bar": np.median(bar, axis=0).round(6).tolist(),
        "bias": np.median(error, axis=0).round(6).tolist(),
        "rms_z_without_bias": np.sqrt(
            np.mean(((error - np.median(error, axis=0)) / bar) ** 2, axis=0)
        )
        .round(2)
        .tolist(),
        "rms_z": np.sqrt(np.mean(z**2, axis=0)).round(2).tolist(),
        "coverage_95": np.mean(z < 1.96, axis=0).round(3).tolist(),
        "beyond_5": np.mean(z > FAR, axis=0).round(4).tolist(),
        "wrong_lattice": round(float(np.mean(np.abs(error[:, 3]) > np.radians(2))), 4),
    }


def judge(found: Results, specimen: Specimen, counts: np.ndarray) -> dict:
    strain, inside = found.strain, specimen.crystal & specimen.interior
    result: dict = {
        "domains": domain_scores(found, specimen)
        | {"likelihood": score(specimen.label, by_true_means(counts, specimen))},
        "found": found.health.found.tolist(),
        "doubts": [f"{doubt.subject}: {doubt.text}" for doubt in found.health.doubts],
    }
    if found.health.no_strain is None:
        own = strain.relative_to(StrainReference.vectors(*specimen.vectors))
        pooled = pool_strain(own.strain).strain
        result["strain"] = strain_scores(own.strain, specimen, inside)
        result["strain, all of the crystal"] = strain_scores(own.strain, specimen, specimen.crystal)
        result["pooled"] = strain_scores(pooled, specimen, inside)
        away = binary_erosion(~specimen.crystal, iterations=TAILS, border_value=1)
        if away.any():
            result["false_lattices"] = round(float(own.strain.ok[away].mean()), 4)
        there, mixed = own.second.there, specimen.crystal & ~specimen.interior
        result["second_crystal"] = {
            "at mixed positions": round(float(there[mixed].mean()), 3),
            "inside": round(float(there[specimen.interior].mean()), 4),
        }
    return result


def draw(shown: dict[str, tuple[Specimen, Results]]) -> Figure:
    figure = Figure(figsize=(18, 7.5), layout="constrained")
    rows = figure.subplots(2, 6)
    for axes, (name, (specimen, found)) in zip(rows, shown.items(), strict=True):
        own = found.strain.relative_to(StrainReference.vectors(*specimen.vectors)).strain
        true = np.where(specimen.crystal, specimen.strain[..., 0], np.nan)
        at = tuple(np.array(specimen.label.shape) // 2)
        images = [
            (np.log10(1e5 * specimen.expected[at] + 1), f"{name}: a pattern", {"cmap": "magma"}),
            (label_image(specimen.label), "true domains", {}),
            (label_image(found.domain_map.labels), "domains found", {}),
            (1e2 * true, "true e_xx / %", {"cmap": "RdBu_r", "vmin": -1.2, "vmax": 1.2}),
            (1e2 * own.e_xx, "e_xx found / %", {"cmap": "RdBu_r", "vmin": -1.2, "vmax": 1.2}),
            (
                np.where(specimen.crystal, own.e_xx - specimen.strain[..., 0], np.nan)
                / own.std("e_xx"),
                "error / error bar",
                {"cmap": "RdBu_r", "vmin": -5, "vmax": 5},
            ),
        ]
        for one, (image, title, options) in zip(axes, images, strict=True):
            picture = one.imshow(image, **options)
            one.set_title(title, fontsize=14)
            one.set_xticks([])
            one.set_yticks([])
            if "vmin" in options:
                figure.colorbar(picture, ax=one, shrink=0.7)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=["twins", "particle"])
    parser.add_argument("--doses", nargs="+", type=float, default=DOSES)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    use_all_cores()
    path = options.out / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    shown = {}
    for name in options.only:
        specimen = read(options.folder, name)
        for dose in options.doses:
            scan = specimen.counted(dose)
            stages = tuple(stage for stage in STAGES if stage.name in JUDGED)
            found = analyze_in_memory(scan, load_recipe(None, RECIPE), stages)
            result[f"{name}, {dose:g} electrons"] = judge(found, specimen, np.asarray(scan))
            print(json.dumps(result[f"{name}, {dose:g} electrons"], indent=1), flush=True)
            path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
            if dose == max(options.doses):
                shown[name] = specimen, found
    if len(shown) == 2:
        FigureCanvasAgg(draw(shown)).print_png(options.out / "result.png")


if __name__ == "__main__":
    main()
