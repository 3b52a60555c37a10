"""The command line: what it says of itself, and what happens when something is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from jax4dstem.cli import app
from jax4dstem.cli.devices import set_up_devices
from jax4dstem.cli.failures import LOG
from jax4dstem.compiled import kept_in
from jax4dstem.coordinates import Calibration
from jax4dstem.errors import InputError
from jax4dstem.pipeline import QUICK, Results, load_recipe
from jax4dstem.pipeline.calibrate import KnownLattice, KnownRings, calibration_toml

HEAVY = {"jax", "flax", "sklearn", "xarray", "scipy", "matplotlib", "h5py", "umap"}
COMMANDS = [
    "info",
    "analyze",
    "strain",
    "train bases",
    "train ccstae",
    "calibrate",
    "explore",
    "compare",
    "export",
    "dose",
    "demo",
    "report",
    "recipe",
]


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def scan(tmp_path) -> Path:
    np.save(tmp_path / "scan.npy", np.ones((2, 2, 16, 16), np.uint8))
    return tmp_path / "scan.npy"


@pytest.fixture
def run_that_gets(monkeypatch):
    """Stand-ins for the pipeline and the report, that keep what the command line gives them."""
    given = {}

    def analyze(file, out, recipe, say, *stages, overwrite):
        given.update(file=file, out=out, recipe=recipe, stages=stages, overwrite=overwrite)
        if "error" in given:
            raise given["error"]

    monkeypatch.setattr("jax4dstem.pipeline.analyze", analyze, raising=False)
    monkeypatch.setattr("jax4dstem.report.write_report", lambda out, formats: out / "report.html")
    monkeypatch.setattr("jax4dstem.pipeline.open_results", lambda out: Results(), raising=False)
    return given


def test_help_and_wrong_options_load_nothing_heavy():
    """In one fresh process; 1.2 s of CPU time is what a newcomer may wait for the help."""
    code = (
        "import sys, time\n"
        "from typer.testing import CliRunner\n"
        "from jax4dstem.cli import app\n"
        "results = [CliRunner().invoke(app, words.split()) for words in sys.argv[1:]]\n"
        "print('CODES', [result.exit_code for result in results])\n"
        f"print('LOADED', sorted({HEAVY!r} & set(sys.modules)), time.process_time() < 1.2)"
    )
    lines = ["--help", "strain --help", "train bases --help", "--version", "recipe"]
    wrong = [
        "analyze x.npy -o o --set cluster.kk=3",
        "strain none.npy -o o",
        "strain x --g1 8,8 -o o",
        f"analyze {__file__} -o {__file__}/out",
        f"explore {__file__} --html {__file__}/page.html",
        *([f"strain {__file__} -o /proc/out"] if Path("/proc").is_dir() else []),
    ]
    process = subprocess.run(
        [sys.executable, "-c", code, *lines, *wrong], capture_output=True, text=True, timeout=60
    )
    assert f"CODES {[0] * len(lines) + [1] * len(wrong)}" in process.stdout, process.stderr
    assert "LOADED [] True" in process.stdout


@pytest.mark.parametrize("command", ["", "train", *COMMANDS])
def test_every_help_shows_two_examples_that_the_command_line_accepts(command, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    text = run(*command.split(), "--help").output
    examples = [line.strip() for line in text.splitlines() if line.strip().startswith("jax4dstem ")]
    assert len(examples) >= 2, text
    for example in examples:
        words = example.split(" > ")[0].split()[1:]
        assert " ".join(words).startswith(command)
        assert command or words[0] in COMMANDS
        result = run(
            *words, "--help"
        )  # the parser goes through all options before the help is shown
        assert result.exit_code == 0, result.output


def test_the_list_of_commands_is_complete():
    text = run("--help").output + run("train", "--help").output
    for command in COMMANDS:
        assert command.split()[-1] in text


def test_options_become_recipe_values(scan, tmp_path, run_that_gets):
    out = tmp_path / "out"
    given = ["--scan-shape", "2,3", "--pixel", 0.5, "--step", 2, "--key", "a/b", "--overwrite"]
    reference = ["--g1=-1,28", "--g2", "28,0"]
    result = run(
        "strain", scan, "-o", out, *given, *reference, "--set", "input.key=c", "-s", "seed=4"
    )
    assert result.exit_code == 0, result.output
    recipe = run_that_gets["recipe"]
    assert recipe == load_recipe(
        None,
        {
            "seed": 4,
            "input.key": "a/b",  # the option wins over --set
            "input.scan_shape": [2, 3],
            "calibration.pixel": 0.5,
            "calibration.scan_step": 2.0,
            "strain.g1": [-1, 28],
            "strain.g2": [28, 0],
        },
    )
    assert run_that_gets["overwrite"] is True
    assert run("analyze", scan, "-o", out).exit_code == 0
    assert run_that_gets["overwrite"] is False
    assert not run_that_gets["stages"]


def test_quick_is_a_recipe_that_single_values_overrule(scan, tmp_path, run_that_gets):
    file = tmp_path / "recipe.toml"
    file.write_text("seed = 4\n[strain]\nenabled = true\n")
    given = ["--quick", "-r", file, "--set", "embed.umap=true"]
    result = run("analyze", scan, "-o", tmp_path / "out", *given)
    assert result.exit_code == 0, result.output
    assert run_that_gets["recipe"] == load_recipe(None, {**QUICK, "embed.umap": True, "seed": 4})
    assert not run_that_gets["stages"]  # the same program
    assert result.output.splitlines()[0].startswith("quick     domains are told by sums")


def test_a_calibration_file_is_that_of_the_recipe(scan, tmp_path, run_that_gets):
    file = tmp_path / "calibration.toml"
    found = Calibration(0.02, 3.0, ellipse=(0.01, -0.02), scan_rotation=np.radians(30))
    file.write_text(calibration_toml(found, ["by hand"]))
    given = ["--calibration", file, "--scan-flip", "-s", "calibration.scan_step=4"]
    result = run("strain", scan, "-o", tmp_path / "out", *given)
    assert result.exit_code == 0, result.output
    read = run_that_gets["recipe"].calibration
    assert (read.pixel, read.scan_step, read.scan_flip) == (0.02, 4.0, True)
    assert read.ellipse == (0.01, -0.02)
    assert read.scan_rotation == pytest.approx(30)
    file.write_text("[cluster]\nk = 3\n")
    result = run("strain", scan, "-o", tmp_path / "out", "--calibration", file)
    assert "must have one section, [calibration]" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say in one way what the specimen is"),
        (["--cif", "x.cif", "--lattice", "2,2,90"], "say in one way what the specimen is"),
        (["--cif", "x.cif", "--rings", "2,1"], "say in one way what the specimen is"),
        (["--rings", "cif"], "say in one way what the specimen is"),
        (["--rings", "cif", "--lattice", "2,2,90"], "--rings cif needs --cif CIF"),
        (["--cif", "x.cif", "--rings", "cif", "--zone", "0,0,1"], "--zone is of one crystal"),
        (["--rings", "2,1", "--zone", "0,0,1"], "--zone is of one crystal"),
        (["--lattice", "2,2,90", "--zone", "0,0,1"], "--zone is of one crystal"),
        (["--cif", "x.cif", "--zone", "0,1"], "--zone expects 3 numbers such as 0,0,1"),
        (["--lattice", "2,2"], "--lattice expects 3 numbers such as 3.15,3.15,120; got '2,2'"),
        (["--lattice", "2,2,190"], "two positive sides in Å and an angle between 0 and 180°"),
        (["--rings", "2,x"], "--rings expects 2 numbers such as 2.36,2.04,1.44; got '2,x'"),
        (["--rings", "2"], "rings need two or more positive spacings in Å; got 2"),
        (["--cif", "none.cif"], "there is no file none.cif"),
        (["--cif", "none.cif", "--rings", "cif"], "there is no file none.cif"),
        (["--rings", "2,1", "--region", "0,4"], "--region expects 4 numbers"),
    ],
)
def test_what_cannot_calibrate_is_one_line(words, message, scan, tmp_path, monkeypatch):
    monkeypatch.setattr("jax4dstem.pipeline.calibrate.calibrate", lambda *_: pytest.fail("begun"))
    result = run("calibrate", scan, "-o", tmp_path / "out", *words)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["--lattice", "3.15,3.15,120"], KnownLattice),
        (["--rings", "2.36,2.04", "--region", "0,1,0,2"], KnownRings),
    ],
)
def test_what_calibrates_is_told(words, kind, scan, tmp_path, monkeypatch):
    told = []

    def calibrate(file, out, known, recipe, region, say):
        told.append((known, region))
        raise InputError("enough")

    monkeypatch.setattr("jax4dstem.pipeline.calibrate.calibrate", calibrate)
    assert "enough" in run("calibrate", scan, "-o", tmp_path / "out", *words).output
    ((known, region),) = told
    assert isinstance(known, kind)
    assert region == ((0, 1, 0, 2) if kind is KnownRings else None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scan-shape", "2"], "--scan-shape expects 2 numbers such as 128,256; got '2'"),
        (["--scan-shape", "2,-3"], "input.scan_shape must be at least 1; got -3"),
        (["--zone", "1,1"], "--zone expects 3 numbers such as 0,0,1"),
        (["--set", "seed"], "--set expects KEY=VALUE"),
        (["--pixel", "-1"], "calibration.pixel must be positive; got -1"),
        (["--recipe", "none.toml"], "cannot read the recipe none.toml"),
    ],
)
def test_wrong_options_are_one_line(words, message, scan, tmp_path):
    result = run("strain", scan, "-o", tmp_path / "out", *words)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_told_before_the_simulation(tmp_path):
    (tmp_path / "file").touch()
    result = run("demo", "-o", tmp_path / "file" / "deep" / "out")
    assert result.exit_code == 1
    assert result.output.startswith("error: cannot write to")
    assert "simulating" not in result.output


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("strain", ["--g1", "0,28", "--g2", "28,0"]),
        ("analyze", ["--g1", "0,28", "--g2", "28,0"]),
        ("strain", ["--region", "0,1,0,2"]),
        ("analyze", ["--region", "0,1,0,2"]),
    ],
)
def test_strain_is_referred_by_the_same_options(command, words, scan, tmp_path, run_that_gets):
    run(command, scan, "-o", tmp_path / "out", *words)
    strain = run_that_gets["recipe"].strain
    assert strain.references == [(0.0, 28.0) if "--g1" in words else (0, 1, 0, 2)]


def test_a_place_that_refuses_files_is_told_at_once(scan):
    """As permissions do not tell it: the kernel's own directory may be written, says os.access to root."""
    if not Path("/proc").is_dir():
        pytest.skip("no /proc here")
    result = run("analyze", scan, "-o", "/proc/out")
    assert result.exit_code == 1
    assert result.output.startswith("error: cannot write to /proc/out: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("command", ["analyze", "strain"])
def test_a_crystal_that_is_none_is_one_line_before_any_compute(
    command, scan, tmp_path, monkeypatch
):
    pytest.importorskip("gemmi")
    monkeypatch.setattr("jax4dstem.beam.survey_scan", lambda *_, **__: pytest.fail("begun"))
    (tmp_path / "notes.txt").write_text("hello")
    given = ["--cif", tmp_path / "notes.txt", "--pixel", 0.1]
    result = run(command, scan, "-o", tmp_path / "out", *given)
    assert result.exit_code == 1
    assert "notes.txt cannot be read as CIF" in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("made", [True, False])
def test_an_unexpected_error_is_one_line_and_a_log(
    made, scan, tmp_path, run_that_gets, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = tmp_path / "out"
    if made:
        out.mkdir()
    run_that_gets["error"] = ZeroDivisionError("division by zero\nand more")
    result = run("analyze", scan, "-o", out)
    assert result.exit_code == 1
    line = result.stderr.strip()
    assert "\n" not in line
    assert line.startswith("error: ZeroDivisionError: division by zero; the traceback is in ")
    assert "please report it" in line
    log = out / LOG if made else next(tmp_path.glob("jax4dstem-*.log"))
    assert str(log) in line
    assert "Traceback (most recent call last)" in log.read_text()


def test_no_device_is_one_line(scan, tmp_path, monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda'\nand more")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    result = run("analyze", scan, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert (
        "no device for JAX_PLATFORMS='cuda' (Unable to initialize backend 'cuda')" in result.stderr
    )
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_ctrl_c_keeps_what_is_finished(scan, tmp_path, run_that_gets):
    run_that_gets["error"] = KeyboardInterrupt()
    result = run("analyze", scan, "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert "finished stages are kept" in result.output


def test_the_environment_of_the_user_wins(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("JAX_", "XDG_CACHE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    set_up_devices()
    assert 1 <= int(os.environ["JAX_NUM_CPU_DEVICES"]) <= 8
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(kept_in())
    own = {"JAX_NUM_CPU_DEVICES": "3", "JAX_COMPILATION_CACHE_DIR": "/mine"}
    monkeypatch.setattr(os, "environ", dict(own))
    set_up_devices()
    assert os.environ == own
