"""Shapes and types of every public function are checked at run time while the tests run."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Compilation is most of the suite's time, and what it optimizes hardly runs. XLA stops at flags that it does not
# know: the second is gone in later versions.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        *(["--xla_cpu_use_fusion_emitters=false"] * version("jaxlib").startswith("0.10.")),
    ]
)
# Every worker has a core: threads of linear algebra and of clustering would wait for one another, spinning.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
# Modules that compile much the same; all tests of a group, or else of a module, run in one worker. Each of these takes minutes and
# is begun first, so that no core is left waiting at the end.
GROUPS = {
    "strain": "strain strain_answers strain_independent ccstae calibration calibration_rings masks",
    "pipeline": "pipeline docs answers health given_masks cli plots notebook compare",
    "patterns": "pattern_functions devices",
    "examples": "architecture",
}
GROUP_OF = {f"test_{name}": group for group, names in GROUPS.items() for name in names.split()}


def pytest_configure(config: pytest.Config) -> None:
    """The workers, and the next run, share what was compiled."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # this process only hands out the tests
    with install_import_hook("jax4dstem", "typechecker.check"):
        import jax4dstem.cli
        import jax4dstem.explore
        import jax4dstem.pipeline
        import jax4dstem.report  # noqa: F401
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    # Traced functions are large graphs of objects that stay: looking for garbage in them is slow.
    gc.set_threshold(100_000, 50, 100)


def group_of(nodeid: str) -> str:
    module = Path(nodeid.partition("::")[0]).stem
    return GROUP_OF.get(module, module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = list(GROUPS)
    items.sort(key=lambda i: [*order, group_of(i.nodeid)].index(group_of(i.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Groups are told by names of modules: xdist 3.8 appends those of marks to what pytest 9.2 no longer reads."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # by how many tests a group has
    return GroupScheduling(config, log)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a group has compiled is of no use to the next one, and is gigabytes."""
    if nextitem is None or group_of(item.nodeid) != group_of(nextitem.nodeid):
        jax.clear_caches()


@pytest.fixture
def shared_data() -> Path:
    """Measured and simulated data beside the checkout; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the shared data sets are not here")
    return SHARED


@pytest.fixture(scope="session")
def few_drawn():
    """Fewer simulated pairs of lattices, whose error bars no test of small scans looks at."""
    from jax4dstem.lattice import bootstrap_pairs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap_pairs, "DRAWN", 16)
        yield


@pytest.fixture(scope="session")
def two_grains(few_drawn):
    """A small polycrystal, its truth, and its strain from one lattice per pattern."""
    from jax4dstem import measure_strain
    from jax4dstem.simulate import polycrystal
    from jax4dstem.strain import StrainReference

    scan, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
    reference = StrainReference.vectors(*truth.vectors)
    return scan, truth, measure_strain(scan, truth.parameters.center, 4.2, reference=reference)


@pytest.fixture(scope="session")
def analyzed(tmp_path_factory, few_drawn) -> Path:
    """A directory with a small polycrystal, `scan.h5`, and its results, `out`: an answer of every stage, and every figure."""
    import h5py

    from jax4dstem import open_dataset
    from jax4dstem.pipeline import analyze_dataset, load_recipe
    from jax4dstem.simulate import polycrystal

    folder = tmp_path_factory.mktemp("analyzed")
    scan, _ = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
    with h5py.File(folder / "scan.h5", "w") as file:
        file["data"] = np.asarray(scan)
        file["data"].attrs.update(q_pixel_invA=0.02, scan_step_nm=3.0)
    quick = {
        "embed.umap": False,
        "cluster.restarts": 2,
        "strain.mixing": False,
        "strain.further": [],
    }
    scan = open_dataset(folder / "scan.h5")
    analyze_dataset(scan, folder / "out", load_recipe(None, quick), lambda line: None)
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Run the test in single and in double precision."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
