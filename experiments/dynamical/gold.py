"""What both specimens share: gold along [110], its twin, and truths in the conventions of the library."""

import numpy as np

ENERGY_KV = 200.0
A = 4.078  # Å
CELL = np.array([A / np.sqrt(2), A, A / np.sqrt(2)])  # along [1-10], [001], and [110], the beam
BASIS = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
TO_PLANE = -np.arctan2(CELL[0], CELL[1])  # turns the normal of a {111} plane onto x


def turning(angle):
    """From x to y, of (x, y)."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def crystal_axes(turn, twin):
    """Matrix on (x, y) that takes the cell's axes to the scan's: the {111} plane's normal lies at `turn`, the twin is mirrored on that plane."""
    mirror = np.diag([-1.0 if twin else 1.0, 1.0])
    return turning(turn) @ mirror @ turning(TO_PLANE)
