"""Time of a training step, 3000-512-8-512-3000 with 256 samples: this package beside PyTorch, in one process.

    python benchmarks/training_step.py          # the second column needs `pip install torch`

Both train on data in memory, with Adam and the mean squared error; epochs alternate, the best of them counts.
PyTorch is used eagerly, with fused Adam where it has it, and with all cores.
"""

import json
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from jax4dstem.models import AutoEncoderSpec, Dense, Reconstruction
from jax4dstem.train import ArrayFeed, Training, train

FEATURES, HIDDEN, LATENT, BATCH, STEPS, ROUNDS = 3000, 512, 8, 256, 40, 6


def our_epochs(x: np.ndarray) -> Callable[[], float]:
    """Seconds of an epoch, from the difference of a long and a short training."""
    spec, feed = AutoEncoderSpec((FEATURES,), LATENT, Dense((HIDDEN,))), ArrayFeed(x)

    def seconds(epochs: int) -> float:
        begin = time.perf_counter()
        train(spec, Reconstruction(), feed, Training(epochs=epochs, batch_size=BATCH))
        return time.perf_counter() - begin

    seconds(1)
    return lambda: seconds(3) / 3


def torch_epochs(x: np.ndarray) -> Callable[[], float]:
    """The same with PyTorch."""
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Linear(FEATURES, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, LATENT),
        nn.Linear(LATENT, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, FEATURES),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    data = torch.from_numpy(x)

    def epoch() -> float:
        begin = time.perf_counter()
        for rows in torch.randperm(len(data)).split(BATCH):
            batch = data[rows]
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(batch), batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
        return time.perf_counter() - begin

    epoch()
    return lambda: min(epoch() for _ in range(3))


def main() -> None:
    x = np.random.default_rng(0).standard_normal((STEPS * BATCH, FEATURES)).astype(np.float32)
    runs = {"jax4dstem": our_epochs(x)}
    if find_spec("torch"):
        runs["torch"] = torch_epochs(x)
    best = dict.fromkeys(runs, np.inf)
    for _ in range(ROUNDS):
        for name, run in runs.items():
            best[name] = min(best[name], run())
    print(
        json.dumps({name: f"{1e3 * seconds / STEPS:.1f} ms/step" for name, seconds in best.items()})
    )


if __name__ == "__main__":
    main()
