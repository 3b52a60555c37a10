"""Rules of the design that no single module can check."""

import ast
import doctest
import graphlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import MODULES, PACKAGE, ROOT, imports_of, loads, read_imports, tree_of
from jaxtyping import TypeCheckError

import jax4dstem

PROJECT = ROOT.parent
PARTS = sorted({module.split(".")[1] for module in MODULES if module != PACKAGE})
ROOMS = sorted(file.parent.name for file in ROOT.glob("*/__init__.py"))

# From the top down, as in docs/design.md; imports point only downwards, or stay within a room.
LAYERS = [
    {"cli", "explore", "report", "plots"},
    {"neighbors"},
    {"pipeline"},
    {"health"},
    {
        "domains",
        "regions",
        "strain",
        "calibrate",
    },  # answers: joined in the pipeline, not by one another
    {"anomaly"},
    {"beam"},
    {"embed"},
    {"train"},
    {"models"},
    {"simulate", "datasets"},
    {"lattice"},
    {"patterns"},
    {"reducers"},
    {"stream"},
    {"io"},
    {"dataset"},
    {"fields", "rows", "registry"},
    {"detector"},
    {"noise"},
    {"coordinates", "maxima", "smoothing", "thumbnail"},
    {"indexing", "memory"},
    {"typing", "errors", "cores", "compiled", "above", "_version"},
]
# Parts of one layer that may import another: commands draw figures and the report, which is made of them, and open the explorer.
FREE = {("cli", "report"), ("cli", "plots"), ("report", "plots"), ("cli", "explore")}
DRAWING = {"report", "plots"}


def layer(part: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if part in names)


def part_of(module: str) -> str:
    return module.split(".")[1]


FORMS = """
import jax4dstem
import jax4dstem.io as files, numpy
from jax4dstem import strain, Dataset
from jax4dstem.strain.maps import StrainMap as Map
from . import fit
from .model import LatticeModel
from ..errors import InputError
if TYPE_CHECKING:
    from jax4dstem.cli import app
else:
    import jax4dstem.typing
class Here:
    import jax4dstem.stream
    def method(self):
        if True:
            from jax4dstem.report import page
        return importlib.import_module("jax4dstem.patterns.polar")
"""


def test_every_form_of_import_is_seen():
    found = {(i.target, i.name, i.bound, i.where) for i in read_imports(FORMS, "jax4dstem.lattice")}
    assert found == {
        ("jax4dstem", "", "jax4dstem", "module"),
        ("jax4dstem.io", "", "files", "module"),
        ("numpy", "", "numpy", "module"),
        ("jax4dstem.strain", "", "strain", "module"),
        ("jax4dstem", "Dataset", "Dataset", "module"),
        ("jax4dstem.strain.maps", "StrainMap", "Map", "module"),
        ("jax4dstem.lattice.fit", "", "fit", "module"),
        ("jax4dstem.lattice.model", "LatticeModel", "LatticeModel", "module"),
        ("jax4dstem.errors", "InputError", "InputError", "module"),
        ("jax4dstem.cli", "app", "app", "typing"),
        ("jax4dstem.typing", "", "jax4dstem", "module"),
        ("jax4dstem.stream", "", "jax4dstem", "module"),
        ("jax4dstem.report.page", "", "page", "function"),
        ("jax4dstem.patterns.polar", "", "", "function"),
    }


def test_every_part_has_one_layer():
    for part in PARTS:
        assert sum(part in names for names in LAYERS) == 1, part


def goes_up(own: str, other: str) -> bool:
    return other not in ("", own) and layer(other) <= layer(own) and (own, other) not in FREE


def test_imports_point_downwards():
    """Those inside functions and for type checkers too: what they name is depended on just as well."""
    wrong = [
        f"{module} imports {item.target}"
        for module in MODULES
        if module != PACKAGE
        for item in imports_of(module)
        if item.target == PACKAGE or goes_up(part_of(module), item.part)
    ]
    assert not wrong


@pytest.mark.parametrize("kinds", [("module",), ("module", "function")])
def test_there_are_no_import_cycles(kinds):
    graph = {module: loads(module, kinds) for module in MODULES}
    assert sum(map(len, graph.values())) > 100  # there is a graph
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a cycle: {' <- '.join(error.args[1])}")


LAWS = {"poisson", "gammaln", "loggamma", "xlogy", "rel_entr", "kl_div"}  # of counts
ELECTRONS = re.compile(r"\b(counts|expected|dose|electrons|rate)\b")


def counting_laws(tree: ast.Module) -> list[str]:
    """Code that draws counts, or knows their likelihood or variance: n ln n, roots of counts, residuals over counts."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if name in LAWS:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            sides = ast.unparse(node.left), ast.unparse(node.right)
            for one, other in (sides, sides[::-1]):
                if re.match(r"(np|jnp)\.log(1p)?\(", one) and ELECTRONS.search(other):
                    found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and re.fullmatch(r"(np|jnp)\.sqrt", ast.unparse(node.func)):
            if any(
                re.fullmatch(r"(\w+\.maximum\()?(counts|expected|dose)\b.*", ast.unparse(a))
                for a in node.args
            ):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            found += [ast.unparse(node)] * (ast.unparse(node.right) == "expected")
    return found


def test_only_noise_knows_how_counts_scatter():
    others = [module for module in MODULES if module != "jax4dstem.noise"]
    assert not [(module, law) for module in others for law in counting_laws(tree_of(module))]


@pytest.mark.parametrize(
    "law",
    [
        "rng.poisson(rate)",
        "jax.random.poisson(key, rate)",
        "k = counts * jnp.log(counts / rate) - (counts - rate)",
        "z = jnp.log(expected) * counts - gammaln(counts)",
        "error = np.sqrt(counts)",
        "weight = used / expected",
    ],
)
def test_a_law_of_counts_is_seen(law):
    assert counting_laws(ast.parse(law))


def test_only_report_draws():
    for module, file in MODULES.items():
        packages = {item.target.partition(".")[0] for item in imports_of(module)}
        assert "matplotlib" not in packages or part_of(module) in DRAWING, module
        assert "pyplot" not in file.read_text(), module  # it keeps figures in a global list


# Uses of angles, periods and the scan's rotation outside `coordinates`, to be moved there: this list only gets shorter.
KNOW_CONVENTIONS = {
    "jax4dstem.lattice.search",
    "jax4dstem.strain.bases",
    "jax4dstem.strain.derived",
    "jax4dstem.strain.mixing",
}


def conventions_in(module: str) -> set[str]:
    """What of the conventions a module decides itself."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("arctan2"):
            found.add("the angle of a vector")
        if isinstance(node, ast.Attribute) and node.attr in ("scan_rotation", "scan_flip"):
            found.add("from detector to scan axes")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            of_pi, by = ast.unparse(node.left), ast.unparse(node.right)
            if of_pi.endswith("pi") and "symmetry" in by:
                found.add("the period of an angle")
    return found


def test_only_coordinates_knows_the_conventions():
    known = {module: conventions_in(module) for module in MODULES}
    del known["jax4dstem.coordinates"]
    know = {module: what for module, what in known.items() if what}
    assert set(know) == KNOW_CONVENTIONS, f"mend these, or take them off the list: {know}"


def public_names(module: str) -> set[str]:
    """What a room, or a module that is a room of its own, lists in ``__all__``."""
    if module.count(".") > 1:
        return set()
    return set(getattr(importlib.import_module(module), "__all__", ()))


def code_of(file: Path) -> str:
    """Python source, or the Python blocks of a page and the cells of a notebook."""
    text = file.read_text()
    if file.suffix == ".py":
        return text
    blocks = re.findall(
        r"```(?:python|\{code-cell\} ipython3)\n(?::\w.*\n)*(.*?)```", text, re.DOTALL
    )
    return "\n".join(blocks)


def private_names_in(source: str) -> set[str]:
    """What a source takes from the package that is not public, as dotted names."""
    tree = ast.parse(source)
    taken, bound = set(), {}
    for item in read_imports(source):
        if item.target.partition(".")[0] != PACKAGE:
            continue
        if item.name:
            taken.add((item.target, item.name))
        elif item.bound == PACKAGE:  # `import jax4dstem.room` binds the package
            bound[item.bound] = PACKAGE
        else:
            bound[item.bound] = item.target
    for node in ast.walk(tree):
        path = ast.unparse(node).split(".") if isinstance(node, ast.Attribute) else []
        if path and path[0] in bound and all(step.isidentifier() for step in path):
            target = bound[path[0]]
            while len(path) > 2 and f"{target}.{path[1]}" in MODULES:
                target, path = f"{target}.{path[1]}", path[1:]
            if f"{target}.{path[1]}" not in MODULES:
                taken.add((target, path[1]))
    return {
        f"{target.partition('.')[2]}.{name}"
        for target, name in taken
        if name not in public_names(target)
    }


def test_private_names_are_seen():
    source = (
        "import jax4dstem\nimport jax4dstem.strain.maps as maps\n"
        "from jax4dstem import strain, Dataset\nfrom jax4dstem.strain.maps import COMPONENTS\n"
        "jax4dstem.strain.measure_strain; maps.wrap_angle(1); strain.maps.Status; strain.pool_strain\n"
    )
    assert private_names_in(source) == {
        "strain.maps.COMPONENTS",
        "strain.maps.wrap_angle",
        "strain.maps.Status",
    }


PEOPLE = sorted(
    str(file.relative_to(PROJECT))
    for pattern in (
        "experiments/**/*.py",
        "benchmarks/**/*.py",
        "docs/**/*.py",
        "docs/**/*.md",
        "*.md",
    )
    for file in PROJECT.glob(pattern)
)


def test_experiments_benchmarks_and_docs_use_public_names():
    private = {file: private_names_in(code_of(PROJECT / file)) for file in PEOPLE}
    assert not {file: names for file, names in private.items() if names}, "in no room's __all__"


def exists(target: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(target), name or "__name__")
    except ModuleNotFoundError:
        return False


def test_experiments_benchmarks_and_docs_name_what_there_is():
    missing = [
        (file, item)
        for file in PEOPLE
        for item in read_imports(code_of(PROJECT / file))
        if PACKAGE in item.target and not exists(item.target, item.name)
    ]
    assert not missing


def test_every_room_is_public():
    """A room is an attribute of the package, for Python and for type checkers, and lists its names."""
    stub = (ROOT / "__init__.pyi").read_text()
    listed = next(n for n in ast.parse(stub).body if isinstance(n, ast.Assign))
    assert sorted(ast.literal_eval(listed.value)) == sorted(jax4dstem.__all__)
    for room in set(ROOMS) - {"cli"}:
        assert room in jax4dstem.__all__, f"name {room} in jax4dstem/__init__.pyi"


@pytest.mark.parametrize("stub", sorted(ROOT.rglob("__init__.pyi")), ids=lambda f: f.parent.name)
def test_lazy_names_are_there(stub):
    module = importlib.import_module(".".join(stub.parent.relative_to(PROJECT).parts))
    assert sorted(module.__all__) == sorted(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        module.no_such_name  # noqa: B018


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "py.typed").exists()


IMPORTS = """
import json, sys, time
def took(name):
    begin = time.process_time()
    __import__(name)
    return time.process_time() - begin
lazy = took("jax4dstem")
early = sorted(sys.modules)
numpy = took("numpy")
import importlib
for room in sys.argv[1:]:
    importlib.import_module("jax4dstem." + room)
print(json.dumps([lazy, numpy, early, sorted(sys.modules)]))
"""


def test_nothing_is_imported_before_it_is_needed():
    """The package costs less than NumPy; its rooms load neither what is slow, nor extras, nor what draws."""
    quiet = sorted(set(ROOMS) - {"report", "plots", "explore"})
    process = subprocess.run(
        [sys.executable, "-c", IMPORTS, *quiet],
        capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "EAGER_IMPORT": ""},
    )  # fmt: skip
    lazy, numpy, early, late = json.loads(process.stdout)
    assert not {"jax", "flax", "sklearn", "xarray", "scipy", "numpy", "h5py"} & set(early)
    assert lazy <= 3 * numpy
    assert not {"umap", "numba", "orbax", "matplotlib", "PIL", "gemmi", "rsciio", "zarr"} & set(
        late
    )


# Their examples go from counts to answers, or compile, one call after the other.
WHOLE = {
    "beam",
    "calibrate",
    "coordinates",
    "domains",
    "embed",
    "health",
    "lattice",
    "models",
    "patterns",
    "reducers",
    "simulate",
    "strain",
    "train",
}


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(m, marks=[pytest.mark.whole] * (m != PACKAGE and part_of(m) in WHOLE))
        for m in MODULES
    ],
)
def test_examples_in_docstrings_run(module):
    if module.endswith("__main__"):
        return
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failures, _ = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert failures == 0


def test_public_names_are_documented():
    docs = {name: getattr(jax4dstem, name).__doc__ or "" for name in jax4dstem.__all__}
    assert not [name for name, doc in docs.items() if not doc.strip()]


def test_shapes_are_checked_while_the_tests_run():
    with pytest.raises(TypeCheckError):
        jax4dstem.coordinates.detector_grid("no shape")
