"""Core-shell particles: six kinds of region of an oxidized nanoparticle, and the strain from core to shell of a cube.

    python experiments/core_shell/run.py

Writes result.json and a figure beside this script. About 5 minutes on 2 cores.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import adjusted_rand_score
from specimen import CLASSES, STEP_NM, cube, particle

from jax4dstem import use_all_cores
from jax4dstem.domains import agreement
from jax4dstem.pipeline import (
    DOMAIN_STAGES,
    STRAIN_STAGES,
    Results,
    analyze_in_memory,
    load_recipe,
)
from jax4dstem.plots import label_image

HERE = Path(__file__).parent
SEEDS = (1, 2, 3)  # the recipe was made on seed 0
CRYSTALS = range(
    4
)  # classes by crystallinity: four crystals, then the polycrystal, then the amorphous oxide


def judge(found: Results, truth) -> dict:
    """The clusters against the six classes, what each is called, and the order of crystallinity."""
    labels = found.domains.levels[0]
    clusters = found.clusters.levels["level_1"]
    inside = truth.interior
    majority = {
        int(i): int(np.bincount(truth.label[labels == i], minlength=6).argmax())
        for i in clusters.ids
    }
    rank = {
        majority[int(i)]: float(c)
        for i, c in zip(clusters.ids, clusters.crystallinity, strict=True)
    }
    ordered = len(rank) == 6 and min(rank[i] for i in CRYSTALS) > rank[4] > rank[5]
    return {
        "ari_interior": float(adjusted_rand_score(truth.label[inside], labels[inside])),
        "ari_all": float(adjusted_rand_score(truth.label.ravel(), labels.ravel())),
        "accuracy_interior": agreement(truth.label[inside], labels[inside]).share,
        "crystallinity_order_right": bool(ordered),
        "clusters": {
            CLASSES[majority[int(i)]]: f"{state}: {name}; crystallinity {c:.1f}"
            for i, state, name, c in zip(
                clusters.ids, clusters.state, clusters.relation, clusters.crystallinity, strict=True
            )
        },
    }


def strain_profile(seed: int) -> dict:
    """Strain of the cube by the cepstrum along its middle rows, relative to its core."""
    scan, truth = cube(seed=seed)
    height, width = scan.scan_shape
    core = [height // 2 - 5, height // 2 + 5, width // 2 - 5, width // 2 + 5]
    recipe = load_recipe(None, {"strain.region": core, "strain.bases": 0})
    strain = analyze_in_memory(scan, recipe, STRAIN_STAGES).strain
    found = {"cepstrum": strain.cepstrum.e_xx, "lattice": strain.lattice.strain.e_xx}
    rows = slice(height // 2 - 4, height // 2 + 4)
    reference = truth.strain[core[0] : core[1], core[2] : core[3]].mean()
    true = np.where(truth.inside, (1 + truth.strain) / (1 + reference) - 1, np.nan)
    profile = {"position_nm": (np.arange(width) * STEP_NM).tolist()}
    for name, values in {"true": true, **found}.items():
        profile[name] = np.nanmean(np.where(truth.inside, values, np.nan)[rows], axis=0).tolist()
    error = {name: float(np.nanstd((e_xx - true)[truth.inside])) for name, e_xx in found.items()}
    return {"profile": profile, "rms_error_e_xx": error}


def draw(truth, found: Results, profile) -> Figure:
    figure = Figure(figsize=(16, 4.6), layout="constrained")
    axes = figure.subplots(1, 4)
    shown = [
        (label_image(truth.label), "true classes", None),
        (found.images.annular_dark_field, "annular dark field", "gray"),
        (label_image(found.domains.levels[0]), "clusters of the cepstra", None),
    ]
    for one, (image, title, colors) in zip(axes, shown, strict=False):
        one.imshow(image, cmap=colors)
        one.set_title(title, fontsize=15)
        one.set_xticks([])
        one.set_yticks([])
    axes[0].plot([4, 24], [68, 68], color="white", lw=4)
    axes[0].text(14, 66, f"{20 * STEP_NM:.0f} nm", color="white", ha="center", fontsize=13)
    for name, style in (("true", "k-"), ("cepstrum", "o"), ("lattice", "s")):
        values = 100 * np.array(profile["profile"][name])
        axes[3].plot(profile["profile"]["position_nm"], values, style, ms=4, label=name)
    axes[3].set_title("Au-Pd cube: strain across", fontsize=15)
    axes[3].set_xlabel("position / nm", fontsize=13)
    axes[3].set_ylabel("e_xx / %", fontsize=13)
    axes[3].legend(fontsize=12)
    return figure


def main() -> None:
    use_all_cores()
    recipe = load_recipe(HERE / "recipe.toml")
    result: dict = {}
    for seed in SEEDS:
        scan, truth = particle(seed=seed)
        found = analyze_in_memory(scan, recipe, DOMAIN_STAGES)
        result[f"particle, seed {seed}"] = judge(found, truth)
        print(json.dumps(result[f"particle, seed {seed}"], indent=1), flush=True)
        if seed == SEEDS[0]:
            first = (truth, found)
    result["cube, seed 1"] = strain_profile(1)
    print(result["cube, seed 1"]["rms_error_e_xx"], flush=True)
    FigureCanvasAgg(draw(*first, result["cube, seed 1"])).print_png(HERE / "result.png")
    (HERE / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
