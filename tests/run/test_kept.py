"""The one rule of what is done: kept while whole and made of the same, made anew and reported otherwise."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from issl_engine.probing.probes.base import ProbeResult
from issl_engine.run.kept import LEDGER, Kept, digest_of, first_difference

KEY = {"encoder": "a", "evaluation": {"resize": 8, "sizes": (1, 2)}}


def maker(content: bytes, made: list[bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        made.append(content)
        path.write_bytes(content)

    return make


def test_a_result_is_made_once_and_again_in_another_process(tmp_path: Path) -> None:
    made: list[bytes] = []
    kept = Kept(tmp_path / "new")
    for _ in range(2):
        assert kept.file("x.bin", KEY, maker(b"x", made)).read_bytes() == b"x"
    Kept(tmp_path / "new").file("x.bin", KEY, maker(b"x", made))
    assert made == [b"x"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (KEY | {"encoder": "b"}, 'encoder is "a" there and "b" here'),
        (KEY | {"evaluation": {"resize": 9, "sizes": (1, 2)}}, "evaluation.resize is 8 there and 9 here"),
        (KEY | {"evaluation": {"resize": 8, "sizes": (1, 3)}}, "evaluation.sizes is [1, 2] there and [1, 3] here"),
        (KEY | {"seed": 1}, "seed is null there and 1 here"),
        ({"encoder": "a"}, "evaluation is"),
    ],
)
def test_a_result_of_something_else_is_made_anew_and_the_log_says_why(
    tmp_path: Path, key: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[bytes] = []
    Kept(tmp_path).file("x", KEY, maker(b"1", made))
    with caplog.at_level(logging.INFO, "issl_engine"):
        Kept(tmp_path).file("x", key, maker(b"2", made))
    assert made == [b"1", b"2"]
    assert f"{tmp_path / 'x'}: {said}" in caplog.text
    assert "so it is made anew" in caplog.text
    assert (tmp_path / "x").read_bytes() == b"2"


@pytest.mark.parametrize("damage", [b"", b"on", b"two", None])
def test_a_damaged_result_is_made_anew_and_a_missing_one_made(tmp_path: Path, damage: bytes | None) -> None:
    made: list[bytes] = []
    path = Kept(tmp_path).file("x", KEY, maker(b"one", made))
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert Kept(tmp_path).file("x", KEY, maker(b"one", made)).read_bytes() == b"one"
    assert len(made) == 2


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 1}', '{"format": 0, "results": {}}', '{"format": 1, "results": {"x": 3}}']
)
def test_without_a_whole_ledger_nothing_counts_as_done(tmp_path: Path, damage: str) -> None:
    made: list[bytes] = []
    Kept(tmp_path).file("x", KEY, maker(b"1", made))
    (tmp_path / LEDGER).write_text(damage)
    Kept(tmp_path).file("x", KEY, maker(b"1", made))
    Kept(tmp_path).file("x", KEY, maker(b"1", made))
    assert len(made) == 2


def test_the_old_result_stays_where_its_successor_fails(tmp_path: Path) -> None:
    made: list[bytes] = []
    Kept(tmp_path).file("x", KEY, maker(b"old", made))

    def fail(_: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Kept(tmp_path).file("x", KEY | {"encoder": "b"}, fail)
    assert (tmp_path / "x").read_bytes() == b"old"
    Kept(tmp_path).file("x", KEY, maker(b"again", made))
    assert made == [b"old"], "it is still what its own key says"
    Kept(tmp_path).file("x", KEY | {"encoder": "b"}, maker(b"new", made))
    assert made == [b"old", b"new"]


def test_a_dropped_result_is_gone_and_a_file_of_others_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    kept = Kept(tmp_path)
    kept.file("x", KEY, maker(b"1", []))
    for name in ("x", "mine.txt", "never.there"):
        kept.drop(name)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", LEDGER}
    assert json.loads((tmp_path / LEDGER).read_text())["results"] == {}


def test_results_of_probes_come_back_as_they_were(tmp_path: Path) -> None:
    result = ProbeResult(
        probe="p", metric="top1", value=50.0, split="test", num_train_images=2, num_split_images=2,
        held_out_value=None, interval=(40.0, 60.0), draws=(49.0, 51.0),
    )  # fmt: skip
    assert Kept(tmp_path).results("r.json", KEY, lambda: [result]) == [result]
    assert Kept(tmp_path).results("r.json", KEY, list) == [result]
    assert Kept(None).results("r.json", KEY, lambda: [result]) == [result], "nothing is kept without a folder"


def test_digests_and_differences_see_every_key() -> None:
    assert digest_of(KEY) == digest_of(dict(reversed(KEY.items())))
    assert digest_of(KEY) != digest_of(KEY | {"encoder": "b"})
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 1}}) is None
    assert first_difference({"a": {"b": 1}, "c": 1}, {"a": {"b": 1}}) == "c is 1 there and null here"
