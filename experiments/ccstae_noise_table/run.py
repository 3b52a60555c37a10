"""The noise table of the CC-ST-AE study: strain of a polycrystal under 0 to 70 % background, four ways.

    python experiments/ccstae_noise_table/run.py                     # 13 levels, resumable; about 15 minutes
    python experiments/ccstae_noise_table/run.py --published 0       # also the published model, at no background

Every finished level is a file in --out; a second run continues with the missing ones. Nothing but the counts and
the unstrained lattice, the reference, enters.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import least_squares

from jax4dstem import (
    Dataset,
    Mean,
    align_direct_beam,
    find_direct_beam,
    map_patterns,
    reduce_patterns,
    use_all_cores,
)
from jax4dstem.coordinates import deform, deformation, radius_from, strain_of
from jax4dstem.models import CycleConsistency, CycleConsistentSpec, affine_warp
from jax4dstem.simulate import polycrystal
from jax4dstem.strain import (
    COMPONENTS,
    BaseStrain,
    StrainReference,
    measure_strain,
    mix_bases,
    pool_strain,
    strain_by_bases,
)
from jax4dstem.train import ArrayFeed, Training, train

HERE = Path(__file__).parent
LEVELS = (0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.60, 0.70)
SHAPE = (200, 200)
RING = (8.0, 48.0)  # px after binning, the published model's mask
# The study's columns, in 1e-3: its own model and py4DSTEM as it ran it.
STUDY = {
    "CC-ST-AE": {
        "e_xx": (1.5, 1.5, 1.5, 1.6, 1.7, 1.6, 1.6, 1.8, 1.7, 1.8, 1.8, 2.1, 2.2),
        "e_yy": (1.8, 1.6, 1.6, 1.7, 1.7, 1.9, 1.7, 1.8, 1.8, 2.0, 1.9, 2.4, 2.6),
        "e_xy": (0.7, 1.2, 1.0, 0.9, 1.0, 1.1, 1.2, 1.1, 1.4, 1.2, 1.5, 1.6, 2.1),
    },
    "py4DSTEM": {
        "e_xx": (2.0, 2.3, 2.3, 2.3, 2.4, 2.5, 2.5, 2.6, 2.7, 2.8, 3.2, 3.9, 5.4),
        "e_yy": (2.0, 2.4, 2.4, 2.4, 2.5, 2.5, 2.6, 2.7, 2.7, 2.9, 3.2, 4.0, 5.5),
        "e_xy": (0.9, 1.2, 1.3, 1.3, 1.4, 1.4, 1.4, 1.5, 1.6, 1.7, 1.9, 2.5, 3.6),
    },
}


def errors(values: np.ndarray, truth) -> np.ndarray:
    """Estimate minus truth, rotation modulo 60 degrees."""
    gap = values - np.stack([getattr(truth, name) for name in COMPONENTS], axis=-1)
    gap[..., 3] -= np.pi / 3 * np.round(gap[..., 3] / (np.pi / 3))
    return gap


def locking(values: np.ndarray, truth, inside: np.ndarray) -> float:
    """Pixel locking in px: how far g1 is drawn towards whole pixels.

    Amplitude of the error of g1 at the frequency of the pixels; that of a disk found to whole pixels is 1/π = 0.32.
    """
    known = np.stack([getattr(truth, name) for name in COMPONENTS], axis=-1)[inside]
    found = known + errors(values, truth)[inside]
    place = jax.vmap(lambda s: deform(jnp.asarray(truth.vectors, float), deformation(*s))[0])
    true, gap = np.asarray(place(known)), np.asarray(place(found) - place(known))
    return float(np.abs(np.mean(gap * np.sin(2 * np.pi * true), axis=0)).max() * 2)


def summary(values: np.ndarray, truth, ok: np.ndarray) -> dict:
    gap = np.where(ok[..., None], errors(values, truth), np.nan)
    inside = truth.interior & ok
    known = np.stack([getattr(truth, name) for name in COMPONENTS], axis=-1)[inside]
    return {
        "whole_frame": np.nanmean(np.abs(gap), axis=(0, 1)),
        "interior": np.abs(gap[inside]).mean(axis=0),
        "bias": gap[inside].mean(axis=0),
        "slope": [np.polyfit(known[:, i], known[:, i] + gap[inside][:, i], 1)[0] for i in range(3)],
        "pixel_locking": locking(values, truth, inside),
        "rejected": 1 - ok.mean(),
    }


def beam_centers(dataset: Dataset, reach: float) -> tuple[np.ndarray, float]:
    """Center of the direct beam of every pattern, looked for within a reach, and its radius, px."""
    beam = find_direct_beam(reduce_patterns(Mean(), dataset))
    start = jnp.asarray(beam.center, float)
    return map_patterns(align_direct_beam, dataset, start, beam.radius, reach), beam.radius


def one_level(size: int, level: float, seed: int) -> dict:
    dataset, truth = polycrystal((size, size), SHAPE, background=level, seed=seed)
    begin = time.perf_counter()
    center, radius = beam_centers(dataset, 50.0)
    measured = measure_strain(
        dataset, center, radius, reference=StrainReference.vectors(*truth.vectors)
    )
    fitted = measured.strain
    found = strain_by_bases(fitted)
    mixing = mix_bases(dataset, measured, found)
    seconds = time.perf_counter() - begin
    pooled = pool_strain(fitted).strain
    ways = {"lattice": fitted, "bases": found.strain, "mixed": mixing.strain, "pooled": pooled}
    result = {name: summary(way.values, truth, way.ok) for name, way in ways.items()}
    gap = errors(mixing.strain.values, truth)
    std = np.stack([mixing.strain.std(name) for name in COMPONENTS], axis=-1)
    covered = np.abs(gap) < 1.96 * std
    result["mixed"]["coverage_95"] = covered[truth.interior].mean(axis=0)
    result["mixed"]["coverage_95_whole_frame"] = covered.mean(axis=(0, 1))
    shares = share_errors(mixing, truth)
    return plain(
        {
            **result,
            "share": shares,
            "lattices": len(found.table),
            "note": found.note,
            "seconds": seconds,
        }
    )


def share_errors(mixing: BaseStrain, truth) -> dict:
    """Fitted share of the largest grain against the true one, where there are two."""
    two = (mixing.second >= 0) & (truth.purity < 0.98)
    gap = (mixing.share - truth.purity)[two]
    return {
        "mean_absolute_error": np.abs(gap).mean(),
        "rms_over_std": np.sqrt(np.mean((gap / mixing.share_std[two]) ** 2)),
        "correlation": np.corrcoef(mixing.share[two], truth.purity[two])[0, 1],
    }


def published(size: int, level: float, seed: int, epochs: int, turned: bool) -> dict:
    """The published model from scratch: one base, ring mask, cycle loss both ways.

    With ``turned`` every pattern is first turned back by the rotation that the lattice search finds, in steps of 2
    degrees, so that only strain and what is left of the rotation are to be learned. The strain refers to the
    model's own base; the constant that relates it to the reference lattice is fitted to the truth, which favors it.
    """
    dataset, truth = polycrystal((size, size), SHAPE, background=level, seed=seed)
    center = np.asarray(truth.parameters.center).reshape(-1, 2).mean(axis=0)
    known = np.stack([getattr(truth, name) for name in COMPONENTS], axis=-1).reshape(-1, 4)
    start = np.zeros(len(known))
    if turned:
        found, disk = beam_centers(dataset, 50.0)
        fitted = measure_strain(
            dataset, found, disk, reference=StrainReference.vectors(*truth.vectors)
        ).strain
        step = np.radians(2)
        start = step * np.round(np.nan_to_num(fitted.theta).ravel() / step)
    back = start.reshape(size, size).astype(np.float32)
    patterns = np.asarray(
        map_patterns(binned, dataset, jnp.asarray(center, float), per_position=(back,))
    ).reshape(-1, SHAPE[0] // 2, SHAPE[1] // 2)
    middle = tuple((center / 2 - 0.25).tolist())
    radius = np.asarray(radius_from(jnp.array(middle), patterns.shape[1:]))
    ring = (radius > RING[0]) & (radius < RING[1])
    patterns = (np.where(ring, patterns, 0) / patterns[:, ring].std()).astype(np.float32)
    limits = (0.05, 0.05, 0.1 if turned else 3.15, 2.0)
    spec = CycleConsistentSpec(patterns.shape[1:], middle, limits=limits)
    begin = time.perf_counter()
    trained = train(
        spec,
        CycleConsistency(*RING),
        ArrayFeed(patterns),
        Training(epochs=epochs, batch_size=32, learning_rate=1e-3, seed=0),
        progress="published model",
    )
    seconds = time.perf_counter() - begin
    values = in_reference(trained.encode(patterns)[:, spec.n_bases :], start, known)
    flops = jax.jit(trained.model).lower(jnp.zeros(spec.shape)).compile().cost_analysis()["flops"]
    scan = (size, size)
    return plain(
        {
            **summary(values.reshape(*scan, 4), truth, np.ones(scan, bool)),
            "seconds": seconds,
            "epochs": epochs,
            "loss": {name: [v[0], v[-1]] for name, v in trained.history.items()},
            "flop_per_pattern": flops,
            "original_over_ours": 98.6e9 / flops,
        }
    )


def binned(pattern, angle, center):
    """Turned back by an angle, half the pixels along each axis, as a share of the dose."""
    zero = jnp.zeros(())
    pattern = affine_warp(pattern.astype(float), deformation(zero, zero, zero, -angle), center)
    height, width = pattern.shape
    small = pattern.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3))
    return small / jnp.maximum(small.sum(), 1.0)


def in_reference(affine: np.ndarray, start: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Strain relative to the reference: R(start) F(affine) B with the base's own lattice B fitted to the truth."""
    zero = jnp.zeros(())
    turn = jax.vmap(lambda a: deformation(zero, zero, zero, a))(jnp.asarray(start, float))
    own = turn @ jax.vmap(lambda a: deformation(a[0], a[1], a[2], a[3]))(jnp.asarray(affine))

    @jax.jit
    def values(base):
        return jnp.stack(jax.vmap(strain_of)(own @ base.reshape(2, 2)), axis=-1)

    def misfit(base):
        gap = np.asarray(values(jnp.asarray(base, float)), np.float64) - known
        gap[:, 3] -= np.pi / 3 * np.round(gap[:, 3] / (np.pi / 3))
        return np.clip(gap, -0.1, 0.1).ravel()

    starts = [
        np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]).ravel()
        for a in np.radians(np.arange(0, 60, 5))
    ]
    best = min((least_squares(misfit, s, diff_step=1e-3) for s in starts), key=lambda fit: fit.cost)
    return np.asarray(values(jnp.asarray(best.x, float)), np.float64)


def plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return [plain(item) for item in value]
    return [float(f"{v:.4g}") for v in np.ravel(value)] if np.ndim(value) else float(f"{value:.6g}")


def draw(levels: dict[str, dict], path: Path) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    x = [100 * float(level) for level in levels]
    for ax, component in zip(axes, ("e_xx", "e_yy", "e_xy"), strict=True):
        i = COMPONENTS.index(component)
        for name, style in (("lattice", "o-"), ("pooled", "s-"), ("bases", "^-"), ("mixed", "v-")):
            rows = [1e3 * result[name]["whole_frame"][i] for result in levels.values()]
            ax.semilogy(x, rows, style, ms=4, label=f"{name}, here")
        for name, columns in STUDY.items():
            ax.semilogy([100 * w for w in LEVELS], columns[component], "--", label=f"{name}, study")
        ax.set(title=f"{component}, whole frame", xlabel="background / %")
    axes[0].set_ylabel("mean absolute error / 1e-3")
    axes[0].legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(path)


def table(levels: dict[str, dict]) -> str:
    """Markdown: errors in 1e-3 over the whole frame, those of the study beside them."""
    lines = [
        "| background | e_xx: lattice | pooled | bases | **mixed** | CC-ST-AE (study) | e_yy: mixed | study | e_xy: mixed | study | rotation: mixed | e_xx interior: mixed |",
        "| --- " * 12 + "|",
    ]
    for level, r in levels.items():
        column = LEVELS.index(float(level)) if float(level) in LEVELS else None
        study = {
            name: "" if column is None else f"{STUDY['CC-ST-AE'][name][column]:.1f}"
            for name in ("e_xx", "e_yy", "e_xy")
        }
        whole = {
            way: 1e3 * np.array(r[way]["whole_frame"])
            for way in ("lattice", "pooled", "bases", "mixed")
        }
        mixed = whole["mixed"]
        lines.append(
            f"| {100 * float(level):.0f} % | {whole['lattice'][0]:.2f} | {whole['pooled'][0]:.2f} | {whole['bases'][0]:.2f} "
            f"| **{mixed[0]:.2f}** | {study['e_xx']} | {mixed[1]:.2f} | {study['e_yy']} | {mixed[2]:.2f} | {study['e_xy']} "
            f"| {np.degrees(mixed[3] / 1e3):.3f}° | {1e3 * r['mixed']['interior'][0]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--levels", type=float, nargs="*", default=LEVELS)
    parser.add_argument(
        "--published", type=float, nargs="*", default=(), help="levels of that model"
    )
    parser.add_argument("--epochs", type=int, default=15, help="of the published model")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--out", type=Path, default=HERE / "levels")
    options = parser.parse_args()
    if not options.published:  # which trains best on one device with all cores
        use_all_cores()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [
        ("level", level, lambda w: one_level(options.size, w, options.seed))
        for level in options.levels
    ]
    for kind, turned in (("published", False), ("published_turned", True)):
        jobs += [
            (
                kind,
                level,
                lambda w, turned=turned: published(
                    options.size, w, options.seed, options.epochs, turned
                ),
            )
            for level in options.published
        ]
    for kind, level, run in jobs:
        path = options.out / f"{kind}_{level:g}.json"
        if not path.exists():
            path.write_text(
                json.dumps({"size": options.size, "seed": options.seed, **run(level)}, indent=1)
                + "\n"
            )
        print(path.name, path.read_text()[:400].replace("\n", ""), flush=True)
    levels = {
        f"{level:g}": json.loads((options.out / f"level_{level:g}.json").read_text())
        for level in LEVELS
        if (options.out / f"level_{level:g}.json").exists()
    }
    draw(levels, options.out.parent / "ccstae_noise_table.png")
    print(table(levels))


if __name__ == "__main__":
    main()
