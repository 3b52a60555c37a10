"""Shapes and types of every public function are checked at run time while the tests run."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Compilation is most of the suite's time, and what it optimizes hardly runs. XLA stops at flags that it does not
# know, so they are used with the version that they were tried with only.
if version("jaxlib").startswith("0.10."):
    quick = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}".strip()

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

with install_import_hook("jax4dstem", "typechecker.check"):
    import jax4dstem.cli
    import jax4dstem.pipeline
    import jax4dstem.report  # noqa: F401

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """The workers, and the next run, share what was compiled."""
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    # Traced functions are large graphs of objects that stay: looking for garbage in them is slow.
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture
def shared_data() -> Path:
    """Measured and simulated data beside the checkout; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the shared data sets are not here")
    return SHARED


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Run the test in single and in double precision."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
