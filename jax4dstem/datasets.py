"""Published scans to try things on: downloaded once, checked, with their license."""

import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from jax4dstem.errors import InputError

FOLDER_VARIABLE = "JAX4DSTEM_DATA"  # where downloads are kept instead of the user's cache


@dataclass(frozen=True)
class Published:
    """A file that somebody has published.

    Attributes:
        url: Where it is.
        checksum: "md5:..." or "sha256:..." of the file.
        size: In bytes.
        license: Its license.
        credit: Whose it is, and where it is described.
        about: What it shows.
        extra: What must be installed to open it; "" for nothing.
    """

    url: str
    checksum: str
    size: int
    license: str
    credit: str
    about: str
    extra: str = ""

    @property
    def file(self) -> str:
        """Name of the file."""
        return urllib.parse.urlparse(self.url).path.rpartition("/")[2]


# Checksums and sizes of the first two are those of the public index em-database 0.5.0; the third's is that of RosettaSciIO
# 0.15.0, and of the file.
PUBLISHED = {
    "mgo_sped": Published(
        "https://zenodo.org/records/15490547/files/mgo_nano.zspy",
        "md5:38a03c23cec147a9cffab9ea349cd15a",
        104_291_721,
        "CC-BY-4.0",
        "Tina Bergh, NTNU; doi 10.5281/zenodo.15490547, doi 10.1111/jmi.12850",
        "MgO cubes on holey carbon, by scanning precession electron diffraction",
        "zarr",
    ),
    "silver_sped": Published(
        "https://zenodo.org/records/15490547/files/SPED-Ag.zspy",
        "md5:8556346543fc19f0ef9bdc0f4a6619b5",
        213_985_149,
        "CC-BY-4.0",
        "Tina Bergh, NTNU; doi 10.5281/zenodo.15490547",
        "polycrystalline silver with twins, by scanning precession electron diffraction",
        "zarr",
    ),
    "astar_spots": Published(
        "https://github.com/hyperspy/rosettasciio/raw/v0.15.0/rsciio/tests/data/blockfile/test1.blo",
        "sha256:df2c77ba0957f186a7681b6af07493a5cee01d08662db39200112909fefe745e",
        128_564,
        "GPL-3.0 (test data of RosettaSciIO)",
        "the HyperSpy developers, github.com/hyperspy/rosettasciio",
        "six spot patterns in the format of ASTAR, to try the reader",
        "formats",
    ),
}


def fetch(name: str, folder: str | Path | None = None, say: Callable[[str], Any] = print) -> Path:
    """Download a published scan, unless it is there already, and check that it is the published file.

    Args:
        name: One of `PUBLISHED`.
        folder: Where files are kept; by default ``$JAX4DSTEM_DATA``, or the user's cache.
        say: Receives license and credit, in one line.

    Returns:
        Path of the file, which `open_dataset` reads.

    Raises:
        InputError: There is no such scan, it cannot be downloaded, or what came is not the published file; needs the
            extra ``datasets``.

    Example:
        >>> fetch("mgo")
        Traceback (most recent call last):
        ...
        jax4dstem.errors.InputError: there is no published scan 'mgo'; known: mgo_sped, silver_sped, astar_spots
    """
    if name not in PUBLISHED:
        raise InputError(f"there is no published scan {name!r}; known: {', '.join(PUBLISHED)}")
    try:
        import pooch
    except ImportError as error:
        raise InputError("downloads need pooch: pip install 'jax4dstem[datasets]'") from error
    wanted = PUBLISHED[name]
    kept = pooch.create(
        Path(folder) if folder is not None else pooch.os_cache("jax4dstem") / "data",
        base_url="",
        env=None if folder is not None else FOLDER_VARIABLE,
        registry={wanted.file: wanted.checksum},
        urls={wanted.file: wanted.url},
    )
    say(f"{name}: {wanted.about}; {wanted.license}; {wanted.credit}")
    pooch.get_logger().setLevel("WARNING")  # it tells what the bar shows
    bar = tqdm(
        desc=f"downloading {wanted.file}",
        total=wanted.size,
        unit="B",
        unit_scale=True,
        disable=None,
    )
    try:
        with bar:
            return Path(kept.fetch(wanted.file, downloader=pooch.HTTPDownloader(progressbar=bar)))
    except (OSError, ValueError) as error:  # no network, no such file; another checksum
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{wanted.url} cannot be fetched ({reason}); download it yourself to {kept.abspath / wanted.file}"
        ) from error


__all__ = ["PUBLISHED", "Published", "fetch"]
