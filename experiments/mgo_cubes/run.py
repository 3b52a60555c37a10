"""Measured MgO cubes on a holey carbon film: which regions there are, and which lattices.

    python experiments/mgo_cubes/run.py --data mgo_sped_crop_y62-104_x0-50_u16.h5

Writes result.json and a figure beside this script, within a minute on 2 cores.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jax4dstem import open_dataset, use_all_cores
from jax4dstem.domains import ClusterTable
from jax4dstem.pipeline import DOMAIN_STAGES, Results, analyze_in_memory, load_recipe
from jax4dstem.plots import draw_cepstrum, label_color, label_image

HERE = Path(__file__).parent
CALIBRATION = {"pixel_inv_angstrom": 0.03246, "scan_step_nm": 3.03}


def table(clusters: ClusterTable) -> list[dict]:
    """One row per cluster."""
    rows = []
    for n, cluster in enumerate(clusters.ids):
        lengths = np.linalg.norm(clusters.basis[n], axis=1)
        known = np.isfinite(lengths).all()
        rows.append(
            {
                "cluster": int(cluster),
                "positions": int(clusters.size[n]),
                "annular_dark_field": round(float(clusters.annular_dark_field[n])),
                "crystallinity": round(float(clusters.crystallinity[n]), 1),
                "state": str(clusters.state[n]),
                "lattice_angstrom": lengths.round(2).tolist() if known else None,
                "angle_degrees": round(angle(clusters.basis[n]), 1) if known else None,
                "relation": str(clusters.relation[n]),
            }
        )
    return rows


def angle(basis: np.ndarray) -> float:
    a, b = basis
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


def draw(found: Results, level: str) -> Figure:
    clusters = found.clusters.levels[level]
    ids = clusters.ids
    figure = Figure(figsize=(3 * (len(ids) + 2), 3.4), layout="constrained")
    axes = figure.subplots(1, len(ids) + 2)
    axes[0].imshow(found.images.annular_dark_field, cmap="gray")
    axes[0].set_title("annular dark field", fontsize=13)
    axes[1].imshow(label_image(found.domains.labels[level]))
    axes[1].set_title("clusters", fontsize=13)
    axes[1].plot([3, 3 + 50 / 3.03], [40, 40], color="white", lw=4)
    axes[1].text(3 + 25 / 3.03, 38, "50 nm", color="white", ha="center", fontsize=12)
    prepared = found.calibration.binned(found.features.bin)
    for n, cluster in enumerate(ids):
        draw_cepstrum(axes[n + 2], clusters.mean_cepstrum[n], (144, 144), prepared)
        axes[n + 2].set_title(f"cluster {cluster}", color=label_color(int(cluster)), fontsize=13)
    for one in axes:
        one.set_xticks([])
        one.set_yticks([])
    return figure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    use_all_cores()
    scan = open_dataset(data, **CALIBRATION)
    found = analyze_in_memory(scan, load_recipe(HERE / "recipe.toml"), DOMAIN_STAGES)
    level = list(found.domains.labels)[-1]
    rows = table(found.clusters.levels[level])
    print(json.dumps(rows, indent=1, ensure_ascii=False))
    (HERE / "result.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    FigureCanvasAgg(draw(found, level)).print_png(HERE / "result.png")


if __name__ == "__main__":
    main()
