"""The commands. Each looks at its options first, then loads what it needs."""

import re
import tempfile
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jax4dstem._version import __version__
from jax4dstem.cli.command import command, examples_in_words
from jax4dstem.cli.devices import check_devices, set_up_devices
from jax4dstem.cli.options import (
    Beam,
    Drawing,
    File,
    KnownSpecimen,
    Masks,
    Out,
    Overwrite,
    Parameters,
    Probe,
    Reading,
    Reference,
    recipe_of,
)
from jax4dstem.errors import InputError, NothingFound, OutputError
from jax4dstem.io.readable import check_readable
from jax4dstem.pipeline.presets import QUICK, QUICK_IN_WORDS
from jax4dstem.pipeline.recipe import dump_recipe
from jax4dstem.pipeline.sections import Recipe

if TYPE_CHECKING:
    from jax4dstem.dataset import Dataset
    from jax4dstem.health import Health
    from jax4dstem.pipeline.calibrate import Known

app = typer.Typer(
    help="From raw 4D-STEM data to domains and strain, in one command.",
    epilog=examples_in_words("demo", "analyze scan.h5 -o out", "explore out"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train = typer.Typer(
    help="Train a model on a scan.",
    epilog=examples_in_words("train bases scan.h5 -o out", "train ccstae scan.h5 -o out"),
    no_args_is_help=True,
)
app.add_typer(train, name="train")


def main() -> None:
    """Entry point of the command ``jax4dstem``.

    Example:
        >>> import subprocess, sys  # the same as the command ``jax4dstem --version``
        >>> asked = [sys.executable, "-m", "jax4dstem.cli", "--version"]
        >>> subprocess.run(asked, capture_output=True, text=True).stdout.split()[0]
        'jax4dstem'
    """
    set_up_devices()
    app(prog_name="jax4dstem")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version when asked."""
    if show:
        typer.echo(f"jax4dstem {__version__}")
        raise typer.Exit


@command(app, "info scan.h5", "info stack.npy --scan-shape 128,256 --set input.flyback=1")
def info(file: File, reading: Reading, parameters: Parameters) -> None:
    """Tell what a file holds, and how that was decided."""
    recipe = recipe_of(parameters, reading)
    check_readable(file)
    from jax4dstem.io import open_dataset
    from jax4dstem.io.glance import glance

    dataset = open_dataset(file, **recipe.reading())
    scan, detector = dataset.scan_shape, dataset.pattern_shape
    size = dataset.n_patterns * dataset.dtype.itemsize
    size *= dataset.detector_shape[0] * dataset.detector_shape[1]
    seen = glance(dataset)
    typer.echo(f"file      {file}")
    step, pixel = dataset.calibration.in_words
    typer.echo(f"scan      {scan[0]} x {scan[1]} positions (y, x), step {step}")
    typer.echo(f"detector  {detector[0]} x {detector[1]} px (y, x), pixel {pixel}")
    typer.echo(f"type      {dataset.dtype}, {size / 2**20:,.1f} MiB as read")
    typer.echo(f"counts    {seen}")
    typer.echo(f"electrons {_electrons_in_words(dataset, recipe)}")
    for note in dataset.notes:
        if note not in dataset.doubts:
            typer.echo(f"          {note}")
    for doubt in (*dataset.doubts, *seen.doubts):
        typer.echo(f"doubt     {doubt}")


def _electrons_in_words(dataset: "Dataset", recipe: "Recipe") -> str:
    """Electrons per pattern, gain and pixels that cannot be used, from blocks all over the scan."""
    import numpy as np

    from jax4dstem.beam import survey_scan
    from jax4dstem.lattice import sample_scan
    from jax4dstem.pipeline.given import given_detector

    sample = sample_scan(dataset).dataset
    try:
        survey = survey_scan(sample, detector=given_detector(recipe, dataset), exclude_invalid=True)
    except InputError as error:
        return str(error)
    found, dose = survey.detector, np.median(survey.dose[survey.valid])
    bad = int(found.bad_pixels.sum())
    doubted = "".join(f"; {t}" for t in (found.scaled_in_words, found.clipped_in_words) if t)
    return (
        f"{dose:.3g} per pattern at {found.gain:.3g} counts per electron, {bad} pixel{'s' * (bad != 1)} that "
        f"cannot be used{doubted} ({survey.valid.size} patterns looked at; {found.source})"
    )


@command(
    app,
    "analyze scan.h5 -o out",
    "analyze scan.h5 -o out --quick",
    "analyze scan.h5 -o out --pixel 0.016 --set cluster.k=3",
    "analyze scan.h5 -o out --region 0,16,0,16",
)
def analyze(
    file: File,
    out: Out,
    reference: Reference,
    reading: Reading,
    beam: Beam,
    masks: Masks,
    parameters: Parameters,
    drawing: Drawing,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"Domains and images only: {QUICK_IN_WORDS}.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Find the domains in a scan, and how they are strained: results.h5, figures and report.html in OUT.

    The reference of strain is that of `strain`.
    """
    recipe = recipe_of(parameters, reading, beam, masks, reference, preset=QUICK if quick else None)
    formats = drawing.formats
    begin = _ready(file, out)
    from jax4dstem.pipeline import analyze

    if quick:
        typer.echo(f"quick     {QUICK_IN_WORDS}: run without --quick for these")
    analyze(file, out, recipe, typer.echo, overwrite=overwrite)
    _report(out, begin, formats)


@command(
    app,
    "strain scan.h5 -o out --g1 0,28 --g2 28,0",
    "strain scan.h5 -o out --cif Si.cif --zone 0,1,1 --pixel 0.016",
    "strain scan.h5 -o out --probe vacuum.npy",
)
def strain(
    file: File,
    out: Out,
    reference: Reference,
    probe: Probe,
    reading: Reading,
    beam: Beam,
    masks: Masks,
    parameters: Parameters,
    drawing: Drawing,
    overwrite: Overwrite = False,
) -> None:
    """Measure strain and rotation with error bars: results.h5, figures and report.html in OUT.

    The reference is the lattice G1, G2, that of the crystal CIF along ZONE (0,0,1), the median of REGION, or the
    median of the scan. All disks look like the probe of a FILE or of a region of the scan; otherwise they are soft disks, or
    what the scan shows where that contradicts them.
    """
    recipe = recipe_of(parameters, reading, beam, masks, reference, probe)
    _measure_strain(file, out, recipe, overwrite, drawing.formats)


@command(
    train,
    "train bases scan.h5 -o out",
    "train bases scan.h5 -o out --region 0,16,0,16 --set strain.bases=16",
)
def bases(
    file: File,
    out: Out,
    reference: Reference,
    reading: Reading,
    beam: Beam,
    masks: Masks,
    parameters: Parameters,
    drawing: Drawing,
    overwrite: Overwrite = False,
) -> None:
    """Learn the base lattices of a scan and read every pattern's strain through them.

    Writes /strain/bases beside the other ways into results.h5, figures and report.html in OUT. The reference is that
    of `strain`.
    """
    recipe = recipe_of(parameters, reading, beam, masks, reference)
    if not recipe.strain.bases:
        raise InputError("strain.bases is 0: there is nothing to train")
    _measure_strain(file, out, recipe, overwrite, drawing.formats)


@command(
    train,
    "train ccstae scan.h5 -o out",
    "train ccstae scan.h5 -o out --set ccstae.bases=2 --set ccstae.epochs=30",
)
def ccstae(
    file: File,
    out: Out,
    reading: Reading,
    parameters: Parameters,
    drawing: Drawing,
    overwrite: Overwrite = False,
) -> None:
    """Train the published CC-ST-AE on a scan: strain relative to its learned base patterns, without error bars.

    Writes /strain/ccstae beside the other ways into results.h5 in OUT. It needs large doses and much time; `strain` is
    more precise.
    """
    recipe, formats = recipe_of(parameters, reading), drawing.formats
    begin = _ready(file, out)
    from jax4dstem.pipeline import CCSTAE_STAGES
    from jax4dstem.pipeline import analyze as run

    run(file, out, recipe, typer.echo, CCSTAE_STAGES, overwrite=overwrite)
    _report(out, begin, formats)


@command(
    app,
    "calibrate scan.h5 -o out --cif MgO.cif --zone 0,0,1",
    "calibrate film.h5 -o out --cif Au.cif --rings cif",
)
def calibrate(
    file: File, out: Out, specimen: KnownSpecimen, reading: Reading, parameters: Parameters
) -> None:
    """Find pixel size, elliptical distortion and center from a known specimen: calibration.toml in OUT.

    It is a crystal CIF along ZONE, a LATTICE, or a polycrystal with known RINGS. The rotation between scan and
    detector follows from the curl of the center of mass, where that has a signal. Every command takes the file by
    --calibration; calibration.png shows what is known on the mean pattern before and after.
    """
    recipe = recipe_of(parameters, reading)
    specimen.check()
    region = specimen.rectangle
    _ready(file, out)
    known = _known(specimen)
    from jax4dstem.pipeline.calibrate import calibrate
    from jax4dstem.plots import calibration_fit

    found = calibrate(file, out, known, recipe, region, typer.echo)
    calibration_fit(found.found).savefig(found.path.with_name("calibration.png"))
    typer.echo(f"written   {found.path}")


@command(app, "demo", "demo --save scan.h5", "demo --out try --seed 1 --set embed.umap=false")
def demo(
    parameters: Parameters,
    drawing: Drawing,
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated scan.")] = 0,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the simulated scan to FILE, and analyze nothing."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a WS2/WSe2 heterojunction, analyze it, and compare with the truth."""
    recipe, formats = recipe_of(parameters), drawing.formats
    if save is not None:
        _save_demo(save, seed)
        return
    begin = _ready(None, out)
    from jax4dstem.pipeline import analyze_dataset, open_results
    from jax4dstem.pipeline.demonstration import compare_with_truth
    from jax4dstem.simulate import heterojunction

    typer.echo("simulating a WS2/WSe2 heterojunction")
    dataset, truth = heterojunction(seed=seed)
    results = analyze_dataset(dataset, out, recipe, typer.echo, overwrite=overwrite)
    typer.echo(compare_with_truth(open_results(results), truth))
    _report(out, begin, formats)


def _save_demo(path: Path, seed: int) -> None:
    _check_writable(path.parent)
    check_devices()
    from jax4dstem.io import write_scan
    from jax4dstem.simulate import heterojunction

    typer.echo("simulating a WS2/WSe2 heterojunction")
    dataset, _ = heterojunction(seed=seed, progress="simulating")
    typer.echo(f"written   {write_scan(dataset, path)}, {path.stat().st_size / 2**20:.0f} MiB")
    typer.echo(f"          now try: jax4dstem analyze {path} -o out")


@command(app, "report out", "report demo --format svg,pdf")
def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A results directory.")],
    drawing: Drawing,
) -> None:
    """Draw figures and report.html again from OUT/results.h5."""
    _report(out, time.perf_counter(), drawing.formats)


@command(
    app,
    "export out --maps e_xx,domains --to tif",
    "export out --maps strain/lattice/e_xx,confidence --to csv --folder tables",
    "export out",
)
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A results directory.")],
    maps: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Paths in the results file, or their ends, separated by commas; without it a list of what there is.",
        ),
    ] = None,
    to: Annotated[str, typer.Option(help="tif, csv, npy or npz.")] = "tif",
    folder: Annotated[
        Path | None, typer.Option(help="For the files; OUT/maps by default.", show_default=False)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
) -> None:
    """Write maps of OUT/results.h5 as files for other programs.

    A TIFF per map has the size of its pixels; a CSV table has a row per position, with units in its header.
    """
    check_readable(out)
    from jax4dstem.neighbors import export_maps, list_maps
    from jax4dstem.pipeline import open_results

    if maps is None:
        for item in list_maps(open_results(out).fields()):
            typer.echo(f"{item.path}  {item.units and f'({item.units}) '}{item.about}")
        return
    names = re.split(r",(?![^\[]*\])", maps)  # commas between brackets are of one name
    for path in export_maps(out, names, folder or out / "maps", to=to, overwrite=overwrite):
        typer.echo(f"written   {path}")


@command(app, "explore scan.h5", "explore out", "explore out --html page.html")
def explore(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE_OR_OUT",
            help="Raw 4D-STEM data, or a results directory.",
            show_default=False,
        ),
    ],
    reading: Reading,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write one page that needs no server, with reduced patterns."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(help="Of the local page; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the page's address only.")
    ] = False,
) -> None:
    """Look at a scan and its results: maps, patterns, virtual detectors, regions, in the browser.

    The page is served to this machine only, until Ctrl-C. How a file is read is given as for the other commands; of a
    results directory it is known.
    """
    given = recipe_of(Parameters(), reading).reading()
    check_readable(path)
    if html is not None:
        _check_writable(html.parent)
    check_devices()
    from jax4dstem.explore import ExplorerServer, Subject, write_page

    subject = Subject.at(path, given)
    if html is not None:
        write_page(subject, html, say=typer.echo)
        return
    with ExplorerServer(subject, port) as server:
        typer.echo(f"exploring {path} at {server.url}\n          Ctrl-C ends it")
        # No daemon: a compiler that is still at work when the interpreter goes would crash.
        threading.Thread(target=subject.warm_up).start()
        if not no_browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("          ended")


@command(app, "dose out", "dose out --error 5e-4")
def dose(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A results directory with strain or domains.")
    ],
    error: Annotated[
        float, typer.Option(help="Wanted standard deviation of strain.", min=1e-6, max=0.1)
    ] = 1e-3,
) -> None:
    """Tell how many electrons per pattern strain needs, and below which lattices are lost and domains confused.

    From the noise, the lattices and the background found in a scan: errors it would have had with fewer or more
    electrons. The file that OUT was made from is read again; nothing is written.
    """
    check_devices()
    from jax4dstem.pipeline.dose import dose_of_results

    dose_of_results(out, error, typer.echo)


@command(app, "compare out1 out2", "compare demo demo-without-umap")
def compare(
    out1: Annotated[Path, typer.Argument(metavar="OUT1", help="A results directory.")],
    out2: Annotated[Path, typer.Argument(metavar="OUT2", help="Another one, of the same scan.")],
) -> None:
    """Compare two runs on one scan: domains, images, and strain in units of the joint error bars."""
    from jax4dstem.pipeline import compare_results, open_results

    for line in compare_results(open_results(out1), open_results(out2)).lines:
        typer.echo(line)


@command(app, "recipe > recipe.toml", "recipe -r old.toml --set cluster.k=3")
def recipe(parameters: Parameters) -> None:
    """Print a recipe: every key with its meaning, unit, range and value, to start one's own from."""
    typer.echo(dump_recipe(recipe_of(parameters)), nl=False)


def _measure_strain(
    file: Path, out: Path, recipe: Recipe, overwrite: bool, formats: tuple[str, ...]
) -> None:
    begin = _ready(file, out)
    from jax4dstem.pipeline import STRAIN_STAGES
    from jax4dstem.pipeline import analyze as run

    run(file, out, recipe, typer.echo, STRAIN_STAGES, overwrite=overwrite)
    health = _report(out, begin, formats)
    if health is not None and health.no_strain is not None:
        raise NothingFound(health.no_strain)


def _known(specimen: KnownSpecimen) -> "Known":
    """What the scan is calibrated by."""
    from jax4dstem.pipeline.calibrate import KnownLattice, KnownRings

    if specimen.cif is not None and specimen.rings is not None:
        return KnownRings.of_crystal(specimen.cif)
    if specimen.cif is not None:
        return KnownLattice.of_crystal(specimen.cif, specimen.direction)
    if specimen.lattice is not None:
        return KnownLattice.of_cell(*specimen.cell)
    return KnownRings.of_spacings(specimen.spacings)


def _ready(file: Path | None, out: Path) -> float:
    """The time, after what can be wrong before any compute: the file, OUT, the devices."""
    if file is not None:
        check_readable(file)
    _check_writable(out)
    begin = time.perf_counter()
    check_devices()
    return begin


def _check_writable(out: Path) -> None:
    """Raise OutputError if a directory cannot be made there; nothing stays."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise OutputError(f"cannot write to {out}: {there} is no directory")
    try:  # permissions do not tell all: of a file system that is read-only or full, or of /proc
        with tempfile.TemporaryDirectory(dir=there, prefix=".jax4dstem-"):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror} in {there}") from error


def _report(out: Path, begin: float, formats: tuple[str, ...]) -> "Health | None":
    """Draw the report, say what was found and what is doubtful; results of an earlier version do not tell."""
    from jax4dstem.pipeline import open_results
    from jax4dstem.report import write_report

    page = write_report(out, formats)
    health = open_results(out).health
    for line in health.lines if health is not None else ():
        typer.echo(line)
    typer.echo(f"report    {page} ({time.perf_counter() - begin:.0f} s in all)")
    return health
