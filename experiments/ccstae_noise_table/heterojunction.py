"""Base lattices of the multislice WS2/WSe2 heterojunction, at its dose and thinned to 300 electrons per pattern.

    python experiments/ccstae_noise_table/heterojunction.py --data cbed_wide2_like.mat --truth cbed_wide2_like_truth.h5

Writes heterojunction.json and heterojunction.png beside this script; about 3 minutes on 2 cores.
"""

import argparse
import json
from pathlib import Path

import h5py
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import adjusted_rand_score

from jax4dstem import Dataset, open_dataset, use_all_cores
from jax4dstem.pipeline import STRAIN_STAGES, analyze_in_memory, load_recipe
from jax4dstem.plots import scale_bar
from jax4dstem.strain import StrainAnswers

HERE = Path(__file__).parent
LOW_DOSE, SUMMED = 300, 4


def thinned(dataset: Dataset, electrons: float, seed: int) -> Dataset:
    """Each electron is kept with a probability that leaves so many per pattern: Poisson stays Poisson."""
    rows, cols = dataset.scan_shape
    rng = np.random.default_rng(seed)
    counts = np.zeros(dataset.shape, np.uint16)
    for row in range(rows):
        full = dataset.source.read(slice(row, row + 1), slice(0, cols))[0].astype(np.int64)
        kept = np.minimum(electrons / full.sum(axis=(1, 2), keepdims=True), 1)
        counts[row] = rng.binomial(full, kept)
    return Dataset.from_array(counts, calibration=dataset.calibration)


def judge(found: StrainAnswers, truth: dict) -> dict:
    strain, inner = found.bases.strain, truth["interior"]
    crystal, base = truth["label"] > 0, found.bases.base
    dilatation = (strain.e_xx + strain.e_yy) / 2
    known = (truth["e_xx_ws2"] + truth["e_yy_ws2"]) / 2
    rejected = ~found.strain.ok

    def step(values: np.ndarray) -> float:
        medians = [np.nanmedian(values[(truth["label"] == i) & inner]) for i in (1, 2)]
        return round(100 * float(medians[1] - medians[0]), 3)

    return {
        "film_crystal_ari": round(adjusted_rand_score(crystal.ravel(), (base > -2).ravel()), 4),
        "the_same_inside": round(adjusted_rand_score(crystal[inner], (base > -2)[inner]), 4),
        "film_rejected_percent": round(100 * float(rejected[~crystal & inner].mean()), 2),
        "crystal_rejected_percent": round(100 * float(rejected[crystal & inner].mean()), 2),
        "step_percent": step(dilatation),
        "true_step_percent": step(known),
        "error_bar_percent": round(100 * float(np.nanmedian(strain.std("e_xx"))), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE / "heterojunction.json")
    options = parser.parse_args()
    use_all_cores()
    with h5py.File(options.truth) as file:
        truth = {name: file[name][()] for name in ("label", "interior", "e_xx_ws2", "e_yy_ws2")}
    truth["interior"] = truth["interior"].astype(bool)
    full = open_dataset(options.data, pixel_inv_angstrom=0.016, scan_step_nm=8.0)
    cases = {
        "as it is": (full, {}),
        f"{LOW_DOSE} electrons": (thinned(full, LOW_DOSE, 0), {"strain.bin": SUMMED}),
    }
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    grid, found = figure.subplots(2, 4), {}
    for axes, (name, (dataset, settings)) in zip(grid, cases.items(), strict=True):
        recipe = load_recipe(None, {**settings, "strain.further": []})
        answers = analyze_in_memory(dataset, recipe, STRAIN_STAGES).strain
        found[name] = judge(answers, truth)
        strain = answers.bases.strain
        for ax, (component, limit) in zip(
            axes, {"e_xx": 4, "e_yy": 4, "e_xy": 1, "theta": 3}.items(), strict=True
        ):
            scale = np.degrees(1) if component == "theta" else 100
            values = scale * getattr(strain, component)
            image = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
            unit = "°" if component == "theta" else "%"
            figure.colorbar(image, ax=ax, shrink=0.8)
            ax.set(title=f"{component} / {unit}, {name}", xticks=[], yticks=[], facecolor="0.7")
        scale_bar(axes[0], dataset.scan_shape[1], *dataset.calibration.scan_units)
    FigureCanvasAgg(figure).print_png(options.out.with_suffix(".png"))
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
