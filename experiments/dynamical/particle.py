"""A twinned gold particle on a carbon film, every pattern by multislice (abTEM's PRISM): no mixture, strain or shape factor is ours.

    python experiments/dynamical/particle.py OUT       # needs abtem; some minutes on one core

Writes OUT/particle.npz: expected share of the electrons in every pixel, and the truth.
"""

import sys
from pathlib import Path

import abtem
import numpy as np
from ase import Atoms
from gold import BASIS, CELL, ENERGY_KV, crystal_axes
from scipy.spatial import cKDTree

BOX, SAMPLING, SLICE = 96.0, 0.24, 2.0  # Å
SEMIANGLE, BIN, DETECTOR = 2.27, 2, 96  # mrad; points of 1 / BOX in a pixel; pixels
SCAN, STEP = 40, 2.2  # positions along each side; Å
RADIUS, HEIGHT, FILM = 30.0, 50.0, 20.0  # Å: of the particle, cut off by the film
GRADIENT = 0.008  # dilatation along x and rotation along y, at the radius
TURN, TILT = np.radians(17.0), (0.006, -0.004)  # in the plane; out of it, radians
POINT = 1e3 * abtem.core.energy.energy2wavelength(1e3 * ENERGY_KV) / BOX  # mrad
CARBON, NEAREST = 0.0903, 1.2  # atoms per Å³ (1.8 g/cm³); Å


def bent(places):
    """A conformal map, w = z + GRADIENT z² / 2 RADIUS: its strain is a dilatation, linear in the position."""
    z = places[:, 0] + 1j * places[:, 1]
    w = z + GRADIENT * z**2 / (2 * RADIUS)
    return np.column_stack([w.real, w.imag, places[:, 2]])


def truth():
    """Dilatation, rotation (counter-clockwise on the screen) and distance to the middle of every position, ``(scan_y, scan_x)``."""
    y, x = (np.indices((SCAN, SCAN)) - (SCAN - 1) / 2) * STEP
    slope = 1 + GRADIENT * (x + 1j * y) / RADIUS
    return np.abs(slope) - 1, -np.angle(slope), x, y


def particle():
    """Gold atoms about the particle's middle: left of the {111} plane through it one crystal, right of it the twin."""
    reach = np.ceil(1.5 * RADIUS / CELL).astype(int)
    n = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1)
    places = ((n.reshape(-1, 1, 3) + BASIS) * CELL).reshape(-1, 3)
    halves = []
    for twin in (False, True):
        half = places.copy()
        half[:, :2] = half[:, :2] @ crystal_axes(0.0, twin).T
        halves.append(half[half[:, 0] > 0.1 if twin else half[:, 0] < 0.1])
    both = np.concatenate(halves)
    kept = (np.linalg.norm(both, axis=1) < RADIUS) & (both[:, 2] < HEIGHT - RADIUS)
    both = both[kept]
    both[:, :2] = both[:, :2] @ crystal_axes(TURN, False).T @ crystal_axes(0.0, False)
    both = bent(both)
    both[:, 2] += both[:, :2] @ TILT
    return both


def film(rng):
    """Carbon at random places, none too near to another."""
    number = int(CARBON * BOX**2 * FILM)
    places = rng.uniform(0, (BOX, BOX, FILM), (2 * number, 3))
    free = np.ones(len(places), bool)
    for first, second in sorted(cKDTree(places).query_pairs(NEAREST)):
        free[second] &= ~free[first]
    return places[free][:number]


def specimen():
    gold, carbon = particle(), film(np.random.default_rng(0))
    gold += [BOX / 2, BOX / 2, RADIUS + 1]
    carbon[:, 2] += gold[:, 2].max() + 2
    return Atoms(
        "Au" * len(gold) + "C" * len(carbon),
        positions=np.concatenate([gold, carbon]),
        cell=[BOX, BOX, carbon[:, 2].max() + 1],
        pbc=True,
    )


def plane_waves():
    """What leaves the specimen of every plane wave in the probe: wave vectors (x, y), and amplitudes in the detector's points."""
    potential = abtem.Potential(
        specimen(), sampling=SAMPLING, slice_thickness=SLICE, projection="infinite"
    )
    matrix = abtem.SMatrix(
        semiangle_cutoff=SEMIANGLE + POINT / 2,
        energy=1e3 * ENERGY_KV,
        potential=potential,
        downsample=False,
    ).build()
    leaving = matrix.array.compute()
    points = (np.arange(DETECTOR * BIN) - DETECTOR * BIN // 2) % leaving.shape[-1]
    amplitudes = [np.fft.fft2(wave)[np.ix_(points, points)] for wave in leaving]
    return np.asarray(matrix.wave_vectors), np.array(amplitudes, np.complex64)


def patterns():
    """Expected shares, ``(scan_y, scan_x, det_y, det_x)``: a probe is the plane waves in phase at its place (Ophus, Adv. Struct. Chem. Imaging 3, 13, 2017)."""
    vectors, amplitudes = plane_waves()
    angles = np.linalg.norm(vectors, axis=1) * BOX * POINT
    inside = np.clip(
        (SEMIANGLE - angles) / POINT + 0.5, 0, 1
    )  # of the aperture, as points at its rim are cut
    amplitudes *= np.sqrt(inside / inside.sum())[:, None, None]
    places = BOX / 2 + (np.arange(SCAN) - (SCAN - 1) / 2) * STEP
    shares = np.empty((SCAN, SCAN, DETECTOR, DETECTOR), np.float32)
    for row, y in enumerate(places):
        at = np.column_stack([places, np.full(SCAN, y)])
        phases = np.exp(-2j * np.pi * at @ vectors.T).astype(np.complex64)
        seen = np.abs(phases @ amplitudes.reshape(len(vectors), -1)) ** 2
        shares[row] = (
            seen.reshape(SCAN, DETECTOR, BIN, DETECTOR, BIN).sum(axis=(2, 4)).transpose(0, 2, 1)
        )
    return shares


def main():
    out = Path(sys.argv[1])
    e, theta, x, y = truth()
    across = x * np.cos(TURN) + y * np.sin(TURN)
    distance = np.hypot(x, y)
    label = np.where(distance > RADIUS, 0, np.where(across < 0, 1, 2))
    # 3.5 Å: where nine tenths of a probe are.
    pure = (np.abs(distance - RADIUS) > 3.5) & ((distance > RADIUS) | (np.abs(across) > 3.5))
    np.savez(
        out / "particle.npz",
        expected=patterns().astype(np.float32),
        label=label,
        interior=pure,
        e_xx=e,
        e_yy=e,
        e_xy=np.zeros_like(e),
        theta=theta,
        axes=crystal_axes(TURN, False),
        pixel=BIN / BOX,
        step=STEP / 10,
    )


if __name__ == "__main__":
    main()
