"""Published scans: fetched once, checked, with their license; and the simulated one as a file."""

import functools
import gc
import hashlib
import http.server
import re
import threading

import h5py
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from jax4dstem import Calibration, Dataset, InputError, OutputError, datasets, open_dataset
from jax4dstem.cli import app
from jax4dstem.io import write_scan


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A server of this machine with one scan, and what it was asked for."""
    (tmp_path / "there").mkdir()
    np.save(
        tmp_path / "there" / "scan.npy",
        np.arange(2 * 3 * 8 * 8, dtype=np.uint16).reshape(2, 3, 8, 8),
    )
    Quiet.asked.clear()
    handler = functools.partial(Quiet, directory=str(tmp_path / "there"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """That scan as if it were published."""
    content = (tmp_path / "there" / "scan.npy").read_bytes()
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    scan = datasets.Published(
        f"{server}/scan.npy", checksum, len(content), "CC0", "nobody", "numbers"
    )
    monkeypatch.setitem(datasets.PUBLISHED, "numbers", scan)
    return scan


def test_a_scan_is_downloaded_once_with_its_license(published, tmp_path):
    said = []
    path = datasets.fetch("numbers", tmp_path / "kept", said.append)
    assert path == tmp_path / "kept" / "scan.npy"
    assert said == ["numbers: numbers; CC0; nobody"]
    assert open_dataset(path).shape == (2, 3, 8, 8)
    assert datasets.fetch("numbers", tmp_path / "kept", said.append) == path
    assert Quiet.asked == ["/scan.npy"]


def test_the_folder_can_be_chosen_for_good(published, tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert datasets.fetch("numbers", say=lambda _: None).parent == tmp_path / "mine"


@pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")  # requests'
@pytest.mark.parametrize("wrong", ["checksum", "no file", "no server"])
def test_what_cannot_be_fetched_is_one_line_and_leaves_nothing(
    wrong, published, tmp_path, monkeypatch
):
    changed = {
        "checksum": {"checksum": "sha256:" + 64 * "0"},
        "no file": {"url": published.url.replace("scan", "other")},
        "no server": {
            "url": "http://127.0.0.1:9/scan.npy"
        },  # the port of "discard", where nobody listens
    }[wrong]
    other = datasets.Published(**{**vars(published), **changed})
    monkeypatch.setitem(datasets.PUBLISHED, "numbers", other)
    with pytest.raises(InputError) as error:
        datasets.fetch("numbers", tmp_path / "kept", lambda _: None)
    assert "\n" not in str(error.value)
    assert f"download it yourself to {tmp_path / 'kept' / other.file}" in str(error.value)
    assert not list((tmp_path / "kept").glob("*"))
    del error
    gc.collect()  # what a failed answer has left open


def test_what_is_published_says_all_that_is_needed():
    for scan in datasets.PUBLISHED.values():
        assert scan.url.startswith("https://")
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", scan.checksum)
        assert scan.size > 0
        assert scan.license
        assert scan.credit
        assert scan.file in scan.url


def test_the_checksum_is_that_of_the_published_file(shared_data):
    content = (shared_data / "test1.blo").read_bytes()
    spots = datasets.PUBLISHED["astar_spots"]
    assert spots.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert spots.size == len(content)


def test_a_zipped_store_is_read(tmp_path, rng):
    """As the published .zspy files are: one file with a store in it."""
    counts = rng.poisson(3.0, (2, 3, 8, 8)).astype(np.uint16)
    store = zarr.storage.ZipStore(tmp_path / "scan.zspy", mode="w")
    group = zarr.open_group(store, mode="w").create_group("Experiments/one")
    group.create_array("data", data=counts)
    store.close()
    np.testing.assert_array_equal(np.asarray(open_dataset(tmp_path / "scan.zspy")), counts)


@pytest.mark.parametrize(
    "calibration", [Calibration(0.02, 3.0, 80.0), Calibration(), Calibration(0.02, 3.0, scan_step_y_nm=4.0)]
)  # fmt: skip
def test_a_written_scan_is_read_back(calibration, tmp_path, rng):
    scan = Dataset.from_array(rng.poisson(3.0, (2, 3, 8, 9)).astype(np.uint16), calibration)
    again = open_dataset(write_scan(scan, tmp_path / "scan.h5"))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(scan))
    assert again.calibration == calibration
    assert [file.name for file in tmp_path.iterdir()] == ["scan.h5"]


def test_what_cannot_be_written_is_told(tmp_path):
    scan = Dataset.from_array(np.ones((2, 2, 8, 8), np.uint8))
    with pytest.raises(InputError, match="only raw patterns are written"):
        write_scan(scan.bin_detector(2), tmp_path / "scan.h5")
    with pytest.raises(InputError, match=r"to a name such as scan.h5; got scan.npy"):
        write_scan(scan, tmp_path / "scan.npy")
    turned = scan.with_calibration(scan_rotation=0.5)
    with pytest.raises(InputError, match="rotation, flip and ellipse are not written"):
        write_scan(turned, tmp_path / "scan.h5")
    with pytest.raises(OutputError, match="cannot write"):
        write_scan(scan, tmp_path / "none" / "scan.h5")


def test_the_demonstration_is_saved_as_a_file(tmp_path, monkeypatch):
    scan = Dataset.from_array(np.ones((4, 4, 32, 32), np.uint16), Calibration(0.02, 8.0))
    monkeypatch.setattr("jax4dstem.simulate.heterojunction", lambda **options: (scan, options))
    path = tmp_path / "scan.h5"
    result = CliRunner().invoke(app, ["demo", "--save", str(path), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert f"now try: jax4dstem analyze {path} -o out" in result.output
    with h5py.File(path) as file:
        assert file["data"].attrs["scan_step_nm"] == 8.0
    assert not (tmp_path / "demo").exists()
