import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax4dstem.errors import InputError
from jax4dstem.pipeline.recipe import Recipe, check_recipe_fits, dump_recipe, load_recipe


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
    assert recipe.cepstrum.window is None


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
        ({"features.kind": "magic"}, "features.kind must be one of std, raw"),
        ({"cluster.methods": "kmeans"}, "cluster.methods must be a list"),
        ({"cluster.methods": []}, "cluster.methods must be a list"),
        ({"input.scan_shape": [3]}, "a list of 2 values"),
        ({"cluster.k_max": 1}, "cluster.k_max must be at least 2"),
        ({"features.fraction": 0.0}, r"features.fraction must lie in \(0, 1\]"),
        ({"cluster.drop_outliers": 0.9}, "drop_outliers must lie"),
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


@given(st.integers(1, 400))
def test_a_mask_outside_the_detector_is_refused_before_any_compute(radius):
    recipe = load_recipe(None, {"features.outer": radius})
    if radius <= 64:
        check_recipe_fits(recipe, (128, 130))
    else:
        with pytest.raises(InputError, match="lies outside the 128 x 130 detector"):
            check_recipe_fits(recipe, (128, 130))


def test_recipes_are_frozen_and_hashable():
    recipe = Recipe()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 3
    assert hash(recipe) == hash(Recipe())
