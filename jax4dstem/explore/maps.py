"""Which fields of results are maps of the scan, and how each is to be shown."""

from dataclasses import dataclass, replace

import numpy as np

from jax4dstem.fields import Field, Tree, components_of, fields_of

MOST_COMPONENTS = 4  # of a vector per position that is shown as so many maps
ORDER = ("images", "labels", "strain", "latent", "beam", "embedding")  # groups that are shown first
TELLING = {"masked", "invalid"}  # why a position is left out
SIGNED = {"e_xx", "e_yy", "e_xy", "theta", "dilatation", "center_of_mass", "asymmetry", "burgers"}


@dataclass(frozen=True)
class ScanMap:
    """One number per position of the scan, and how it is shown.

    Attributes:
        name: Its path in the results, with the component of a vector in brackets.
        units: Of its values.
        about: What it is, in words.
        kind: "labels" (numbers of things; negative for none), "signed" (zero in the middle) or "amount".
        data: ``(scan_y, scan_x)`` float32; NaN where there is none.
    """

    name: str
    units: str
    about: str
    kind: str
    data: np.ndarray


def maps_of(tree: Tree, scan_shape: tuple[int, int], left_out: np.ndarray) -> dict[str, ScanMap]:
    """Maps of the scan among the fields of results, by name, those first that are looked at first.

    Args:
        tree: Fields of results.
        scan_shape: Rows and columns.
        left_out: Positions that nothing counts: no map has a value there but those that tell of them.
    """
    found = [
        item if path in TELLING else replace(item, data=np.where(left_out, np.nan, item.data))
        for path, field in fields_of(tree)
        if field.dims[:2] == ("scan_y", "scan_x") and np.shape(field.data)[:2] == scan_shape
        for item in _maps_of_field(path, field)
    ]
    return {item.name: item for item in sorted(found, key=_place)}


def _maps_of_field(path: str, field: Field) -> list[ScanMap]:
    data = np.asarray(field.data)
    if data.ndim > 3 or (data.ndim == 3 and data.shape[2] > MOST_COMPONENTS):
        return []
    kind = _kind(path, data)
    return [
        ScanMap(
            f"{path}[{label}]" if label else path,
            field.units,
            field.description,
            kind,
            component.astype(np.float32),
        )
        for label, component in components_of(field)
    ]


def _kind(path: str, data: np.ndarray) -> str:
    if data.dtype.kind in "bi" or path.startswith("labels/"):
        return "labels"
    return "signed" if path.split("/")[-1] in SIGNED else "amount"


def _place(item: ScanMap) -> tuple[int, int]:
    """Groups in their order, of strain the pooled one first; the order of fields stays within."""
    group = item.name.split("/")[0]
    return (
        ORDER.index(group) if group in ORDER else len(ORDER),
        not item.name.startswith("strain/pooled/") if group == "strain" else 0,
    )
