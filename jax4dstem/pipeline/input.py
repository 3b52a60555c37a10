"""The scan that results were made from, opened again."""

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io import open_dataset
from jax4dstem.pipeline.recipe import parse_recipe
from jax4dstem.pipeline.results import Results
from jax4dstem.pipeline.run import fingerprint_of


def input_of(results: Results) -> Dataset:
    """Open the file that results were made from, as it was read then.

    Raises:
        InputError: The scan was in memory, or the file is not there or another.
    """
    path = results.about.get("input_path", "memory")
    if path == "memory":
        raise InputError("the scan of the results was in memory")
    scan = open_dataset(path, **parse_recipe(results.about["recipe"]).reading())
    if fingerprint_of(scan)["hash"] != results.about["input_hash"]:
        raise InputError(f"{path} is no longer the file that the results were made from")
    return scan
