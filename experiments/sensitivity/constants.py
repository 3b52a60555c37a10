"""The tuning constants that matter most, and how to change one so that all code that reads it does."""

import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

Value = float | int | tuple
Place = tuple[str, int]


@dataclass(frozen=True)
class Constant:
    """A name in a module, or the default of a parameter of a class or function there.

    Attributes:
        module: Without the package's name.
        name: Of the constant, or of the parameter.
        owner: The class or function; "" for a constant.
        share: Its double would be no share of a whole: what is missing to the whole is halved instead.
    """

    module: str
    name: str
    owner: str = ""
    share: bool = False

    def __str__(self) -> str:
        return ".".join(part for part in (self.module, self.owner, self.name) if part)

    @property
    def home(self) -> ModuleType:
        return importlib.import_module(f"jax4dstem.{self.module}")

    @property
    def signature(self) -> inspect.Signature:
        return inspect.signature(_initializer(getattr(self.home, self.owner)))

    @property
    def value(self) -> Value:
        return (
            self.signature.parameters[self.name].default
            if self.owner
            else getattr(self.home, self.name)
        )

    def variations(self) -> dict[str, Value]:
        """Half and double, whole numbers rounded."""
        double = _scaled(self.value, 2)
        if self.share:
            double = (1 + float(self.value)) / 2  # type: ignore[arg-type]
        return {"half": _scaled(self.value, 0.5), "double": double}

    @property
    def readers(self) -> set[Place]:
        """Functions that read it."""
        if self.owner:
            return {place_of(_initializer(getattr(self.home, self.owner)).__code__)}
        return {
            place_of(code)
            for module in self._holders()
            for code in _functions(module)
            if self.name in code.co_names
        }

    def _holders(self) -> list[ModuleType]:
        """Its module, and all that import it by value."""
        modules = [m for n, m in sys.modules.items() if n.startswith("jax4dstem.") and m]
        return [self.home, *(m for m in modules if self.name in _imported(m, self.home.__name__))]

    @contextmanager
    def set_to(self, value: Value) -> Iterator[None]:
        """The constant has this value everywhere; `forget_compiled` makes compiled functions look again."""
        before = self.value
        try:
            self._set(value)
            yield
        finally:
            self._set(before)

    @contextmanager
    def taken_away(self) -> Iterator[None]:
        """The name is not there: whoever reads it fails. Not for defaults of parameters."""
        before, holders = self.value, self._holders()
        try:
            for module in holders:
                delattr(module, self.name)
            yield
        finally:
            for module in holders:
                setattr(module, self.name, before)

    def _set(self, value: Value) -> None:
        if self.owner:
            function = _initializer(getattr(self.home, self.owner))
            names = [p.name for p in inspect.signature(function).parameters.values()
                     if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY]  # fmt: skip
            if self.name in names:
                defaults = dict(zip(names, function.__defaults__, strict=True))
                function.__defaults__ = tuple((defaults | {self.name: value}).values())
            else:
                function.__kwdefaults__[self.name] = value
        for module in () if self.owner else self._holders():
            setattr(module, self.name, value)
        assert self.value == value


def place_of(code: CodeType) -> Place:
    """File and first line of a function; of one that a dataclass has made itself, which has none, its identity."""
    made = code.co_filename == "<string>"
    return code.co_filename, id(code) if made else code.co_firstlineno


def forget_compiled() -> None:
    """Trace all functions of the package anew; those of JAX itself know no constant of ours."""
    for name, module in list(sys.modules.items()):
        if name.startswith("jax4dstem.") and module:
            for attribute in list(vars(module).values()):
                for forget in ("cache_clear", "clear_cache"):  # of functools, of jax.jit
                    if callable(attribute) and hasattr(attribute, forget):
                        getattr(attribute, forget)()


def _scaled(value: Value, factor: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_scaled(part, factor) for part in value)
    return max(1, round(value * factor)) if isinstance(value, int) else value * factor


def _initializer(owner: Any) -> Any:
    """The function itself, whatever checks types around it."""
    return inspect.unwrap(owner.__init__ if inspect.isclass(owner) else owner)


@functools.cache
def _functions(module: ModuleType) -> list[CodeType]:
    """Code of all functions of a module, nested ones too; not what runs when it is imported."""
    whole = compile(inspect.getsource(module), str(module.__file__), "exec")
    found = [code for code in _inside(whole) if code.co_flags & inspect.CO_OPTIMIZED]
    assert not {c.co_filename for c in found} - {module.__file__}
    return found


def _inside(code: CodeType) -> Iterator[CodeType]:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from _inside(part)


def _imported(module: ModuleType, source: str) -> set[str]:
    """Names that a module imports from another."""
    return {name for target, name in _imports(module) if target == source}


@functools.cache
def _imports(module: ModuleType) -> list[tuple[str | None, str]]:
    tree = ast.parse(Path(str(module.__file__)).read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [(node.module, alias.name) for node in froms for alias in node.names]


def meaning(constant: Constant) -> str:
    """What the comment beside it says; of a parameter, what the docstring says."""
    lines = inspect.getsource(constant.home).splitlines()
    if constant.owner:
        lines = (getattr(constant.home, constant.owner).__doc__ or "").splitlines()
        start = next(
            n for n, line in enumerate(lines) if line.strip().startswith(f"{constant.name}:")
        )
        return lines[start].partition(":")[2].strip()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"{constant.name} = "))
    end = start if not lines[start].rstrip().endswith("(") else start + 1
    above: list[str] = []
    while lines[start - 1 - len(above)].startswith("#"):
        above.insert(0, lines[start - 1 - len(above)])
    return lines[end].partition("#")[2].strip() or " ".join(line.strip("# ") for line in above)


CONSTANTS = [
    # Which disks and lattices there are.
    Constant("lattice.scan_basis", "DETECTED"),
    Constant("lattice.scan_basis", "ON_NODE"),
    Constant("lattice.scan_basis", "EXPLAINED", share=True),
    Constant("lattice.scan_basis", "SAME_SHAPE"),
    Constant("lattice.detection", "SPACING"),
    Constant("lattice.detection", "OUTSIDE"),
    Constant("lattice.basis", "SHORTEST"),
    Constant("lattice.basis", "AS_GOOD", share=True),
    Constant("lattice.basis", "SPARSE"),
    # The search, and what of it is believed.
    Constant("lattice.search", "STRONGEST"),
    Constant("lattice.search", "STEP"),
    Constant("lattice.search", "SCALES"),
    Constant("lattice.measure", "CLEAR"),
    Constant("lattice.measure", "ON_NODE"),
    Constant("lattice.measure", "EXPLAINED", share=True),
    Constant("lattice.binning", "SMALLEST_RADIUS"),
    Constant("strain.decomposition", "EVIDENCE"),
    # The fit.
    Constant("lattice.fit", "coarse", "FitLattice"),
    Constant("lattice.fit", "fine", "FitLattice"),
    Constant("lattice.fit", "BLURS"),
    Constant("lattice.fit", "LONGEST_STEP"),
    Constant("lattice.fit", "SETTLED"),
    # What patterns share.
    Constant("lattice.cold_start", "ROUNDS"),
    Constant("lattice.cold_start", "MOST_REFLECTIONS"),
    Constant("lattice.cold_start", "BEYOND"),
    Constant("lattice.sample", "BLOCK"),
    Constant("lattice.sample", "MAX_BLOCKS"),
    Constant("lattice.evidence", "CONVINCING"),
    Constant("lattice.evidence", "ENOUGH"),
    Constant("lattice.intensities", "SIGNIFICANT"),
    Constant("lattice.intensities", "FAINTEST"),
    Constant("lattice.intensities", "NARROWEST"),
    Constant("lattice.intensities", "UNEXPECTED"),
    Constant("lattice.profiles", "CLEAR"),
    Constant("lattice.texture", "SUSPICIOUS"),
    Constant("lattice.texture", "TEXTURED"),
    Constant("lattice.bootstrap", "CAP"),
    # Neighbors.
    Constant("strain.pooling", "ONE_GRAIN"),
    Constant("strain.pooling", "ALONE"),
    Constant("strain.pooling", "NEAREST"),
    Constant("strain.pooling", "STEEPER"),
    Constant("strain.pooling", "MOST"),
    Constant("strain.pooling", "SLACK"),
    Constant("strain.pooling", "SAFETY"),
    Constant("strain.pooling", "AVERSION"),
    Constant("strain.pooling", "LARGEST_RATIO"),
    Constant("strain.pooling", "STRANGERS"),
    # Base lattices and their sums.
    Constant("strain.bases", "PER_BASE"),
    Constant("strain.bases", "LEARNING_RATE"),
    Constant("strain.bases", "steps", "strain_by_bases"),
    Constant("strain.bases", "n_bases", "strain_by_bases"),
    Constant("strain.mixing", "NEARBY"),
    Constant("strain.mixing", "INSIDE", share=True),
    Constant("strain.mixing", "SMALL", share=True),
    Constant("strain.mixing", "CANDIDATES"),
    Constant("strain.mixing", "SEPARATE", share=True),
    Constant("strain.mixing", "FAR"),
    Constant("strain.mixing", "TOLD_APART"),
    # Detector and direct beam.
    Constant("detector", "FEWEST_COUNTS"),
    Constant("detector", "ENCLOSED"),
    Constant("detector", "LIT"),
    Constant("beam.survey", "contrast", "survey_scan"),
    Constant("beam.detector", "COUNTING"),
    Constant("beam.detector", "PEDESTAL"),
    Constant("beam.detector", "NO_BLUR"),
    Constant("beam.photon_transfer", "QUIET"),
    Constant("beam.photon_transfer", "LOWEST"),
    Constant("beam.photon_transfer", "FAR"),
    Constant("beam.photon_transfer", "BLURRED", share=True),
    Constant("beam.photon_transfer", "DARK", share=True),
    Constant("beam.photon_transfer", "SURELY"),
    Constant("beam.symmetry", "CLEAR", share=True),
    Constant("beam.positions", "MANY_OUTLIERS"),
    Constant("beam.positions", "MISPLACED"),
    Constant("patterns.align", "WINDOW"),
    Constant("patterns.align", "LOST"),
    Constant("patterns.align", "iterations", "AlignDirectBeam"),
    Constant("beam.positions", "descan_order", "align_scan"),
    # Features and domains.
    Constant("patterns.features", "DARK"),
    Constant("domains.feature_kinds", "fraction", "VaryingPixels"),
    Constant("domains.embedding", "n_components", "score_features"),
    Constant("domains.splitters", "NOISE_DRAWS"),
    Constant("domains.splitters", "NOISE_MARGIN"),
    Constant("domains.splitters", "STABILITY_DRAWS"),
    Constant("domains.splitters", "MIN_STABILITY", share=True),
    Constant("domains.splitters", "k_max", "KMeansSplitter"),
    Constant("domains.physics", "TOLERANCE"),
    Constant("domains.physics", "STRONG"),
    Constant("domains.physics", "EXPLAINED", share=True),
    Constant("domains.physics", "COHERENT"),
    Constant("domains.physics", "OVER_NOISE"),
    # The domain map.
    Constant("domains.signal", "ORDERED"),
    Constant("domains.signal", "NEAR"),
    Constant("domains.signal", "MOST"),
    Constant("domains.signal", "REACH"),
    Constant("domains.peaks", "PROMINENCE"),
    Constant("domains.gaps", "VALLEY", share=True),
    Constant("domains.gaps", "SEEN"),
    Constant("domains.gaps", "SURE"),
    Constant("domains.gaps", "APART"),
    Constant("domains.gaps", "NEAREST"),
    Constant("domains.gaps", "SHOWN"),
    Constant("domains.gaps", "STEP"),
    Constant("domains.gaps", "BETWEEN"),
    Constant("domains.gaps", "WIDE"),
    Constant("domains.steps", "REACH"),
    Constant("domains.shares", "ROUNDS"),
    Constant("domains.shares", "PURE", share=True),
    Constant("domains.shares", "MIXED"),
    Constant("domains.shares", "BETWEEN"),
    Constant("domains.shares", "ON_LINE"),
    Constant("domains.shares", "THIN"),
    Constant("domains.domain_map", "COMPONENTS"),
    Constant("domains.domain_map", "AS_FINE"),
    Constant("domains.domain_map", "AS_CLEAR"),
    Constant("domains.domain_map", "NO_LESS"),
    Constant("domains.domain_map", "SLICES", share=True),
    Constant("domains.domain_map", "JUDGED"),
    Constant("domains.gradual", "LINES"),
    Constant("domains.gradual", "CERTAIN"),
    Constant("domains.gradual", "SHARPEST", share=True),
    Constant("domains.gradual", "SHARP", share=True),
    Constant("domains.gradual", "CLEAR", share=True),
    Constant("domains.gradual", "WIDER"),
    Constant("domains.turns", "ALIKE", share=True),
    Constant("domains.turns", "KNOWN"),
    Constant("domains.turns", "RIMS"),
    Constant("domains.unusual", "KNOWN"),
    Constant("domains.unusual", "TAIL", share=True),
    Constant("domains.unusual", "UNDER"),
]
