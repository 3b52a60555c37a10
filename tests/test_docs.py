"""Pages are true: their Python runs, their tables are today's, their links lead somewhere."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot

from jax4dstem.cli import app
from jax4dstem.cli.options import Parameters, recipe_of

PROJECT = Path(__file__).resolve().parents[1]
DOCS = PROJECT / "docs"
PAGES = sorted([PROJECT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("howto/*.md"), *DOCS.glob("concepts/*.md")])  # fmt: skip
WHOLE = (
    "README",
    "python",
    "representations",
    "domains",
    "neighbors",
)  # pages that go from counts to answers
LINKED = [*PAGES, *DOCS.glob("notebooks/*.md"), *DOCS.glob("api/*.md"), PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md",
          *PROJECT.glob("experiments/**/README.md"), *PROJECT.glob("benchmarks/README.md")]  # fmt: skip


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of small data
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.whole] * (p.stem in WHOLE)) for p in PAGES if blocks(p)],
    ids=lambda page: page.stem,
)
def test_the_python_of_a_page_runs(page, analyzed, monkeypatch):
    """All blocks of a page, in order, as one program, beside a file `scan.h5` and its results `out`."""
    monkeypatch.chdir(analyzed)
    pyplot.switch_backend("Agg")
    names: dict = {}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)
        pyplot.close("all")  # a notebook draws every cell anew
    if page.stem == "python":
        np.testing.assert_array_equal(names["same"].domains.levels[0], names["domains"].levels[0])
    if page.stem == "README":
        assert names["found"].labels.shape == names["strain"].e_xx.shape == (12, 12)


def test_the_main_job_of_the_readme_is_short():
    [code] = re.findall(
        r"<!-- main job -->\n```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL
    )
    calls = [line for line in code.splitlines() if not re.match(r"\s*$|import |from ", line)]
    assert len(calls) <= 12


def test_the_page_of_the_results_is_up_to_date():
    page = (PROJECT / "docs" / "results.md").read_text()
    written = runpy.run_path(str(PROJECT / "docs" / "result_fields.py"))["page_with_fields"](page)
    assert written == page, "run `python docs/result_fields.py`"


def test_every_public_name_is_on_a_page_of_the_site():
    names = runpy.run_path(str(DOCS / "public_names.py"))
    assert names["missing"]() == [], "list them in docs/api under `{names} ROOM`"
    assert names["surplus"]() == []


def test_links_inside_the_project_lead_somewhere():
    links = [
        (page.parent, link)
        for page in LINKED
        for link in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
    ]
    assert not [(folder, link) for folder, link in links if not (folder / link).exists()]


def test_commands_of_pages_are_there():
    """Scripts exist, commands too, and `--set` names recipe keys and values that they take."""
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    for page in LINKED:
        text = page.read_text()
        scripts = re.findall(r"python ((?:experiments|benchmarks|docs)/\S+?\.py)", text)
        assert not [script for script in scripts if not (PROJECT / script).exists()], page
        if page.name != "CHANGELOG.md":  # which also tells what was
            called = re.findall(r"(?:^|`|/)jax4dstem ([a-z]+)", text, re.MULTILINE)
            assert set(called) <= known, page
        for setting in re.findall(r"--set[ =]'?([a-z_]+\.[a-z_]+=[^\s`');]+)", text):
            recipe_of(Parameters(settings=[setting]))
