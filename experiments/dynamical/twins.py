"""Twins, and a domain that is strained and turned a little, of a gold foil that is bent and a wedge: intensities by Bloch waves (abTEM).

    python experiments/dynamical/twins.py OUT       # needs abtem; a few minutes on one core

Writes OUT/twins.npz: expected share of the electrons in every pixel, and the truth.
"""

import sys
from pathlib import Path

import abtem
import numpy as np
from abtem.bloch import BlochWaves, StructureFactor
from ase import Atoms
from gold import BASIS, CELL, ENERGY_KV, crystal_axes, turning
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

SCAN, STEP, PROBE = (
    48,
    2.0,
    0.8,
)  # positions along each side; nm; standard deviation of the probe, positions
DETECTOR, PIXEL, SEMIANGLE = 112, 0.0165, 2.0  # px; 1/Å; mrad
TURN = np.radians(17.0)
THICK = np.arange(40.0, 221.0, 10.0)  # Å
TILTS = np.arange(-10.0, 11.0)  # mrad, both ways: the foil bends by 7, the probe has 2
BEND, DIFFUSE = 7.0, 0.08  # mrad; share of the electrons that lost their direction
THERMAL, BEAMS, MISS = 0.085, 2.0, 0.06  # Å; 1/Å; 1/Å: vibration, and which beams are followed
MRAD_OF_PIXEL = 1e3 * PIXEL * abtem.core.energy.energy2wavelength(1e3 * ENERGY_KV)
FINER, MARGIN = (
    5,
    16,
)  # points along a pixel's side where the rim of a disk is; px around the detector
DISTORTION = {  # of the lattice in scan axes (x right, y down): I + this
    "matrix": np.zeros((2, 2)),
    "twin": np.zeros((2, 2)),
    "strained": np.diag([1.010, 0.996]) @ turning(np.radians(-1.0)) - np.eye(2),
}


def distortion_field(y, x):
    """What every domain is strained besides, smoothly: ``(..., 2, 2)`` on (x, y)."""
    field = np.zeros((*y.shape, 2, 2))
    field[..., 0, 0] = 2e-3 * np.sin(2 * np.pi * y / SCAN)
    field[..., 1, 1] = -1e-3 * np.sin(2 * np.pi * x / SCAN)
    field[..., 0, 1] = field[..., 1, 0] = 1e-3 * np.cos(2 * np.pi * (x + y) / SCAN)
    return field


def domain_map():
    """0 matrix, 1 twin: two lamellae along the {111} plane; 2 strained: what is right of a wavy wall."""
    y, x = np.indices((SCAN, SCAN)).astype(float)
    across = (x - 14) * np.cos(TURN) + (y - 24) * np.sin(TURN)
    label = np.where((np.abs(across) < 5) | (np.abs(across - 14) < 2), 1, 0)
    label[x > 37 + 3 * np.sin(y / 6)] = 2
    return label


def rocking(axes):
    """Shares of all reflections of a crystal whose cell `axes` (2 x 2) takes to the scan's axes: indices, and ``(reflections, thicknesses, tilts_y, tilts_x)``."""
    cell = np.diag(CELL)
    cell[:2, :2] = cell[:2, :2] @ axes.T
    atoms = Atoms("Au2", scaled_positions=BASIS, cell=cell, pbc=True)
    factors = StructureFactor(atoms, g_max=2 * BEAMS, thermal_sigma=THERMAL).build(lazy=False)
    reach = PIXEL * DETECTOR / 2 * np.sqrt(2) + 0.1
    known, shares = {}, np.zeros((200, len(THICK), len(TILTS), len(TILTS)), np.float32)
    for i, j in np.ndindex(len(TILTS), len(TILTS)):
        # Electrons that come tilted see a crystal that is turned the other way.
        towards = np.array([TILTS[j], TILTS[i], 0]) * 1e-3
        turned = np.eye(3) + np.outer([0, 0, 1], towards) - np.outer(towards, [0, 0, 1])
        turned = np.linalg.qr(turned)[0]
        turned *= np.sign(np.diag(turned))
        waves = BlochWaves(factors, 1e3 * ENERGY_KV, MISS, BEAMS, orientation_matrix=turned)
        found = waves.calculate_diffraction_patterns(THICK, lazy=False)
        for hkl, share in zip(waves.hkl, np.asarray(found.array).T, strict=True):
            if np.linalg.norm((hkl @ np.linalg.inv(cell).T)[:2]) < reach:
                shares[known.setdefault(tuple(hkl), len(known)), :, i, j] = share
    seen = shares[: len(known)].max(axis=(1, 2, 3)) > 1e-5
    return np.array(list(known))[seen], shares[: len(known)][seen]


def disk(shares, reflection, middle, thickness, bend):
    """One disk on the pixels around it: where they begin (y, x), and their shares; each pixel is one incoming direction."""
    radius = SEMIANGLE / MRAD_OF_PIXEL
    begin = np.floor(middle - radius).astype(int)
    size = int(np.ceil(2 * radius)) + 2
    fine = (np.arange(size * FINER) + 0.5) / FINER - 0.5
    away = np.hypot(
        *np.meshgrid(*(fine + b - m for b, m in zip(begin, middle, strict=True)), indexing="ij")
    )
    cover = (away < radius).reshape(size, FINER, size, FINER).mean(axis=(1, 3))
    y, x = np.meshgrid(
        *(np.arange(size) + b - m for b, m in zip(begin, middle, strict=True)), indexing="ij"
    )
    place = [np.full(x.shape, (thickness - THICK[0]) / (THICK[1] - THICK[0]))]
    for away, slope in ((y, bend[0]), (x, bend[1])):
        place.append(
            (np.clip(away * MRAD_OF_PIXEL, -SEMIANGLE, SEMIANGLE) + slope - TILTS[0])
            / (TILTS[1] - TILTS[0])
        )
    seen = map_coordinates(shares[reflection], place, order=3, prefilter=False)
    return begin, cover * np.maximum(seen, 0) / (np.pi * radius**2)


def pattern(parts, thickness, bend, center):
    """Expected shares in all pixels; `parts` are (weight, indices, spline of their shares, axes of the lattice)."""
    whole = np.zeros((DETECTOR + 2 * MARGIN,) * 2)
    for weight, indices, shares, axes in parts:
        vectors = (indices[:, :2] / CELL[:2]) @ np.linalg.inv(axes) / PIXEL  # rows of (x, y)
        for n, (x, y) in enumerate(vectors):
            begin, seen = disk(shares, n, center + np.array([y, x]), thickness, bend)
            begin += MARGIN
            end = begin + len(seen)
            if begin.min() >= 0 and end.max() <= len(whole):
                whole[begin[0] : end[0], begin[1] : end[1]] += weight * seen
    return whole[MARGIN:-MARGIN, MARGIN:-MARGIN]


def smooth(rng, width):
    """Between -1 and 1."""
    field = gaussian_filter(rng.normal(size=(SCAN, SCAN)), width)
    return field / np.abs(field).max()


def foil():
    """Expected shares ``(scan_y, scan_x, det_y, det_x)`` and the truth."""
    rng, label = np.random.default_rng(0), domain_map()
    y, x = np.indices((SCAN, SCAN)).astype(float)
    thickness = 50 + 150 * x / (SCAN - 1) + 8 * smooth(rng, 6)
    bend = np.stack([smooth(rng, 10), smooth(rng, 10)], axis=-1) * BEND
    center = DETECTOR / 2 + np.stack([smooth(rng, 12), smooth(rng, 12)], axis=-1)
    shares = np.stack(
        [gaussian_filter((label == n).astype(float), PROBE, mode="nearest") for n in range(3)], -1
    )
    domains, field = [], distortion_field(y, x)
    for name, own in DISTORTION.items():
        axes = crystal_axes(TURN, name == "twin")
        indices, rocked = rocking((np.eye(2) + own) @ axes)
        print(name, len(indices), "reflections", flush=True)
        domains.append((own, axes, indices, [spline_filter(one, order=3) for one in rocked]))
    expected = np.empty((SCAN, SCAN, DETECTOR, DETECTOR), np.float32)
    away = np.hypot(*(np.indices((DETECTOR, DETECTOR)) - DETECTOR / 2)) * PIXEL
    diffuse = (1 + (away / 0.25) ** 2) ** -1.5
    diffuse *= DIFFUSE / diffuse.sum()
    for at in np.ndindex(SCAN, SCAN):
        parts = [
            (weight, indices, splines, (np.eye(2) + own + field[at]) @ axes)
            for weight, (own, axes, indices, splines) in zip(shares[at], domains, strict=True)
            if weight > 1e-3
        ]
        expected[at] = (1 - DIFFUSE) * pattern(parts, thickness[at], bend[at], center[at]) + diffuse
    distortion = np.array([own for own, *_ in domains])[label] + field
    return expected, label, shares, strain_of(np.eye(2) + distortion)


def strain_of(distortion):
    """e_xx, e_yy, e_xy and rotation (counter-clockwise on the screen) of F = (I + E) R on (x, y), y down."""
    left, stretch, right = np.linalg.svd(distortion)
    e = left * stretch[..., None, :] @ np.swapaxes(left, -1, -2) - np.eye(2)
    turn = left @ right
    return {
        "e_xx": e[..., 0, 0],
        "e_yy": e[..., 1, 1],
        "e_xy": e[..., 0, 1],
        "theta": -np.arctan2(turn[..., 1, 0], turn[..., 0, 0]),
    }


def main():
    expected, label, shares, strain = foil()
    np.savez(
        Path(sys.argv[1]) / "twins.npz",
        expected=expected,
        label=label,
        shares=shares,
        interior=shares.max(axis=-1) > 0.95,
        axes=crystal_axes(TURN, False),
        pixel=PIXEL,
        step=STEP,
        **strain,
    )


if __name__ == "__main__":
    main()
