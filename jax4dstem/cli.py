"""The command line: ``jax4dstem info | analyze | strain | train | demo | report | recipe``."""

import json
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import jax4dstem
from jax4dstem.errors import InputError, OutputError
from jax4dstem.stream import use_all_cores

app = typer.Typer(
    help="From raw 4D-STEM data to domains and strain, in one command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="Raw 4D-STEM data.", show_default=False)]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="OUT", help="Directory for results and report.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", "-r", help="TOML recipe; see `jax4dstem recipe`.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="One recipe value, such as cluster.k=3; repeatable.",
    ),
]
Key = Annotated[str | None, typer.Option(help="Dataset inside the file.")]
ScanShape = Annotated[str | None, typer.Option(metavar="Y,X", help="Scan positions, rows,columns.")]
Pixel = Annotated[float | None, typer.Option(help="Detector pixel in 1/Å.")]
Step = Annotated[float | None, typer.Option(help="Scan step in nm.")]


@app.command()
def info(
    file: File,
    key: Key = None,
    scan_shape: ScanShape = None,
    pixel: Pixel = None,
    step: Step = None,
    settings: Settings = None,
) -> None:
    """Tell what a file holds, and how that was decided."""
    from jax4dstem.io import open_dataset

    options = _options(None, settings, key=key, scan_shape=scan_shape, pixel=pixel, step=step).input
    dataset = open_dataset(file, **_open_arguments(options))
    scan, detector = dataset.scan_shape, dataset.pattern_shape
    size = dataset.n_patterns * dataset.dtype.itemsize
    size *= dataset.detector_shape[0] * dataset.detector_shape[1]
    pixel_size, pixel_unit = dataset.calibration.reciprocal_units
    step_size, step_unit = dataset.calibration.scan_units
    typer.echo(f"file      {file}")
    typer.echo(f"scan      {scan[0]} x {scan[1]} positions (y, x), step {step_size:g} {step_unit}")
    typer.echo(
        f"detector  {detector[0]} x {detector[1]} px (y, x), pixel {pixel_size:g} {pixel_unit}"
    )
    typer.echo(f"type      {dataset.dtype}, {size / 2**20:,.1f} MiB as read")
    for note in dataset.notes:
        typer.echo(f"          {note}")


@app.command()
def analyze(
    file: File,
    out: Out,
    recipe: RecipeFile = None,
    key: Key = None,
    scan_shape: ScanShape = None,
    pixel: Pixel = None,
    step: Step = None,
    settings: Settings = None,
) -> None:
    """Find the domains in a scan: results.h5, figures and report.html in OUT."""
    from jax4dstem.pipeline import analyze as run

    options = _options(recipe, settings, key=key, scan_shape=scan_shape, pixel=pixel, step=step)
    begin = time.perf_counter()
    run(file, out, options, typer.echo)
    _report(out, begin)


Vector = Annotated[str | None, typer.Option(metavar="Y,X", help="Reference vector in px.")]
Cif = Annotated[
    str | None, typer.Option("--cif", metavar="CIF", help="Crystal whose lattice is the reference.")
]
Zone = Annotated[str | None, typer.Option(metavar="U,V,W", help="Its direction along the beam.")]
Region = Annotated[
    str | None,
    typer.Option(metavar="Y0,Y1,X0,X1", help="Scan positions whose median is the reference."),
]


@app.command()
def strain(
    file: File,
    out: Out,
    g1: Vector = None,
    g2: Vector = None,
    cif: Cif = None,
    zone: Zone = None,
    region: Region = None,
    recipe: RecipeFile = None,
    key: Key = None,
    scan_shape: ScanShape = None,
    pixel: Pixel = None,
    step: Step = None,
    settings: Settings = None,
) -> None:
    """Measure strain and rotation with error bars: results.h5, figures and report.html in OUT.

    The reference is the lattice G1, G2, that of the crystal CIF along ZONE (0,0,1), the median of REGION, or the
    median of the scan.
    """
    reference = _reference(g1, g2, cif, zone, region)
    options = _options(
        recipe,
        [*(settings or []), *reference],
        key=key,
        scan_shape=scan_shape,
        pixel=pixel,
        step=step,
    )
    _measure_strain(file, out, options)


train = typer.Typer(help="Train a model on a scan.", no_args_is_help=True)
app.add_typer(train, name="train")


@train.command()
def ccstae(
    file: File,
    out: Out,
    g1: Vector = None,
    g2: Vector = None,
    cif: Cif = None,
    zone: Zone = None,
    region: Region = None,
    recipe: RecipeFile = None,
    key: Key = None,
    scan_shape: ScanShape = None,
    pixel: Pixel = None,
    step: Step = None,
    settings: Settings = None,
) -> None:
    """Learn the base lattices of a scan and read every pattern's strain through them.

    Writes /strain/ccstae beside the other ways into results.h5, figures and report.html in OUT. The reference
    is that of `strain`.
    """
    reference = _reference(g1, g2, cif, zone, region)
    options = _options(
        recipe,
        [*(settings or []), *reference],
        key=key,
        scan_shape=scan_shape,
        pixel=pixel,
        step=step,
    )
    if not options.strain.bases:
        raise InputError("strain.bases is 0: there is nothing to train")
    _measure_strain(file, out, options)


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated scan.")] = 0,
    recipe: RecipeFile = None,
    settings: Settings = None,
) -> None:
    """Simulate a WS2/WSe2 heterojunction, analyze it, and compare with the truth."""
    from jax4dstem.pipeline import analyze_dataset
    from jax4dstem.pipeline.demonstration import compare_with_truth
    from jax4dstem.simulate import heterojunction

    options = _options(recipe, settings)
    begin = time.perf_counter()
    typer.echo("simulating a WS2/WSe2 heterojunction")
    dataset, truth = heterojunction(seed=seed)
    results = analyze_dataset(dataset, out, options, typer.echo)
    typer.echo(compare_with_truth(results, truth))
    _report(out, begin)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A results directory.")],
) -> None:
    """Draw figures and report.html again from OUT/results.h5."""
    _report(out, time.perf_counter())


@app.command()
def recipe(file: RecipeFile = None, settings: Settings = None) -> None:
    """Print a recipe with every default written out, to start one's own from."""
    from jax4dstem.pipeline import dump_recipe

    typer.echo(dump_recipe(_options(file, settings)), nl=False)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version when asked."""
    if show:
        typer.echo(f"jax4dstem {jax4dstem.__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: errors a user can act on become one line and exit status 1."""
    with _one_line_errors():
        _set_up_jax()
        app()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (InputError, OutputError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("interrupted; finished stages are kept", fg="yellow", err=True)
        sys.exit(130)


def _set_up_jax() -> None:
    """Use every core, and keep compiled kernels between runs in the user's cache directory."""
    import jax

    use_all_cores()
    if not getattr(jax.config, "jax_compilation_cache_dir", None):  # the user may have one
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "jax4dstem"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _options(
    recipe: Path | None,
    settings: list[str] | None,
    key: str | None = None,
    scan_shape: str | None = None,
    pixel: float | None = None,
    step: float | None = None,
) -> Any:
    """The recipe from the file, `--set` and the shorthand options, which win in this order."""
    from jax4dstem.pipeline import load_recipe

    overrides: dict[str, Any] = dict(_parse_setting(text) for text in settings or [])
    shorthand = {
        "input.key": key,
        "input.scan_shape": None if scan_shape is None else _parse_shape(scan_shape),
        "input.pixel_inv_angstrom": pixel,
        "input.scan_step_nm": step,
    }
    overrides.update({name: value for name, value in shorthand.items() if value is not None})
    return load_recipe(recipe, overrides)


def _reference(
    g1: str | None, g2: str | None, cif: str | None, zone: str | None, region: str | None
) -> list[str]:
    """Settings of the reference options of `strain`."""
    given = {
        "strain.g1": (g1, 2, float),
        "strain.g2": (g2, 2, float),
        "strain.zone": (zone, 3, int),
        "strain.region": (region, 4, int),
    }
    settings = [
        f"{name}={_parse_numbers(name, text, count, kind)}"
        for name, (text, count, kind) in given.items()
        if text is not None
    ]
    return settings if cif is None else [*settings, f"strain.cif={json.dumps(cif)}"]


def _measure_strain(file: Path, out: Path, options: Any) -> None:
    from jax4dstem.pipeline import STRAIN_STAGES
    from jax4dstem.pipeline import analyze as run

    begin = time.perf_counter()
    run(file, out, options, typer.echo, STRAIN_STAGES)
    _report(out, begin)


def _open_arguments(options: Any) -> dict[str, Any]:
    import dataclasses

    arguments = dataclasses.asdict(options)
    arguments.pop("invalid_patterns")
    return arguments


def _parse_setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"--set expects KEY=VALUE, got {text!r}")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()  # a bare word is a string


def _parse_shape(text: str) -> list[int]:
    parts = text.replace("x", ",").split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise InputError(f"--scan-shape expects rows,columns such as 128,256; got {text!r}")
    return [int(part) for part in parts]


def _parse_numbers(name: str, text: str, count: int, kind: type) -> list[float]:
    parts = text.split(",")
    try:
        numbers = [kind(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        option = name.rpartition(".")[2]
        raise InputError(
            f"--{option} expects {count} numbers such as {','.join('8' * count)}; got {text!r}"
        )
    return numbers


def _report(out: Path, begin: float) -> None:
    from jax4dstem.report import write_report

    page = write_report(out)
    typer.echo(f"report    {page} ({time.perf_counter() - begin:.0f} s in all)")


if __name__ == "__main__":
    main()
