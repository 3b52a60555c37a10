"""Joint refinement: the gauge, and error bars that hold for strains and for what is shared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import expm

from jax4dstem import InputError
from jax4dstem.coordinates import deformation
from jax4dstem.lattice.disks import hexagonal_indices
from jax4dstem.lattice.model import LatticeFit, starting_model
from jax4dstem.lattice.shared import RefinedModel
from jax4dstem.strain.maps import StrainMap
from jax4dstem.strain.refine import join_gauge

LATTICE = np.array([[0.0, 18.0], [-15.6, 9.0]])
TRUE = {"ellipse_axes": 0.012, "ellipse_diagonals": -0.016, "scale": 0.01}
TRUE |= {"reference_axes": 0.004, "reference_diagonals": -0.003}
SCAN = (30, 30)
NOISE = 4e-4  # of an element of A


def stretch(a, b):
    return np.asarray(expm(jnp.array([[-a, b], [b, a]])))


def fitted(rng, turns):
    """Lattices as fits would find them, with known errors, and their true strains."""
    unstrained = np.arange(SCAN[0])[:, None] % 2 + np.zeros(SCAN) > 0
    strain = np.where(unstrained[..., None], 0, rng.uniform(-0.02, 0.02, (*SCAN, 3)))
    flat = [jnp.asarray(part.ravel()) for part in (*np.moveaxis(strain, -1, 0), turns)]
    gradient = np.asarray(jax.vmap(deformation)(*flat)).reshape(*SCAN, 2, 2)
    ellipse = np.exp(TRUE["scale"]) * stretch(TRUE["ellipse_axes"], TRUE["ellipse_diagonals"])
    shape = LATTICE @ stretch(TRUE["reference_axes"], TRUE["reference_diagonals"])
    distortion = np.linalg.inv(LATTICE) @ shape @ np.linalg.inv(gradient) @ ellipse
    response = rng.normal(0, 0.02, (*SCAN, 6, 3))
    covariance = np.diag([0.01, 0.02, 0.03]) ** 2
    shift = response[..., 2:, :] @ rng.multivariate_normal(np.zeros(3), covariance)
    distortion += np.swapaxes(shift.reshape(*SCAN, 2, 2), -1, -2)
    distortion += rng.normal(0, NOISE, distortion.shape)
    information = np.broadcast_to(np.diag([1e4, 1e4, *4 * [NOISE**-2]]), (*SCAN, 6, 6))
    some = np.zeros(SCAN)
    fits = LatticeFit(*[some] * 10)._replace(distortion=distortion, information=information)
    model = starting_model(LATTICE, hexagonal_indices(1), 3.0)
    return RefinedModel(model, np.zeros(3), fits, covariance, response, [], 0.0), strain, unstrained


def joined(refined, unstrained, free=True):
    zero = np.zeros(SCAN)
    covariance = np.broadcast_to(np.eye(4), (*SCAN, 4, 4))
    before = StrainMap(zero, zero, zero, zero, covariance, zero.astype(np.int8), LATTICE, "given")
    return join_gauge(refined, before, unstrained, LATTICE, free, np.ones(SCAN))


def test_strains_and_shared_parameters_lie_within_their_error_bars(rng):
    with jax.enable_x64(True):
        hits, scores = [], []
        for _ in range(8):
            refined, strain, unstrained = fitted(rng, rng.uniform(0, 2 * np.pi, SCAN))
            found = joined(refined, unstrained)
            error = found.strain.values[..., :3] - strain
            std = np.stack([found.strain.std(name) for name in ("e_xx", "e_yy", "e_xy")], axis=-1)
            hits.append(np.abs(error) < 1.96 * std)
            scores += [(found.value(name) - true) / found.std(name) for name, true in TRUE.items()]
        assert 0.93 < np.mean(hits) < 0.97
        assert 0.6 < np.std(scores) < 1.4  # 40 standard scores
        assert found.std("ellipse_axes") < 0.1 * abs(found.value("ellipse_axes"))


def test_one_rotation_cannot_tell_the_ellipse_from_the_reference(rng):
    with jax.enable_x64(True):
        refined, _, unstrained = fitted(rng, np.zeros(SCAN))
        with pytest.raises(InputError, match="give the reference"):
            joined(refined, unstrained)
        assert joined(refined, unstrained, free=False).names[-1] == "scale"
