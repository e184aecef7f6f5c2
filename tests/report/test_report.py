"""Run folders become tables, CSV and one page that needs nothing else."""

import csv
import json
import logging
import math
import re
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from issl_engine.report.compare import compare_runs
from issl_engine.report.csv_file import COLUMNS
from issl_engine.report.run_folder import ReportError, load_run
from issl_engine.report.statistics import summarise
from issl_engine.report.table import headline, meaning, print_table
from issl_engine.report.write import write_all, write_report

from .run_folders import SEEDS, make_run


@pytest.mark.parametrize("count", [2, 3, 5, 12, 31])
def test_interval_is_students_t(count: int) -> None:
    values = [50 + math.sin(i) for i in range(count)]
    low, high = stats.t.interval(0.95, count - 1, loc=sum(values) / count, scale=stats.sem(values))
    found = summarise(values)
    assert found.mean == pytest.approx((low + high) / 2)
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-3)


def test_one_seed_has_no_interval() -> None:
    assert summarise([50.0]).half_width is None
    assert str(summarise([50.0])) == "50.0"


def test_table_has_means_intervals_and_the_gain_over_the_untrained_encoder(tmp_path: Path) -> None:
    titles, rows = headline(load_run(make_run(tmp_path / "run", {"a": 60.0, "b": 70.0})))
    table = [dict(zip(titles, row, strict=True)) for row in rows]
    assert [row["arm"] for row in table] == ["a", "b", "untrained encoder", "raw pixels"]
    assert table[0]["linear probe top-1 %"] == "61.0 ± 2.5"
    assert table[0]["over untrained"] == "+21.0 ± 2.5"
    assert table[0]["images/s"] == "130"
    assert table[2]["over untrained"] == "–"


def test_each_arm_is_compared_with_its_own_untrained_encoder(tmp_path: Path) -> None:
    """In the terminal's table, in the CSV and on the page: the wide arm's gain is not the width's."""
    untrained = {"wide": (2048, 55.0)}
    run = make_run(tmp_path / "run", {"narrow": 60.0, "wide": 70.0, "again": 62.0}, untrained=untrained)
    titles, rows = headline(load_run(run))
    table = {row[0]: dict(zip(titles, row, strict=True)) for row in rows}
    names = ["narrow", "wide", "again", "untrained encoder (512)", "untrained encoder (2048)", "raw pixels"]
    assert list(table) == names
    assert [table[arm]["over untrained"] for arm in ("narrow", "wide", "again")] == [
        "+21.0 ± 2.5", "+16.0 ± 2.5", "+23.0 ± 2.5",
    ]  # fmt: skip
    assert [table[name]["linear probe top-1 %"][:4] for name in names[3:]] == ["40.0", "55.0", "20.0"]
    arms = {arm["name"]: arm for arm in load_run(run).as_json()["arms"]}
    assert arms["wide"]["seeds"][2]["over_untrained"] == {"linear": 72.0 - 55.0, "knn": 67.0 - 50.0}
    page = write_report(run).read_text()
    assert all(f">{text}<" in page for text in ("+16.0 ± 2.5", "+23.0 ± 2.5", *names))
    assert "its own untrained encoder, linear probe top-1 %: seed 0: 55.00; seed 1: 55.00" in page
    with (run / "results.csv").open() as file:
        lines = {(line["arm"], line["seed"], line["probe"]): line for line in csv.DictReader(file)}
    assert float(lines["wide", "2", "linear"]["over_untrained"]) == 72 - 55
    assert float(lines["wide", "2", "knn"]["over_untrained"]) == 67 - 50
    assert float(lines["again", "1", "linear"]["over_untrained"]) == 63 - 40
    assert lines["untrained encoder (2048)", "1", "linear"]["over_untrained"] == ""


def test_how_near_fits_are_to_their_optimum_is_said_wherever_probes_are(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0, 1])
    for seed, gap in ((0, 3e-5), (1, 8e-5)):
        linear, knn = json.loads((folder / "a" / f"seed{seed}" / "probes.json").read_text())
        (folder / "a" / f"seed{seed}" / "probes.json").write_text(json.dumps([linear | {"optimality_gap": gap}, knn]))
    lines = meaning(load_run(folder))
    assert lines[0].endswith("largest duality gap of a fit 8.0e-05 nats")
    assert "gap" not in lines[1]
    assert "seed 0: 60.00 (duality gap 3.0e-05 nats); seed 1: 61.00 (duality gap 8.0e-05 nats)" in (
        write_report(folder).read_text()
    )
    with (folder / "results.csv").open() as file:
        found = [line["optimality_gap"] for line in csv.DictReader(file) if line["arm"] == "a"]
    assert found == ["3e-05", "", "8e-05", ""]


def test_untrained_encoders_of_one_width_are_distinguished_by_their_arms(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0, "b": 70.0}, seeds=[0], untrained={"b": (2048, 55.0)})
    for named in run.glob("*/seed0/controls.json"):
        named.write_text(named.read_text().replace('"dim": 2048', '"dim": 512'))
    assert [row.name for row in load_run(run).controls] == [
        "untrained encoder (a)", "untrained encoder (b)", "raw pixels",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["[]", '{"untrained": 3}', '{"untrained": {}}', '{"other": {"folder": "x"}}'])
def test_damaged_names_of_controls_are_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    (run / "a" / "seed0" / "controls.json").write_text(content)
    with pytest.raises(ReportError, match=r"controls\.json: the file is damaged"):
        load_run(run)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a/seed0/probes.json", "[1]"),
        ("a/seed0/probes.json", "3"),
        ("a/seed0/probes.json", '[{"probe": 3}]'),
        ("a/seed0/metrics.jsonl", '[1, 2]\n{"loss": 1}\n'),
        ("a/seed0/metrics.jsonl", "\udcff\n{}\n"),
        ("environment.json", "[]"),
        ("environment.json", "\udcff"),
        ("run.json", "[]"),
    ],
)
def test_whatever_is_damaged_in_a_run_folder_is_named(tmp_path: Path, name: str, content: str) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    (run / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ReportError, match=re.escape(name)):
        load_run(run)


def test_a_recipe_in_another_encoding_and_lines_without_a_speed_do_not_hinder_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    (run / "recipe.yaml").write_bytes(b"name: caf\xe9\n")
    (run / "a" / "seed0" / "metrics.jsonl").write_text('{"step": 1, "epoch": 0.1, "loss": 1.0}\n')
    assert "60.0" in write_report(run).read_text()


def test_controls_of_an_older_version_are_spoken_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0, "b": 70.0}, controls=False)
    (run / "controls" / "seed0").mkdir(parents=True)
    (run / "controls" / "seed0" / "untrained.json").write_text("[]")
    with caplog.at_level(logging.INFO, "issl_engine"):
        assert load_run(run).controls == load_run(run).controls == []
    assert caplog.text.count("run the recipe again to see them") == 1


def test_a_control_is_never_read_from_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0])
    (run / "a" / "seed0" / "controls.json").write_text('{"untrained": {"folder": "controls/../../elsewhere"}}')
    with pytest.raises(ReportError, match="is no control's folder"):
        load_run(run)


def test_printed_table_says_split_grid_and_seeds(tmp_path: Path) -> None:
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    print_table(load_run(make_run(tmp_path / "run", {"a": 60.0})), console)
    text = console.export_text()
    assert "test split (50 images), fitted on 100" in text
    assert "lr {0.1}" in text
    assert "seeds [0, 1, 2]" in text


def test_csv_has_a_line_for_each_arm_seed_and_probe(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0, "b": 70.0})
    write_report(run)
    with (run / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == (2 + 2) * 3 * 2
    mine = next(x for x in lines if (x["arm"], x["seed"], x["probe"]) == ("b", "2", "knn"))
    assert float(mine["value"]) == 67.0
    assert mine["device"] == "2 cores of a CPU"
    assert json.loads(mine["chosen"]) == {"lr": 0.1}


def test_page_needs_no_network_and_escapes_text(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run", {"a": 60.0})).read_text()
    outside = re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)[^"'\s>]+|url\((?!#)[^)]*\)|@import""", page)
    assert [found for found in outside if "http" in found or "@import" in found] == []
    assert page.count("<script") == 3  # two of data, and the page's own
    assert "&lt;script&gt;alert(1)" in page
    assert "A &lt;b&gt;bold&lt;/b&gt; &amp; brave run" in page
    assert page.count("<svg") == 4  # two probes, two curves


def test_unfinished_run_without_probes_or_controls_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0, "b": 70.0}, controls=False)
    for seed in SEEDS:
        (run / "b" / f"seed{seed}" / "probes.json").unlink()
    metrics = run / "a" / "seed0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 60, "epo')
    titles, rows = headline(load_run(run))
    assert dict(zip(titles, rows[1], strict=True))["linear probe top-1 %"] == "–"
    assert write_report(run).is_file()


def test_damaged_files_and_strange_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no run folder"):
        load_run(tmp_path)
    run = make_run(tmp_path / "run", {"a": 60.0})
    (run / "a" / "seed1" / "probes.json").write_text("[{")
    with pytest.raises(ReportError, match=r"probes\.json: the file is damaged"):
        load_run(run)


def test_damage_within_the_metrics_is_not_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0})
    metrics = run / "a" / "seed0" / "metrics.jsonl"
    metrics.write_text("{broken\n" + metrics.read_text())
    with pytest.raises(ReportError, match=r"metrics\.jsonl:1"):
        load_run(run)


def test_comparison_names_arms_after_their_run_where_they_clash(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one", {"a": 60.0}), make_run(tmp_path / "two", {"a": 65.0, "c": 70.0})]
    both = compare_runs(runs)
    assert [arm.name for arm in both.arms] == ["one: a", "two: a", "c"]
    write_all(tmp_path / "both", both)
    assert (tmp_path / "both" / "report.html").is_file()
    with (tmp_path / "both" / "results.csv").open() as file:
        assert {line["arm"] for line in csv.DictReader(file)} >= {"one: a", "two: a", "c"}
