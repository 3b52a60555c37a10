"""What JAX computes on: told to it before it is loaded, and looked at before anything is computed."""

import os

from jax4dstem.compiled import DIRECTORY, SECONDS, SHORTEST, kept_in
from jax4dstem.cores import cpu_devices
from jax4dstem.errors import InputError


def set_up_devices() -> None:
    """Use every core, and keep compiled kernels between runs; what the user's environment says wins.

    JAX reads these variables when it is loaded, so that they cost nothing where it is not.
    """
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cpu_devices()))
    if DIRECTORY not in os.environ:
        os.environ[DIRECTORY] = str(kept_in())
        os.environ.setdefault(SHORTEST, str(SECONDS))


def check_devices() -> None:
    """Raise InputError if JAX has nothing to compute on, such as a GPU that was asked for and is not there."""
    import jax

    try:
        jax.devices()
    except Exception as error:  # RuntimeError, and in some versions of JAX AssertionError
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error).strip() or "there is none").splitlines()[0]
        raise InputError(
            f"JAX finds no device for JAX_PLATFORMS={asked!r} ({reason}); leave it unset, or see "
            "`pip install 'jax4dstem[cuda]'`"
        ) from error
