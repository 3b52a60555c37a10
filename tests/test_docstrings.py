"""Every public name says what it takes and gives, in shapes and units, and shows it; the doctests run the examples.

Public is what stands in the `__all__` of a room.
"""

import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re

import numpy as np

import jax4dstem

ROOMS = ["jax4dstem", *(f"jax4dstem.{m.name}" for m in pkgutil.iter_modules(jax4dstem.__path__))]


def public_names():
    """Each object once, under the first room that offers it."""
    found, seen = {}, set()
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            described = inspect.isfunction(item) or inspect.isclass(item)
            if described and item.__module__.startswith("jax4dstem.") and id(item) not in seen:
                seen.add(id(item))
                found[f"{room}.{name}".removeprefix("jax4dstem.")] = item
    return found


def section(doc, title):
    """Text of a section; None without one."""
    match = re.search(rf"^{title}:\n((?:[ ]+.*\n|\n)*)", f"{doc}\n", re.MULTILINE)
    return match.group(1) if match else None


def untold(names, text, what):
    """Names that a section does not explain, or whose shape it leaves open."""
    missing = []
    for name, annotation in names.items():
        match = re.search(rf"^ +{name}: (.*(?:\n {{8,}}.*)*)", text or "", re.MULTILINE)
        if match is None:
            missing.append(f"{what} {name}")
        # jaxtyping annotations have the shape in them, a bare array has not.
        elif annotation in (np.ndarray, "np.ndarray") and not re.search(
            r"\(.*\)|shape|rows|the same|boolean", match.group(1), re.IGNORECASE
        ):
            missing.append(f"shape of {name}")
    return missing


def missing_of_function(fn):
    doc, signature = inspect.getdoc(fn) or "", inspect.signature(fn)
    names = {p.name: p.annotation for p in signature.parameters.values()}
    missing = untold(names, section(doc, "Args"), "Args")
    gives = section(doc, "Returns") or section(doc, "Yields")
    if signature.return_annotation not in (None, "None") and gives is None:
        missing.append("Returns")
    return missing + ([] if section(doc, "Example") else ["Example"])


def missing_of_class(cls):
    if issubclass(cls, Exception | enum.Enum) or getattr(cls, "_is_protocol", False):
        return []  # their names and members are what they are
    doc = cls.__dict__.get("__doc__") or ""
    doc = inspect.cleandoc(doc)
    own = vars(cls).get("__annotations__", {})
    if dataclasses.is_dataclass(cls):
        own = {f.name: f.type for f in dataclasses.fields(cls) if f.name in own}
    head = doc.partition("\nAttributes:")[0]
    if re.search(r"``\(scan_y, scan_x", head):  # the shape of all is told at once
        own = dict.fromkeys(own)
    missing = untold(own, section(doc, "Attributes"), "Attributes")
    methods = [
        name
        for name, item in vars(cls).items()
        if inspect.isfunction(item) and (not name.startswith("_") or name == "__call__")
    ]
    written_by_hand = [name for name in methods if not name.startswith("_replace")]
    needs = written_by_hand and section(doc, "Example") is None
    return missing + (["Example"] if needs else [])


def missing_of(item):
    missing = missing_of_class(item) if inspect.isclass(item) else missing_of_function(item)
    return missing + ([] if names_source(item.__doc__ or "") else ["source"])


def names_source(doc):
    """Mathematics comes from somewhere: a reference, which may say that it is ours, or a year in the text."""
    return ".. math::" not in doc or bool(
        re.search(r"^ *Reference: \S|\b(19|20)\d\d\b", doc, re.MULTILINE)
    )


PUBLIC = public_names()


def test_public_names_are_described():
    missing = {name: missing_of(item) for name, item in PUBLIC.items()}
    assert not {name: what for name, what in missing.items() if what}


def test_public_names_are_found():
    assert len(PUBLIC) > 200


def good(x: np.ndarray, gain: float) -> np.ndarray:
    """Scale.

    Args:
        x: ``(n,)``.
        gain: Factor.

    Returns:
        ``(n,)``.

    Example:
        >>> 1
        1
    """
    return gain * x


def bad(x: np.ndarray, gain: float) -> np.ndarray:
    """Scale.

    .. math:: y = g x

    Args:
        x: Numbers.
    """
    return gain * x


def test_the_rules_see_what_is_missing():
    assert missing_of(good) == []
    assert missing_of(bad) == ["shape of x", "Args gain", "Returns", "Example", "source"]
