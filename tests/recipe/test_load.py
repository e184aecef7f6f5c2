"""Recipes: what is read, how arms and overrides are laid over, and what is said of every kind of mistake."""

# ruff: noqa: E501  (whole sentences are compared)

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from issl_engine.recipe.load import RecipeError, change_recipe, load_recipe
from issl_engine.recipe.schema import RecipeFile

GOOD = """\
# A recipe for the tests
name: tiny
source: {name: shapes}
views:
  groups:
    - {count: 2, size: 32}
    - {count: 4, size: 16, area: [0.1, 0.3], augmentation: {flip: 1e-1}}
encoder:
  name: small_resnet
  width: 8
optimizer: {name: adamw, lr: 1e-3}
training:
  epochs: 3
  global_batch_size: 64
evaluation: {resize: 32, crop: 28}
probes:
  - {name: linear}
  - {name: knn}
arms:
  simclr:
    objective: {name: simclr, temperature: 0.2}
  dissl:
    objective: {name: dissl, num_classes: 128}
"""
SHARED = GOOD[: GOOD.index("arms:")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str | bytes, overrides: Sequence[str] = (), arms: Sequence[str] | None = None) -> RecipeFile:
    Path("x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_recipe("x.yaml", overrides, arms)


def mistakes(text: str | bytes, *overrides: str, arms: Sequence[str] | None = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, overrides, arms)
    return str(caught.value).splitlines()


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "unknown key": (
        changed("  width: 8", "  widht: 8"),
        "x.yaml:10: encoder.widht: unknown key; did you mean 'width'?",
    ),
    "unknown key, none like it": (
        changed("size: 16", "size: 16, zzz: 1"),
        "x.yaml:7: views.groups.1.zzz: unknown key (the keys here: count, size, area, ratio, augmentation, mean, std, mask)",
    ),
    "key of another part": (
        changed("  epochs: 3", "  epochs: 3\n  lr: 0.1"),
        "x.yaml:14: training.lr: unknown key here; it belongs under 'optimizer'",
    ),
    "key of the top level": (
        changed("  epochs: 3", "  epochs: 3\n  seeds: [1]"),
        "x.yaml:14: training.seeds: unknown key here; it belongs at the top level",
    ),
    "unknown key at the top": (
        changed("encoder:\n", "controlz: true\nencoder:\n"),
        "x.yaml:8: controlz: unknown key; did you mean 'controls'?",
    ),
    "unknown key in an arm": (
        changed("temperature: 0.2", "temprature: 0.2"),
        "x.yaml:21: arms.simclr.objective.temprature: unknown key; did you mean 'temperature'?",
    ),
    "missing key": (
        changed("  epochs: 3\n", ""),
        "x.yaml:12: training.epochs: missing; add 'epochs' under 'training' "
        "(Passes over the images that pretraining sees; fractions are allowed)",
    ),
    "missing part": (
        changed("evaluation: {resize: 32, crop: 28}\n", ""),
        "x.yaml:2: evaluation: missing; add 'evaluation' at the top level (Images for the probes)",
    ),
    "missing in one arm only": (
        changed("    objective: {name: simclr, temperature: 0.2}", "    schedule: {warmup_epochs: 1}"),
        "x.yaml:2: objective: missing; add 'objective' at the top level "
        "(The self-supervised loss and its heads) (in arm simclr)",
    ),
    "text for a number": (
        changed("epochs: 3", "epochs: abc"),
        'x.yaml:13: training.epochs: must be a number, not "abc"',
    ),
    "text for a whole number": (
        changed("width: 8", "width: wide"),
        'x.yaml:10: encoder.width: must be a whole number, not "wide"',
    ),
    "fraction for a whole number": (
        changed("width: 8", "width: 8.5"),
        "x.yaml:10: encoder.width: must be a whole number, not 8.5",
    ),
    "true for a number": (
        changed("epochs: 3", "epochs: true"),
        'x.yaml:13: training.epochs: must be a number, not "true"',
    ),
    "number for true or false": (GOOD + "controls: 3\n", "x.yaml:24: controls: must be true or false, not 3"),
    "null for a number": (
        changed("epochs: 3", "epochs:"),
        "x.yaml:13: training.epochs: must be a number, not null",
    ),
    "list for text": (changed("name: tiny", "name: [a]"), "x.yaml:2: name: must be text, not a list"),
    "number for a list": (GOOD + "seeds: 1\n", "x.yaml:24: seeds: must be a list, not 1"),
    "text for a mapping": (
        SHARED.replace("evaluation: {resize: 32, crop: 28}", "evaluation: fine") + "objective: {name: simclr}\n",
        'x.yaml:15: evaluation: must be a mapping of keys, not "fine"',
    ),
    "word for a part that may be null": (
        GOOD + "online_probe: no\n",
        'x.yaml:24: online_probe: must be a mapping of keys or null, not "no"',
    ),
    "too small": (
        changed("epochs: 3", "epochs: -0.1"),
        "x.yaml:13: training.epochs: must be greater than 0, not -0.1",
    ),
    "too large": (
        changed("flip: 1e-1", "flip: 1.5"),
        "x.yaml:7: views.groups.1.augmentation.flip: must be at most 1, not 1.5",
    ),
    "infinite": (
        changed("epochs: 3", "epochs: .inf"),
        "x.yaml:13: training.epochs: must be a finite number, not .inf",
    ),
    "not one of the words": (
        changed("  epochs: 3", "  epochs: 3\n  precision: fp16"),
        "x.yaml:14: training.precision: must be 'fp32' or 'bf16', not \"fp16\"",
    ),
    "pair of one": (
        changed("area: [0.1, 0.3]", "area: [0.1]"),
        "x.yaml:7: views.groups.1.area: must have 2 entries, not 1",
    ),
    "pair of three": (
        changed("area: [0.1, 0.3]", "area: [0.1, 0.2, 0.3]"),
        "x.yaml:7: views.groups.1.area: must have at most 2 entries, not 3",
    ),
    "empty list": (GOOD + "seeds: []\n", "x.yaml:24: seeds: must have at least 1 entry, not 0"),
    "two keys that do not fit": (
        changed("crop: 28", "crop: 40"),
        "x.yaml:15: evaluation: crop (40) is larger than resize (32); make crop smaller or equal",
    ),
    "key twice": (
        changed("  epochs: 3", "  epochs: 3\n  epochs: 4"),
        "x.yaml:14: training.epochs: this key is here a second time (first on line 13); keep one",
    ),
    "tab": (changed("  epochs: 3", "\tepochs: 3"), "x.yaml:13: a tab stands where YAML allows spaces only; "
            "indent with spaces"),
    "tab after spaces": (changed("  epochs: 3", "  \tepochs: 3"), "x.yaml:13: a tab stands where YAML allows "
                         "spaces only; indent with spaces"),
    "two colons": (
        changed("epochs: 3", "epochs: 3: 4"),
        "x.yaml:13: a ':' does not fit here; the line above may lack one, or this line have one too many",
    ),
    "indentation": (
        changed("  epochs: 3", "   epochs: 3"),
        "x.yaml:14: the indentation does not fit the lines above; align this key with its neighbours",
    ),
    "open bracket": (
        changed("{count: 2, size: 32}", "{count: 2, size: 32"),
        "x.yaml:6: the bracket that opens here is not closed, or a ',' is missing inside it",
    ),
    "open quote": (changed("epochs: 3", 'epochs: "3'), "x.yaml:13: the quote that opens here is not closed"),
    "two documents": (GOOD + "---\na: 1\n", "x.yaml:24: a second document starts here ('---'); a recipe file holds one"),
    "merge key": (
        changed("  epochs: 3", "  epochs: 3\n  <<: {a: 1}"),
        "x.yaml:14: training: merge keys ('<<') are not read; write the keys out, or share them between arms",
    ),
    "Python object": (
        changed("epochs: 3", "epochs: !!python/name:os.system 3"),
        "x.yaml:13: training.epochs: the tag 'tag:yaml.org,2002:python/name:os.system' is not read here; remove it",
    ),
    "empty file": ("", "x.yaml:1: the file is empty; a recipe is a mapping of keys"),
    "comments only": ("# nothing\n", "x.yaml:1: the file is empty; a recipe is a mapping of keys"),
    "list": ("# a list\n- a\n", "x.yaml:2: a recipe is a mapping of keys, not a list"),
    "word": ("hello\n", "x.yaml:1: a recipe is a mapping of keys, not one word or number"),
    "not UTF-8": (b"name: a\ndescription: \xff\n", "x.yaml:2: this is not UTF-8 text; save the recipe as UTF-8"),
    "control character": (
        b"name: a\ndescription: \x01\n",
        "x.yaml:2: a control character (code 0x1) is not allowed here; remove it",
    ),
    "arms as a list": (
        SHARED + "arms: [a, b]\n",
        "x.yaml:19: arms: must be a mapping of arm names to the keys in which each arm differs; "
        "add one or remove 'arms'",
    ),
    "arm as a word": (
        GOOD + "  third: byol\n",
        "x.yaml:24: arms.third: must be a mapping of the keys in which this arm differs, or empty",
    ),
    "arm that is a path": (
        changed("  dissl:\n", "  ../dissl:\n"),
        "x.yaml:22: arms.../dissl: an arm's name is a folder's name too: letters, digits, '_' and '-' only",
    ),
    "arm with its own seeds": (
        GOOD + "    seeds: [1]\n",
        "x.yaml:24: arms.dissl.seeds: this holds for the whole recipe, so no arm has its own; give it at the top level",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_reported_in_one_sentence_with_its_line(case: str, folder: Path) -> None:
    text, sentence = BAD_FILES[case]
    assert mistakes(text) == [sentence]


def names_after(line: str) -> list[str]:
    found = re.search(r"\(one of: (.*)\)$", line)
    assert found, line
    return found[1].split(", ")


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("name: dissl,", "name: disl,", "x.yaml:23: arms.dissl.objective.name: unknown objective 'disl'; "
         "did you mean 'dissl'? (one of: "),
        ("{name: knn}", "{name: knnn}", "x.yaml:18: probes.1.name: unknown probe 'knnn'; did you mean 'knn'? "),
        ("name: shapes", "name: 3", "x.yaml:3: source.name: unknown source '3' (one of: "),
        ("name: shapes", "name:", "x.yaml:3: source.name: must be the name of the source, not null (one of: "),
        ("  name: small_resnet\n", "", "x.yaml:8: encoder.name: missing; name the encoder (one of: "),
        ("{name: dissl, num_classes: 128}", "dissl", "x.yaml:23: arms.dissl.objective: must be a mapping such as "
         '{name: dissl}, not "dissl" (one of: '),
    ],
)  # fmt: skip
def test_a_component_is_looked_up_by_name(old: str, new: str, start: str, folder: Path) -> None:
    (line,) = mistakes(changed(old, new))
    assert line.startswith(start)
    assert len(names_after(line)) > 1


def test_all_mistakes_come_at_once_in_the_files_order_and_none_twice(folder: Path) -> None:
    text = changed("epochs: 3", "epochs: -3").replace("size: 32}", "size: 3}").replace("num_classes", "nc")
    text = text.replace("  width: 8", "  width: 8\n  width: 9")
    lines = mistakes(text, "training.global_batch_size=1")
    starts = [line.split(": ")[:2] for line in lines]
    assert starts == [
        ["x.yaml:6", "views.groups.0.size"],
        ["x.yaml:11", "encoder.width"],
        ["x.yaml:14", "training.epochs"],
        ["x.yaml:24", "arms.dissl.objective.nc"],
        ["command line", "training.global_batch_size"],
    ]


def test_no_sentence_speaks_of_the_machinery(folder: Path) -> None:
    everything = " ".join(" ".join(mistakes(text)) for text, _ in BAD_FILES.values()).lower()
    for word in (
        "pydantic",
        "https:",
        "validation error",
        "input should",
        "discriminat",
        "traceback",
        "tagged",
    ):
        assert word not in everything


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.epohs=2", "command line: training.epohs: unknown key; did you mean 'epochs'?"),
        ("training.epochs=0", "command line: training.epochs: must be greater than 0, not 0"),
        ("training.epochs=", "command line: training.epochs: must be a number, not null"),
        ("training.epochs.x=3", "command line: training.epochs: must be a number, not a mapping"),
        ("training=3", "command line: training: must be a mapping of keys, not 3"),
        ("views.groups.5.size=24", "command line: views.groups.5.size: 'views.groups' has 2 entries, the last is "
         "views.groups.1"),
        ("views.groups.first.size=24", "command line: views.groups.first.size: 'views.groups' is a list of 2; "
         "give a place in it, such as views.groups.0"),
        ("training.epochs=[1", "command line: training.epochs: the bracket that opens here is not closed, "
         "or a ',' is missing inside it"),
        ("epochs", "command line: 'epochs' is not an override; write key.path=value, such as training.epochs=2"),
        ("a..b=3", "command line: 'a..b=3' is not an override; write key.path=value, such as training.epochs=2"),
        ("arms.swav.training.epochs=2", "command line: arms.swav.training.epochs: the recipe has no arm 'swav' "
         "(its arms: simclr, dissl)"),
        ("arms.disl.training.epochs=2", "command line: arms.disl.training.epochs: the recipe has no arm 'disl'; "
         "did you mean 'dissl'? (its arms: simclr, dissl)"),
        ("arms.dissl=3", "command line: arms.dissl: an arm's override names a key of it: arms.<arm>.key.path=value"),
        ("arms.dissl.training.epochs=x", 'command line: arms.dissl.training.epochs: must be a number, not "x"'),
        ("arms.dissl.seeds=[1]", "command line: arms.dissl.seeds: this holds for the whole recipe, so no arm has "
         "its own; give it at the top level"),
        ("objective.num_classes=0", "command line: objective.num_classes: "),
    ],
)  # fmt: skip
def test_a_bad_override_is_reported_as_the_command_lines(override: str, sentence: str, folder: Path) -> None:
    lines = mistakes(GOOD, override)
    assert lines[0].startswith(sentence)
    assert len(lines) == (2 if override == "objective.num_classes=0" else 1)


def test_a_key_that_fits_some_arms_only_names_the_arms(folder: Path) -> None:
    (line,) = mistakes(GOOD, "objective.num_classes=64")
    assert line.startswith("command line: objective.num_classes: unknown key")
    assert line.endswith("(in arm simclr)")


def test_an_unknown_arm_is_reported(folder: Path) -> None:
    assert mistakes(GOOD, arms=["disl"]) == [
        "command line: the recipe has no arm 'disl'; did you mean 'dissl'? (its arms: simclr, dissl)"
    ]


@pytest.mark.parametrize("path", ["missing.yaml", "missing", "swav_compar", ".", "x" * 300])
def test_a_file_that_is_not_there_is_reported(path: str, folder: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_arms_share_what_they_do_not_change(folder: Path) -> None:
    file = load(GOOD + "    encoder: {width: 4}\n    training: {epochs: 5}\n")
    assert list(file.arms) == ["simclr", "dissl"]
    assert file.text.startswith("# A recipe")
    simclr, dissl = file.arms.values()
    assert simclr.objective.model_dump()["temperature"] == 0.2
    assert dissl.objective.model_dump()["num_classes"] == 128
    assert (simclr.training.epochs, dissl.training.epochs) == (3, 5)
    assert dissl.training.global_batch_size == 64
    assert (simclr.encoder.model_dump()["width"], dissl.encoder.model_dump()["width"]) == (8, 4)
    assert dissl.encoder.name == "small_resnet"


def test_an_arm_that_names_another_component_keeps_nothing_of_the_shared_one(folder: Path) -> None:
    text = SHARED + "objective: {name: simclr, temperature: 0.3}\narms:\n  a:\n  b:\n    objective: {name: dissl}\n"
    file = load(text)
    assert file.arms["a"].objective.model_dump()["temperature"] == 0.3
    assert file.arms["b"].objective.name == "dissl"


def test_an_arm_of_the_same_component_keeps_the_shared_keys(folder: Path) -> None:
    text = SHARED + "objective: {name: dissl, num_classes: 32}\narms:\n  b:\n    objective: {name: dissl}\n"
    assert load(text).arms["b"].objective.model_dump()["num_classes"] == 32


def test_lists_of_an_arm_replace_the_shared_ones(folder: Path) -> None:
    file = load(GOOD + "    probes: [{name: knn}]\n")
    assert [len(arm.probes) for arm in file.arms.values()] == [2, 1]


def test_a_file_without_arms_has_one_named_after_its_objective(folder: Path) -> None:
    assert list(load(SHARED + "objective: {name: dissl}\n").arms) == ["dissl"]


def test_only_the_arms_asked_for_are_kept_in_the_files_order(folder: Path) -> None:
    assert list(load(GOOD, arms=["dissl"]).arms) == ["dissl"]
    assert list(load(GOOD, arms=["dissl", "simclr"]).arms) == ["simclr", "dissl"]


def test_values_take_the_declared_type(folder: Path) -> None:
    text = changed("name: tiny", "name: 2024").replace("epochs: 3", "epochs: 1e-1") + "controls: no\n"
    recipe = load(text).arms["simclr"]
    assert (recipe.name, recipe.training.epochs, recipe.controls) == ("2024", 0.1, False)
    assert load(changed("name: tiny", "name: no")).arms["simclr"].name == "no"
    assert load(changed("name: tiny", "name: 1.10")).arms["simclr"].name == "1.10"


def test_overrides_reach_every_arm_or_one(folder: Path) -> None:
    file = load(
        GOOD,
        ["training.epochs=1e1", "arms.dissl.training.epochs=7", "views.groups.0.size=24", "seeds=[3, 4]"],
    )
    assert [arm.training.epochs for arm in file.arms.values()] == [10, 7]
    assert file.arms["dissl"].views.groups[0].size == 24
    assert file.arms["dissl"].views.groups[1].size == 16
    assert file.arms["simclr"].seeds == (3, 4)
    assert file.overrides[1] == "arms.dissl.training.epochs=7"


@pytest.mark.parametrize("swap", [False, True])
def test_an_override_of_a_name_replaces_the_component_wherever_it_stands(swap: bool, folder: Path) -> None:
    overrides = ["objective.name=dissl", "objective.num_classes=16"]
    file = load(GOOD, overrides[::-1] if swap else overrides)
    assert [arm.objective.model_dump()["num_classes"] for arm in file.arms.values()] == [16, 16]


def test_an_override_makes_the_mapping_it_needs(folder: Path) -> None:
    recipe = load(GOOD, ["deepspeed.zero_stage=1", "views.augmentation.blur.probability=0.3"]).arms["dissl"]
    assert recipe.deepspeed.zero_stage == 1
    assert recipe.views.augmentation.blur is not None
    assert recipe.views.augmentation.blur.probability == 0.3


def test_an_override_may_change_the_title_without_losing_the_recipe(folder: Path) -> None:
    file = load(GOOD, ["name=other"])
    assert file.arms["dissl"].name == "other"
    assert file.arms["dissl"].training.epochs == 3


def test_a_resolved_recipe_can_be_changed(folder: Path) -> None:
    recipe = load(GOOD).arms["dissl"]
    assert change_recipe(recipe, ["probes=[{name: knn}]"]).probes[0].name == "knn"
    assert change_recipe(recipe, []) == recipe
    with pytest.raises(RecipeError, match=r"^command line: training.epochs: must be a number"):
        change_recipe(recipe, ["training.epochs=x"])


def test_a_group_of_a_predictor_that_is_not_there_is_refused(folder: Path) -> None:
    found = mistakes(
        changed("lr: 1e-3}", "lr: 1e-3, groups: [{of: predictor, follows_schedule: no}]}"), arms=["simclr"]
    )
    assert found == [
        "x.yaml:2: optimizer.groups has one of the predictor, and objective simclr has no predictor; leave the group out or choose one of byol, matrix_ssl, sem, simsiam, ssl_hsic"
    ]
