"""Strain of a simulated polycrystal under 0 to 70 % background, against truth and Cramér-Rao bound.

    python experiments/strain_benchmark/run.py                      # 64 x 64, all levels, about 8 minutes
    python experiments/strain_benchmark/run.py --size 256 --levels 0 0.25 0.6
    python experiments/strain_benchmark/run.py --write scans/       # also saves the scans for other programs

Writes result.json and strain_benchmark.png beside this script. Nothing but the counts and the unstrained
lattice (which gives no rotation away) enters the measurement.
"""

import argparse
import json
import os
import time
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jax4dstem import (
    Dataset,
    Mean,
    align_direct_beam,
    find_direct_beam,
    map_patterns,
    reduce_patterns,
    use_all_cores,
)
from jax4dstem.coordinates import deform, deformation
from jax4dstem.simulate import PolycrystalTruth, patch_side, polycrystal, simulate_pattern
from jax4dstem.strain import StrainMap, StrainReference, measure_strain, pool_strain

HERE = Path(__file__).parent
LEVELS = (0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.60, 0.70)
COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
TARGETS = {0: 1.05, 0.25: 1.10, 0.5: 1.15, 0.6: 1.15, 0.7: 1.20}
WRONG = np.radians(2)


def bounds(truth: PolycrystalTruth, shape: tuple[int, int]) -> np.ndarray:
    """Cramér-Rao bound (standard deviations of the four components) of every position's largest grain.

    The Fisher information is J^T diag(1/λ) J with the Jacobian J of the simulator by automatic
    differentiation; center, all intensities, background and dose are unknown too.
    """
    result = np.full((*truth.grain.shape, 4), np.nan)
    window = patch_side(float(truth.optics.radius), float(truth.optics.edge_width))

    def pattern(parameters: jax.Array, position: object) -> jax.Array:
        strain, center, fraction, dose = (
            parameters[:4],
            parameters[4:6],
            parameters[6],
            parameters[7],
        )
        vectors = deform(jnp.asarray(truth.vectors, float), deformation(*strain))
        relative = jnp.concatenate([jnp.ones(1), jnp.exp(parameters[8:])])
        given = position._replace(
            center=position.center + center,
            vectors=vectors[None],
            intensities=position.intensities[:1] * relative,
            background_fraction=position.background_fraction + fraction,
            dose=position.dose * jnp.exp(dose),
        )
        return simulate_pattern(given, truth.optics, shape, window)

    jacobian = jax.jit(jax.jacfwd(pattern))
    for grain in np.unique(truth.grain):
        inside = (truth.grain == grain) & truth.interior
        if not inside.any():
            continue
        y, x = np.argwhere(inside)[0]
        position = jax.tree.map(
            lambda leaf, y=y, x=x: jnp.asarray(leaf[y, x], float), truth.parameters
        )
        there = np.asarray(position.intensities[0]) > 0
        strain = [getattr(truth, name)[y, x] for name in COMPONENTS]
        start = jnp.concatenate([jnp.asarray(strain, float), jnp.zeros(3 + len(there))])
        expected = np.asarray(pattern(start, position), np.float64).ravel()
        matrix = np.asarray(jacobian(start, position), np.float64).reshape(expected.size, -1)
        used = np.concatenate([np.ones(8, bool), there[1:]])
        seen = expected > 1e-10
        matrix = matrix[seen][:, used]
        information = matrix.T @ (matrix / expected[seen, None])
        scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
        covariance = np.linalg.pinv(information / scale[:, None] / scale, 1e-10, hermitian=True)
        result[truth.grain == grain] = (np.sqrt(np.diag(covariance)) / scale)[:4]
    return result


def errors(strain: StrainMap, truth: PolycrystalTruth) -> np.ndarray:
    """Estimate minus truth, rotation modulo 60 degrees."""
    gap = strain.values - np.stack([getattr(truth, name) for name in COMPONENTS], axis=-1)
    period = np.pi / 3
    gap[..., 3] -= period * np.round(gap[..., 3] / period)
    return gap


def beam_centers(dataset: Dataset) -> tuple[np.ndarray, float]:
    """Center of the direct beam of every pattern, and its radius, px."""
    beam = find_direct_beam(reduce_patterns(Mean(), dataset))
    start = jnp.asarray(beam.center, float)
    return map_patterns(align_direct_beam, dataset, start, beam.radius, 50.0), beam.radius


def measure(dataset: Dataset, truth: PolycrystalTruth) -> tuple[StrainMap, StrainMap, float]:
    """Per-pattern and pooled strain, and seconds from counts to the per-pattern map, compilation included."""
    begin = time.perf_counter()
    center, radius = beam_centers(dataset)
    found = measure_strain(
        dataset, center, radius, reference=StrainReference.vectors(*truth.vectors)
    )
    seconds = time.perf_counter() - begin
    return found.strain, pool_strain(found.strain).strain, seconds


def summary(
    strain: StrainMap, pooled: StrainMap, truth: PolycrystalTruth, bound: np.ndarray
) -> dict:
    interior = truth.interior & strain.ok
    error, far = errors(strain, truth), errors(pooled, truth)
    std = np.stack([strain.std(name) for name in COMPONENTS], axis=-1)
    inner = error[interior]
    wrong = (np.abs(error[..., 3]) > WRONG)[interior].mean()
    known = np.stack([getattr(truth, name) for name in COMPONENTS], axis=-1)[interior]
    return {
        "mae_interior": np.abs(inner).mean(axis=0),
        "bound_mae": 0.798 * bound[interior].mean(axis=0),
        "rms_over_bound": np.sqrt(np.mean((inner / bound[interior]) ** 2, axis=0)),
        "bias": inner.mean(axis=0),
        "standard_error": inner.std(axis=0) / np.sqrt(len(inner)),
        "slope": [np.polyfit(known[:, i], known[:, i] + inner[:, i], 1)[0] for i in range(3)],
        "coverage_95": np.mean(np.abs(inner) < 1.96 * std[interior], axis=0),
        "wrong_lattice": wrong,
        "rejected_interior": 1 - strain.ok[truth.interior].mean(),
        "mae_all": np.nanmean(np.abs(error), axis=(0, 1)),
        "pooled_mae_all": np.nanmean(np.abs(far), axis=(0, 1)),
        "pooled_mae_interior": np.abs(far[interior]).mean(axis=0),
    }


def plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return np.asarray(value).round(7).tolist()


def as_detectors_write(dataset: Dataset) -> np.ndarray:
    """All counts, in the smallest integers that hold them."""
    rows, cols = dataset.scan_shape
    counts = dataset.source.read(slice(0, rows), slice(0, cols))
    return counts.astype(np.min_scalar_type(counts.max()))


def save(path: Path, dataset: Dataset, truth: PolycrystalTruth, level: float) -> None:
    with h5py.File(path, "w") as file:
        file["patterns"] = as_detectors_write(dataset)
        for name, ours in (("exx", "e_xx"), ("eyy", "e_yy"), ("exy", "e_xy")):
            file[name] = getattr(truth, ours)
        file["theta_deg"] = -np.degrees(
            truth.theta
        )  # clockwise on the screen, as the peers' scripts
        file["grain"], file["purity"] = truth.grain, truth.purity
        file.attrs["weight"], file.attrs["counts"] = level, 1e5


def draw(results: dict[str, dict], path: Path) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    levels = [100 * float(level) for level in results]

    def column(name: str, component: int = 0) -> list[float]:
        return [result[name][component] for result in results.values()]

    axes[0].semilogy(levels, column("mae_interior"), "o-", label="one pattern, interior")
    axes[0].semilogy(levels, column("bound_mae"), "k--", label="Cramér-Rao bound")
    axes[0].semilogy(levels, column("pooled_mae_all"), "s-", label="pooled, all positions")
    axes[0].semilogy(levels, column("pooled_mae_interior"), "^-", label="pooled, interior")
    axes[0].set_ylabel("mean absolute error of e_xx")
    axes[0].legend(fontsize=8)
    for i, name in enumerate(COMPONENTS):
        axes[1].plot(levels, column("rms_over_bound", i), "o-", label=name)
        axes[2].plot(levels, [100 * c for c in column("coverage_95", i)], "o-", label=name)
    axes[1].axhline(1, color="k", ls="--")
    axes[1].set_ylabel("rms error / bound")
    axes[2].axhspan(93, 97, color="0.9")
    axes[2].set_ylabel("coverage of the 95 % error bars / %")
    axes[2].legend(fontsize=8)
    for ax in axes:
        ax.set_xlabel("background / %")
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--levels", type=float, nargs="+", default=LEVELS)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--write", type=Path, help="directory for the simulated scans (HDF5)")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    use_all_cores()
    results, shape = {}, (200, 200)
    for level in options.levels:
        dataset, truth = polycrystal(
            (options.size, options.size), shape, background=level, seed=options.seed
        )
        if options.write:
            options.write.mkdir(parents=True, exist_ok=True)
            save(options.write / f"grains_{level:g}.h5", dataset, truth, level)
        strain, pooled, seconds = measure(dataset, truth)
        result = summary(strain, pooled, truth, bounds(truth, shape))
        result["patterns_per_s"] = dataset.n_patterns / seconds
        results[f"{level:g}"] = plain(result)
        print(
            f"w = {level:4.2f}  MAE e_xx {result['mae_interior'][0]:.2e}  rms/bound "
            f"{result['rms_over_bound'].round(3)}  bias {result['bias'][:2].round(6)}  coverage "
            f"{result['coverage_95'].round(3)}  wrong {result['wrong_lattice']:.4f}  pooled all "
            f"{result['pooled_mae_all'][0]:.2e} interior {result['pooled_mae_interior'][0]:.2e}  "
            f"{result['patterns_per_s']:.0f}/s",
            flush=True,
        )
    about = {"size": options.size, "seed": options.seed, "cores": os.cpu_count()}
    text = json.dumps({"about": about, "levels": results}, indent=1)
    (options.out / "result.json").write_text(text + "\n")
    draw(results, options.out / "strain_benchmark.png")


if __name__ == "__main__":
    main()
