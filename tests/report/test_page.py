"""The page without a browser: columns, marks, escaping, and that equal runs give equal pages."""

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from issl_engine.report.compare import compare_runs
from issl_engine.report.page_data import page_data
from issl_engine.report.page_files import SCRIPTS
from issl_engine.report.run_folder import ReportError, load_run
from issl_engine.report.table import headline
from issl_engine.report.write import write_all, write_report

from .run_folders import add_maps, make_run, result


def embedded(page: str, name: str) -> Any:
    """The data that the page's script reads."""
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
    return json.loads(text)


def table(page: str, name: str) -> list[list[tuple[str, str]]]:
    """(attributes, text) of each cell, a list per row, the head first."""
    (content,) = re.findall(rf'<table id="{name}-table">(.*?)</table>', page)
    return [re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", content)]


def set_probes(run: Path, arm: str, seed: int, results: list[dict[str, Any]]) -> None:
    (run / arm / f"seed{seed}" / "probes.json").write_text(json.dumps(results))


def test_every_probe_setting_and_metric_has_its_column(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0, "b": 70.0}, seeds=[0])
    for arm, error in (("a", 0.2), ("b", 0.4)):
        few = result(50.0, setting="5-shot", draws=(49.0, 51.0), interval=(40.0, 60.0))
        set_probes(run, arm, 0, [result(60.0, interval=(58.5, 61.5)), few, result(error, "ridge", metric="rmse")])
    head, first, second, *_ = table(write_report(run).read_text(), "results")
    titles = [text for _, text in head]
    assert titles[2:5] == ["linear probe top-1 %", "linear probe, 5-shot, top-1 %", "ridge regression RMSE"]
    assert [text for _, text in first[2:4]] == ["60.0 [58.5, 61.5]", "50.0 ± 12.7"]
    assert first[4][1] == "0.200"
    assert 'class="best"' in first[4][0]  # a lower error is better
    assert 'class="best"' not in second[4][0]
    assert 'data-sort="60"' in first[2][0]  # intervals sort by their mean


def test_the_terminal_shows_plain_columns_and_says_where_the_others_are(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    set_probes(run, "a", 0, [result(60.0), result(50.0, setting="5-shot")])
    titles, _ = headline(load_run(run))
    assert [title for title in titles if "probe" in title] == ["linear probe top-1 %"]


def test_best_mean_of_the_arms_is_marked_and_no_controls(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 10.0, "b": 30.0})
    rows = table(write_report(run).read_text(), "results")[1:]
    assert ['class="best"' in row[2][0] for row in rows] == [False, True, False, False]


def test_measures_stand_beside_what_theory_says(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0})
    page = write_report(run).read_text()
    assert [[text for _, text in row] for row in table(page, "measures")] == [
        ["measure", "optimum, by theory", "a"], ["etf_cosine", "-0.5", "-0.2"], ["rank_me", "–", "7"],
    ]  # fmt: skip
    assert embedded(page, "run-data")["rows"][0]["seeds"][0]["spectra"]["projection"] == [0.9, 0.1]


def test_an_optimum_that_arms_do_not_share_stands_in_each_cell(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0, "b": 60.0}, seeds=[0])
    other = {"measures": {"etf_cosine": -0.1}, "optimum": {"etf_cosine": -0.25}}
    (run / "b" / "seed0" / "diagnostics.json").write_text(json.dumps(other))
    rows = [[text for _, text in row] for row in table(write_report(run).read_text(), "measures")]
    assert rows[:2] == [["measure", "a", "b"], ["etf_cosine", "-0.2 (optimum -0.5)", "-0.1 (optimum -0.25)"]]


def test_diagnostics_that_are_logged_now_and_then_have_their_section(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    (run / "a" / "seed0" / "diagnostics.json").unlink()
    metrics = run / "a" / "seed0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 60, "epoch": 6.0, "loss": 1.0, "images_per_second": 1}\n')
    assert 'id="diagnostic-curves"' in write_report(run).read_text()
    metrics.write_text('{"step": 60, "epoch": 6.0, "loss": 1.0, "images_per_second": 1}\n')
    assert 'id="diagnostic-curves"' not in write_report(run).read_text()


def test_the_untrained_encoders_measures_stand_beside_the_arms(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    path = run / "controls" / "seed0" / "untrained-00000512" / "diagnostics-01234567.json"
    path.write_text(json.dumps({"measures": {"rank_me": 2.5}}))
    rows = [[text for _, text in row] for row in table(write_report(run).read_text(), "measures")]
    assert rows[0] == ["measure", "optimum, by theory", "a", "untrained encoder"]
    assert rows[2] == ["rank_me", "–", "7", "2.5"]


def test_damaged_diagnostics_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0})
    (run / "a" / "seed0" / "diagnostics.json").write_text('{"measures": [1]}')
    with pytest.raises(ReportError, match=r"diagnostics\.json: these are no diagnostics"):
        load_run(run)


def test_recipe_table_holds_the_keys_that_differ_and_no_others(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0, "b": 70.0})
    rows = [[text for _, text in row] for row in table(write_report(run).read_text(), "recipe")]
    assert rows == [["key", "a", "b"], ["objective.temperature", "0.1", "0.2"]]


def test_a_comparison_distinguishes_runs_of_one_name(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / place / "run", {"a": 60.0}) for place in ("one", "two")]
    (runs[1] / "environment.json").write_text(json.dumps({"cpu": "another CPU", "commit": "def"}))
    both = compare_runs(runs)
    assert [arm.name for arm in both.arms] == [f"{run}: a" for run in runs]
    page = write_all(tmp_path / "both", both).read_text()
    environment = {row[0][1]: row[1:] for row in table(page, "environment")}
    assert [text for _, text in environment["cpu"]] == ["a CPU", "another CPU"]
    assert all('class="best"' in attributes for attributes, _ in environment["cpu"])
    assert [text for _, text in table(page, "results")[1]][1] == str(runs[0])


def test_a_run_named_twice_is_compared_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0})
    assert [arm.name for arm in compare_runs([run, tmp_path / "." / "run"]).arms] == ["a"]


NAUGHTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&"


def test_names_of_all_kinds_stay_text(tmp_path: Path) -> None:
    arm = "<script>alert(1)<" + "script>'\"&"  # a folder's name can hold no slash
    run = make_run(tmp_path / "run", {arm: 60.0})
    record = json.loads((run / "run.json").read_text()) | {"description": NAUGHTY, "recipe": NAUGHTY}
    (run / "run.json").write_text(json.dumps(record))
    set_probes(run, arm, 0, [result(60.0, setting=NAUGHTY)])
    add_maps(run)
    page = write_report(run).read_text()
    outside = re.sub(r"<script>.*?</script>|<script type=[^>]*>[^<]*</script>", "", page, flags=re.S)
    assert "<script" not in outside
    assert "<img src=x" not in page
    assert embedded(page, "run-data")["rows"][0]["name"] == arm
    (sprite,) = embedded(page, "map-data")["sprites"].values()
    assert sprite["classes"][2] == "<script>alert('class')</script>"


def test_only_the_pages_own_script_may_run(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run", {"a": 60.0})).read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy


def test_every_script_of_the_folder_is_in_the_page() -> None:
    folder = Path(__file__).parents[2] / "engine" / "issl_engine" / "report" / "page"
    assert {path.name for path in folder.glob("*.js")} == set(SCRIPTS)


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    first = make_run(tmp_path / "one" / "run", {"a": 60.0, "b": 61.0})
    add_maps(first)
    shutil.copytree(first, tmp_path / "two" / "run")
    assert write_report(first).read_bytes() == write_report(tmp_path / "two" / "run").read_bytes()


def test_a_run_without_maps_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0})
    assert "There are no feature maps here" in write_report(run).read_text()
    add_maps(run)
    page = write_report(run).read_text()
    assert "There are no feature maps here" not in page
    (run / "a" / "seed0" / "feature_map.npz").write_bytes(b"torn")
    assert embedded(write_report(run).read_text(), "map-data")["maps"] == []


def test_numbers_that_json_lacks_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    metrics = run / "a" / "seed0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 60, "epoch": 6.0, "loss": NaN, "images_per_second": 1}\n')
    assert embedded(write_report(run).read_text(), "run-data")["rows"][0]["seeds"][0]["curves"]["loss"][-1] is None


def test_a_long_run_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    lines = [{"step": s, "epoch": s / 9, "loss": 1 / (s + 1), "images_per_second": 1.5} for s in range(30_000)]
    (run / "a" / "seed0" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (seed,) = page_data(load_run(run))["rows"][0]["seeds"]
    assert seed["curves"]["step"][-1] == 29_999
    assert seed["every"] == 2
    assert len(seed["curves"]["loss"]) == 15_000


def test_a_record_that_is_none_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0})
    (run / "run.json").write_text("[]")
    with pytest.raises(ReportError, match="no record of a run"):
        load_run(run)
