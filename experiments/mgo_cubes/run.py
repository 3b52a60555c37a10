"""Measured MgO cubes on a holey carbon film: which regions there are, and which lattices.

    python experiments/mgo_cubes/run.py --data mgo_sped_crop_y62-104_x0-50_u16.h5

Writes result.json and a figure beside this script, within a minute on 2 cores.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jax4dstem import use_all_cores
from jax4dstem.io.results import read_group
from jax4dstem.pipeline import DOMAIN_STAGES, analyze, load_recipe
from jax4dstem.report.figures import cepstrum_on
from jax4dstem.report.style import cluster_color, cluster_image

HERE = Path(__file__).parent
CALIBRATION = {"input.pixel_inv_angstrom": 0.03246, "input.scan_step_nm": 3.03}


def table(group: dict) -> list[dict]:
    """One row per cluster."""
    states, names = (str(group[key].data).split("\n") for key in ("state", "relation"))
    rows = []
    for n, cluster in enumerate(group["ids"].data):
        lengths = np.linalg.norm(group["basis"].data[n], axis=1)
        known = np.isfinite(lengths).all()
        rows.append(
            {
                "cluster": int(cluster),
                "positions": int(group["size"].data[n]),
                "annular_dark_field": round(float(group["annular_dark_field"].data[n])),
                "crystallinity": round(float(group["crystallinity"].data[n]), 1),
                "state": states[n],
                "lattice_angstrom": lengths.round(2).tolist() if known else None,
                "angle_degrees": round(angle(group["basis"].data[n]), 1) if known else None,
                "relation": names[n],
            }
        )
    return rows


def angle(basis: np.ndarray) -> float:
    a, b = basis
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


def draw(done: dict, about: dict, level: str) -> Figure:
    group = done["clusters"][level]
    ids = group["ids"].data
    figure = Figure(figsize=(3 * (len(ids) + 2), 3.4), layout="constrained")
    axes = figure.subplots(1, len(ids) + 2)
    axes[0].imshow(done["images"]["annular_dark_field"].data, cmap="gray")
    axes[0].set_title("annular dark field", fontsize=13)
    axes[1].imshow(cluster_image(done["labels"][level].data))
    axes[1].set_title("clusters", fontsize=13)
    axes[1].plot([3, 3 + 50 / 3.03], [40, 40], color="white", lw=4)
    axes[1].text(3 + 25 / 3.03, 38, "50 nm", color="white", ha="center", fontsize=12)
    for n, cluster in enumerate(ids):
        cepstrum_on(axes[n + 2], group["mean_cepstrum"].data[n], (144, 144), about)
        axes[n + 2].set_title(f"cluster {cluster}", color=cluster_color(int(cluster)), fontsize=13)
    for one in axes:
        one.set_xticks([])
        one.set_yticks([])
    return figure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    use_all_cores()
    with tempfile.TemporaryDirectory() as out:
        recipe = load_recipe(HERE / "recipe.toml", CALIBRATION)
        done, about = read_group(analyze(data, out, recipe, print, DOMAIN_STAGES))
    level = sorted(done["labels"])[-1]
    rows = table(done["clusters"][level])
    print(json.dumps(rows, indent=1, ensure_ascii=False))
    (HERE / "result.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    FigureCanvasAgg(draw(done, about, level)).print_png(HERE / "result.png")


if __name__ == "__main__":
    main()
