"""Single keys of a recipe's text change; its comments and all else stay."""

import pytest
import yaml

from issl_engine.recipe.edit import CannotEdit, set_key

TEXT = """\
# A title.
name: x  # the name
text: >-
  several
  lines

numbers: {a: 1, b: [1, 2]}
block:
  a: 1  # one
  # about b
  b: 2

# about the arms
arms:
  one:
    # about one
    objective: {name: swav, epsilon: 0.03}
  two:
    objective:
      name: dissl
  three:
  four: {}
"""


@pytest.mark.parametrize(
    ("keys", "value", "line"),
    [
        ("name", "y", "name: y  # the name"),
        ("numbers.a", 5, "numbers: {a: 5, b: [1, 2]}"),
        ("numbers.b", [3], "numbers: {a: 1, b: [3]}"),
        ("numbers.b.1", 7, "numbers: {a: 1, b: [1, 7]}"),
        ("block.a", 1e-5, "  a: 1.0e-05  # one"),
        ("block.c", True, "  c: true"),
        ("arms.one.objective.epsilon", 0.05, "    objective: {name: swav, epsilon: 0.05}"),
        ("arms.one.objective.k", 3, "    objective: {name: swav, epsilon: 0.03, k: 3}"),
        ("arms.one.optimizer.lr", 0.1, "    optimizer: {lr: 0.1}"),
        ("arms.two.objective.k", 3, "      k: 3"),
        ("arms.three.optimizer.lr", 0.1, "  three: {optimizer: {lr: 0.1}}"),
        ("arms.four.optimizer.lr", 0.1, "  four: {optimizer: {lr: 0.1}}"),
        ("last", 1, "last: 1"),
    ],
)
def test_one_line_changes_or_is_added(keys: str, value: object, line: str) -> None:
    before, after = TEXT.splitlines(), set_key(TEXT, keys.split("."), value).splitlines()
    assert line in after
    new = [one for one in after if one not in before]
    assert new == [line]
    assert len(after) - len(before) in (0, 1)
    wanted = yaml.safe_load(TEXT)
    place = wanted
    *parents, last = [int(key) if key.isdecimal() else key for key in keys.split(".")]
    for key in parents:
        if isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[key]
    place[last] = value
    assert yaml.safe_load("\n".join(after)) == wanted


@pytest.mark.parametrize("keys", ["text", "block", "numbers.b.9", "name.inner"])
def test_what_cannot_be_edited_is_left_to_the_caller(keys: str) -> None:
    with pytest.raises(CannotEdit):
        set_key(TEXT, keys.split("."), 1)
