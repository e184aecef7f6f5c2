"""What is said of mistakes in the keys of views: file, line, key, and what to do."""

from pathlib import Path

import pytest

from issl_engine.recipe.load import RecipeError, load_recipe

RECIPE = """\
name: tiny
source: {name: shapes}
views:
  groups:
    - count: 2
      size: 32
      mask: {patch_size: 8}
  augmentation:
    policy: {name: rand_augment}
    rotation: {degrees: [-10, 10]}
    gaussian_noise: {std: [1, 5]}
    operators:
      - {function: "a.b:c"}
encoder: {name: small_resnet, width: 8}
objective: {name: simclr}
optimizer: {name: adamw, lr: 1e-3}
training: {epochs: 1, global_batch_size: 4}
evaluation: {resize: 32, crop: 32}
probes: [{name: linear}]
"""


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ("patch_size: 8", "patch_size: 5", "5: views.groups.0: mask.patch_size is 5 px, which does not divide the "
         "crops' size of 32 px; choose a divisor"),
        ("patch_size: 8", "patch_size: 8, ratio: [0.5, 1.2]", "7: views.groups.0.mask: ratio must be two shares "
         "0 <= low <= high <= 1, not [0.5, 1.2]"),
        ("patch_size: 8", "patch_size: 8, kind: blocks", "7: views.groups.0.mask.kind: must be 'random' or 'block', "
         'not "blocks"'),
        ("rand_augment", "rand_augmnt", "9: views.augmentation.policy.name: unknown policy 'rand_augmnt'; did you "
         "mean 'rand_augment'? (one of: rand_augment, trivial_augment)"),
        ("rand_augment", "rand_augment, magnitude: 31", "9: views.augmentation.policy.magnitude: must be at most 30, "
         "not 31"),
        ("[-10, 10]", "[10, -10]", "10: views.augmentation.rotation: degrees must be two angles "
         "-180 <= low <= high <= 180, not [10.0, -10.0]"),
        ("[1, 5]", "[0, 5]", "11: views.augmentation.gaussian_noise: std must be two numbers 0 < low <= high <= 255, "
         "not [0.0, 5.0]"),
        ("a.b:c", "a.b.c", "13: views.augmentation.operators.0.function: 'a.b.c' is not of the form "
         "package.module:name; write where the function is"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_in_one_sentence(good: str, bad: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(RECIPE)
    load_recipe(path)
    assert good in RECIPE
    path.write_text(RECIPE.replace(good, bad))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value) == f"{path}:{sentence}"
