"""Time of the affine warp of 64 images of 100 x 100: this package beside PyTorch's grid_sample, in one process.

    python benchmarks/warp.py          # the second column needs `pip install torch`

Forward, and forward with the gradient by image and matrix; best of twenty.
"""

import json
import timeit
from collections.abc import Callable
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.models import affine_warp

COUNT, SIZE, ROUNDS = 64, 100, 20


def best(run: Callable[[], object]) -> float:
    """Milliseconds."""
    run()
    return round(1e3 * min(timeit.repeat(run, number=1, repeat=ROUNDS)), 2)


def ours(images: np.ndarray, matrices: np.ndarray, order: int) -> dict[str, float]:
    center = jnp.array([49.3, 50.1])
    warp = jax.vmap(lambda image, matrix: affine_warp(image, matrix, center, 0.0, order))
    forward = jax.jit(warp)
    gradient = jax.jit(jax.grad(lambda i, m: jnp.sum(warp(i, m) ** 2), (0, 1)))
    arguments = jnp.asarray(images), jnp.asarray(matrices)
    return {
        "forward": best(lambda: jax.block_until_ready(forward(*arguments))),
        "gradient": best(lambda: jax.block_until_ready(gradient(*arguments))),
    }


def torchs(images: np.ndarray, matrices: np.ndarray, mode: str) -> dict[str, float]:
    import torch

    image = torch.from_numpy(images)[:, None].requires_grad_()
    matrix = torch.cat([torch.from_numpy(matrices), torch.zeros(COUNT, 2, 1)], dim=2)
    matrix = matrix.requires_grad_()

    def warp() -> torch.Tensor:
        grid = torch.nn.functional.affine_grid(matrix, list(image.shape), align_corners=False)
        return torch.nn.functional.grid_sample(image, grid, mode, align_corners=False)

    def forward() -> None:
        with torch.no_grad():
            warp()

    return {
        "forward": best(forward),
        "gradient": best(lambda: torch.autograd.grad((warp() ** 2).sum(), (image, matrix))),
    }


def main() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((COUNT, SIZE, SIZE), np.float32)
    matrices = (np.eye(2) + 0.1 * rng.standard_normal((COUNT, 2, 2))).astype(np.float32)
    result = {
        "jax4dstem": {
            name: ours(images, matrices, order) for name, order in (("bilinear", 1), ("bicubic", 3))
        }
    }
    if find_spec("torch"):
        result["torch"] = {mode: torchs(images, matrices, mode) for mode in ("bilinear", "bicubic")}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
