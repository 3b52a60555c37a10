"""`analyze`: run the stages, reuse what is finished, write the results file."""

import dataclasses
import datetime
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import sklearn

from jax4dstem._version import __version__
from jax4dstem.dataset import Dataset, check_dataset
from jax4dstem.errors import OutputError
from jax4dstem.fields import Result
from jax4dstem.io import open_dataset
from jax4dstem.pipeline.given import check_given_fits, hash_of_given
from jax4dstem.pipeline.recipe import check_recipe_fits, dump_recipe, load_recipe
from jax4dstem.pipeline.results import RESULTS, Results, open_results
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.pipeline.stages import STAGES, Stage, check_kinds
from jax4dstem.pipeline.store import STAGES_FOLDER, Store, stage_key

HASHED_BLOCKS, BLOCK = 64, 2**16


def analyze(
    scan: Dataset | str | Path,
    out: str | Path | None = None,
    recipe: Recipe | Mapping[str, Any] | None = None,
    say: Callable[[str], Any] = print,
    stages: tuple[Stage, ...] = STAGES,
    *,
    overwrite: bool = False,
) -> Results:
    """Run every stage on a file or a dataset; with a directory, write ``OUT/results.h5`` too.

    With a directory, a second run reuses the stages that are finished, and an interrupted one continues.

    Args:
        scan: The raw data, or the path of a file; see `open_dataset` for what can be read.
        out: Directory for the results; made when it does not exist. None keeps them in memory only.
        recipe: Every parameter, or those that differ from the default, by dotted key; the default finds what it can.
        say: Receives one line per stage that is written.
        stages: What to run; the default is everything. Results of other stages that are in OUT already stay, as long as they
            fit.
        overwrite: Whether results of another input in OUT are removed.

    Returns:
        The answers, as `open_results` gives them.

    Raises:
        InputError: The data or recipe cannot be used, or OUT holds results of another input; nothing has been written.
        OutputError: The results cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> analyze(scan, recipe={"prepare.repair_pixels": False}, stages=STAGES[:1]).survey.dose.shape
        (3, 4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/scan.npy", np.asarray(scan))
        ...     found = analyze(f"{folder}/scan.npy", f"{folder}/out", say=lambda line: None, stages=STAGES[:1])
        >>> found.survey.dose.shape
        (3, 4)
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(None, dict(recipe or {}))
    if isinstance(scan, str | Path):
        scan = open_dataset(scan, **recipe.reading())
    check_dataset(scan, "analyze")
    if out is None:
        return analyze_in_memory(scan, recipe, stages)
    return open_results(analyze_dataset(scan, out, recipe, say, stages, overwrite=overwrite))


def analyze_dataset(
    scan: Dataset,
    out: str | Path,
    recipe: Recipe | None = None,
    say: Callable[[str], Any] = print,
    stages: tuple[Stage, ...] = STAGES,
    *,
    overwrite: bool = False,
) -> Path:
    """Run every stage on a dataset and write ``OUT/results.h5``; see `analyze`.

    Args:
        scan: The patterns.
        out: Directory for the results; made when it does not exist.
        recipe: Every parameter; None takes the default.
        say: Receives one line per stage.
        stages: What to run; results of other stages that are in OUT already stay, as long as they fit.
        overwrite: Whether results of another input in OUT are removed.

    Returns:
        The path of the results file.

    Raises:
        InputError: As of `analyze`.
        OutputError: The same.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     analyze_dataset(scan, out, say=lambda line: None, stages=STAGES[:1]).name
        'results.h5'
    """
    recipe, out = recipe or Recipe(), Path(out)
    check_recipe_fits(recipe, scan)
    check_given_fits(recipe, scan)
    check_kinds(recipe)
    fingerprint = fingerprint_of(scan)
    store = Store.open(out, fingerprint, overwrite)
    root = fingerprint["hash"] + hash_of_given(recipe)
    keys = _keys(stages, recipe, root, store.kept)
    with _workspace(out):
        done = _Done(store, stages, keys)
        for number, stage in enumerate(stages, start=1):
            begin = time.perf_counter()
            reused = done.reuse(stage)
            if not reused:
                done.keep(stage, stage.answer(scan, done, recipe))
            seconds = time.perf_counter() - begin
            if not reused:
                done.seconds[stage.name] = round(seconds, 2)
            took = "reused" if reused else f"{seconds:.1f} s"
            say(f"[{number}/{len(stages)}] {stage.name:<9} {took}")
        if not store.is_current(keys):
            needs = {stage.name: stage.all_needs(recipe) for stage in stages}
            about = _provenance(scan, recipe, fingerprint, done, store.about)
            dropped = store.finish(keys, needs, about)
            if dropped:
                say(f"removed results of other settings: {', '.join(dropped)}")
    return out / RESULTS


def analyze_in_memory(
    scan: Dataset, recipe: Recipe | None = None, stages: tuple[Stage, ...] = STAGES
) -> Results:
    """The answers of all stages for a dataset that needs no files: a simulation, a part of a scan.

    Args:
        scan: The patterns.
        recipe: Every parameter.
        stages: What to run.

    Returns:
        The answers, as `open_results` gives them.

    Example:
        >>> import numpy as np
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> analyze_in_memory(scan, stages=STAGES[:1]).survey.dose.shape
        (3, 4)
    """
    recipe = recipe or Recipe()
    check_recipe_fits(recipe, scan)
    check_given_fits(recipe, scan)
    check_kinds(recipe)
    done: dict[str, Result] = {}
    for stage in stages:
        done[stage.name] = stage.answer(scan, done, recipe)
    return Results.of(done, _about_scan(scan, recipe, done))


class _Done(Mapping[str, Result]):
    """Results of finished stages; those of earlier runs that this one does not make are read when somebody needs them."""

    def __init__(self, store: Store, stages: tuple[Stage, ...], keys: Mapping[str, str]):
        self.store, self.stage_keys = store, keys
        self.stages = {stage.name: stage for stage in stages}
        self.results: dict[str, Result] = {}
        self.seconds: dict[str, float] = {}

    def reuse(self, stage: Stage) -> bool:
        """Whether the stage is finished already."""
        found = self.store.read(stage, self.stage_keys[stage.name])
        if found is not None:
            self.results[stage.name] = found
        return found is not None

    def keep(self, stage: Stage, result: Result) -> None:
        """Remember a result, and write it."""
        self.results[stage.name] = result
        self.store.write(stage, self.stage_keys[stage.name], result)

    def __getitem__(self, name: str) -> Result:
        if name not in self.results and name not in self.stages:
            earlier = self.store.read_kept(name)
            if earlier is not None:
                self.results[name] = earlier
        return self.results[name]

    def __iter__(self) -> Any:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


def _keys(
    stages: tuple[Stage, ...], recipe: Recipe, root: str, kept: Mapping[str, Any]
) -> dict[str, str]:
    """Keys of the stages; of what they need and this run does not make, those of an earlier run count."""
    keys: dict[str, str] = {}
    for stage in stages:
        earlier = {name: str(kept.get(name, {}).get("key")) for name in stage.all_needs(recipe)}
        keys[stage.name] = stage_key(stage, recipe, earlier | keys, root)
    return keys


class _workspace:
    """The output directory while stages run; on failure a directory that was made is removed again."""

    def __init__(self, out: Path):
        self.out = out
        self.made: list[Path] = []

    def __enter__(self) -> None:
        try:
            for folder in [*reversed(self.out.parents), self.out, self.out / STAGES_FOLDER]:
                if not folder.exists():
                    folder.mkdir()
                    self.made.append(folder)
            probe = self.out / ".write-test"
            probe.touch()
            probe.unlink()
        except OSError as error:
            self._undo()
            raise OutputError(f"cannot write to {self.out}: {error.strerror}") from error

    def __exit__(self, kind: Any, *_: Any) -> None:
        stages = self.out / STAGES_FOLDER
        if stages.exists() and not any(stages.iterdir()):
            stages.rmdir()
        if kind is not None:
            self._undo()

    def _undo(self) -> None:
        """Remove the directories this run made, as far as no finished stage lies in them."""
        for folder in reversed(self.made):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def fingerprint_of(scan: Dataset) -> dict[str, Any]:
    """What identifies the input: for a file its path, size and the hash of 64 blocks spread over it.

    A dataset in memory is identified by the hash of its patterns.
    """
    digest = hashlib.sha256()
    if scan.path is None:
        rows, cols = scan.scan_shape
        for row in range(rows):
            block = scan.source.read(slice(row, row + 1), slice(0, cols))
            digest.update(np.ascontiguousarray(block).tobytes())
        size = int(np.prod(scan.shape)) * scan.dtype.itemsize
        return {"path": "memory", "size": size, "hash": digest.hexdigest()}
    path = Path(scan.path)
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    sizes = [file.stat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as handle:
            blocks = 1 if path.is_dir() else HASHED_BLOCKS
            for offset in np.linspace(0, max(0, size - BLOCK), blocks, dtype=int):
                handle.seek(offset)
                digest.update(handle.read(BLOCK))
    return {"path": str(path.resolve()), "size": sum(sizes), "hash": digest.hexdigest()}


def _provenance(
    scan: Dataset,
    recipe: Recipe,
    fingerprint: dict[str, Any],
    done: _Done,
    before: dict[str, Any],
) -> dict[str, Any]:
    """Attributes of the results file's root; what this run does not tell is kept from an earlier one."""
    seconds = json.loads(before.get("seconds", "{}")) | done.seconds
    return before | {
        **_about_scan(scan, recipe, done),
        "version": __version__,
        "jax_version": jax.__version__,
        "numpy_version": np.__version__,
        "sklearn_version": sklearn.__version__,
        "input_path": fingerprint["path"],
        "input_size": fingerprint["size"],
        "input_hash": fingerprint["hash"],
        "seconds": json.dumps(seconds),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _about_scan(scan: Dataset, recipe: Recipe, done: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a scan beside its answers."""
    calibration = scan.calibration
    about = {
        "recipe": dump_recipe(recipe),
        "seed": recipe.seed,
        "notes": "\n".join(scan.notes),
        "scan_shape": scan.scan_shape,
        "detector_shape": scan.pattern_shape,
    } | {name: _or_nan(value) for name, value in dataclasses.asdict(calibration).items()}
    if "features" in done:
        binned = calibration.binned(done["features"].bin)
        about["pattern_shape"] = done["features"].mean_pattern.shape
        about["pattern_pixel_inv_angstrom"] = _or_nan(binned.pixel_inv_angstrom)
    return about


def _or_nan(value: Any) -> Any:
    return float("nan") if value is None else value
