import dataclasses
import runpy
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.pipeline import analyze_in_memory
from jax4dstem.pipeline.recipe import check_recipe_fits, dump_recipe, load_recipe, recipe_keys
from jax4dstem.pipeline.sections import Cluster, Recipe, Strain

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_dumping_and_loading_is_the_identity(tmp_path):
    recipe = load_recipe(
        None,
        {
            "seed": 5,
            "cluster.methods": ["gmm", "hdbscan"],
            "features.inner": 24,
            "input.crop_scan": [0, 4, 1, 9],
        },
    )
    file = tmp_path / "recipe.toml"
    file.write_text(dump_recipe(recipe))
    assert load_recipe(file) == recipe
    assert recipe.features.inner == 24.0
    assert recipe.cluster.methods == ("gmm", "hdbscan")


def test_the_default_recipe_names_no_detector_pixel():
    """What depends on the data set is found from it."""
    recipe = Recipe()
    assert recipe.features.inner is None
    assert recipe.features.outer is None
    assert recipe.prepare.search is None
    assert recipe.cepstrum.width is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"cluster.kmax": 3}, "unknown recipe key cluster.kmax; did you mean cluster.k_max"),
        ({"clusters": {}}, "unknown recipe key clusters; did you mean cluster"),
        ({"zzz": 1}, "unknown recipe key zzz; known: seed"),
        ({"cluster": 3}, "cluster must be a section"),
        ({"seed": "a"}, "seed must be of type int; got 'a'"),
        ({"seed": True}, "seed must be of type int"),
        ({"embed.umap": 1}, "embed.umap must be of type bool"),
        ({"features.units": "mm"}, "features.units must be one of px, calibrated"),
        ({"cluster.methods": "kmeans"}, "cluster.methods must be a list"),
        ({"cluster.methods": []}, "cluster.methods must be not empty"),
        ({"input.scan_shape": [3]}, "a list of 2 values"),
        ({"cluster.k_max": 1}, "cluster.k_max must be at least 2"),
        ({"features.fraction": 0.0}, "features.fraction must be positive; got 0"),
        ({"features.fraction": 1.5}, "features.fraction must be at most 1; got 1.5"),
        ({"cluster.drop_outliers": 0.9}, "drop_outliers must be at most 0.5; got 0.9"),
        ({"latent.validation": float("nan")}, "latent.validation must be at least 0; got nan"),
        ({"latent.hidden": [64, 0]}, "latent.hidden must be at least 1; got 0"),
        ({"cepstrum.window": 9.0}, "unknown recipe key cepstrum.window; "),
        ({"features.inner": 9, "features.outer": 4}, "must be smaller than"),
        ({"cluster.space": "umap", "embed.umap": False}, "needs embed.umap"),
        ({"prepare.search": -3.0}, "prepare.search must be positive"),
        ({"seed.deeper": 3}, "seed is not a section"),
    ],
)
def test_wrong_recipes_are_one_line_errors(overrides, message):
    if "seed.deeper" in overrides:
        overrides = {"seed": 1, **overrides}
    with pytest.raises(InputError, match=message) as error:
        load_recipe(None, overrides)
    assert "\n" not in str(error.value)


def test_a_missing_or_broken_recipe_file(tmp_path):
    with pytest.raises(InputError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = = 3")
    with pytest.raises(InputError, match="not valid TOML"):
        load_recipe(broken)


SMALL = Dataset.from_array(np.zeros((2, 3, 128, 130), np.uint8))


@given(st.integers(1, 400))
def test_a_mask_outside_the_detector_is_refused_before_any_compute(radius):
    recipe = load_recipe(None, {"features.outer": radius})
    if radius <= 64:
        check_recipe_fits(recipe, SMALL)
    else:
        with pytest.raises(InputError, match="lies outside the 128 x 130 detector"):
            check_recipe_fits(recipe, SMALL)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"prepare.bin": 17}, "leaves too little of a 128 x 130 detector"),
        ({"strain.region": [0, 3, 0, 3]}, "outside the 2 x 3 scan"),
        ({"strain.cif": "none.cif"}, "there is no file none.cif"),
        ({"strain.cif": __file__}, "needs the detector's calibration"),
    ],
)
def test_what_does_not_fit_the_scan_is_refused_before_any_compute(overrides, message):
    with pytest.raises(InputError, match=message):
        check_recipe_fits(load_recipe(None, overrides), SMALL)


def test_a_table_that_is_read_as_a_pattern_is_said_to_be_too_small():
    table = Dataset.from_array(np.ones((1, 1, 4, 5)))
    with pytest.raises(InputError, match="patterns of 4 x 5 px are too small, expected 8 x 8"):
        check_recipe_fits(Recipe(), table)


def test_recipes_are_frozen_and_hashable():
    recipe = Recipe()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 3
    assert hash(recipe) == hash(Recipe())


@pytest.mark.parametrize("key", ["features.kind", "cluster.compare"])
def test_kinds_that_there_are_not_are_refused_before_any_compute(key):
    with pytest.raises(InputError, match="magic"):
        analyze_in_memory(SMALL, load_recipe(None, {key: "magic"}))


KEYS = list(recipe_keys())
CHANGED = {
    "seed": 5,
    "input.key": 'a "quoted" name',
    "input.crop_scan": [0, 4, 1, 9],
    "strain.g1": [0.5, 28],
    "strain.g2": [28, 0],
    "latent.hidden": [64],
}


def test_every_key_says_what_it_means():
    named = [f"{key.section}.{key.name}" for key in KEYS]
    sections = [part for part in dataclasses.fields(Recipe) if dataclasses.is_dataclass(part.type)]
    assert len(named) == 1 + sum(len(dataclasses.fields(part.type)) for part in sections)
    for name, key in zip(named, KEYS, strict=True):
        assert len(key.doc.text) > 8, name
        assert "\n" not in key.comment, name


@pytest.mark.parametrize("overrides", [{}, CHANGED])
def test_a_printed_recipe_has_its_meaning_above_every_key_and_loads_again(overrides, tmp_path):
    recipe = load_recipe(None, overrides)
    file = tmp_path / "recipe.toml"
    file.write_text(dump_recipe(recipe))
    assert load_recipe(file) == recipe
    lines = file.read_text().splitlines()
    for key in KEYS:
        where = lines.index(f"# {key.comment}")
        assert lines[where + 1].startswith(f"{key.name} = "), key


def test_a_recipe_that_was_printed_without_comments_loads_too():
    plain = tomllib.loads(dump_recipe(Recipe()))
    flat = {f"{s}.{k}": v for s, part in plain.items() if s != "seed" for k, v in part.items()}
    assert load_recipe(None, flat) == Recipe()


def test_sections_refuse_what_contradicts_itself_also_in_python():
    with pytest.raises(InputError, match="given together"):
        Strain(g1=(0.0, 28.0))
    with pytest.raises(InputError, match=r"needs embed\.codes"):
        Recipe(cluster=Cluster(space="codes"))


def test_the_page_of_the_recipe_is_up_to_date():
    page = (DOCS / "recipe.md").read_text()
    written = runpy.run_path(str(DOCS / "recipe_keys.py"))["page_with_keys"](page)
    assert written == page, "run `python docs/recipe_keys.py`"


def test_the_recipes_of_the_documentation_load(tmp_path):
    page = (DOCS / "recipe.md").read_text()
    examples = [part.partition("```")[0] for part in page.split("```toml\n")[1:]]
    assert len(examples) >= 5
    for example in examples:
        (tmp_path / "r.toml").write_text(example)
        assert load_recipe(tmp_path / "r.toml") != Recipe()
