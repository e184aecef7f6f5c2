"""report.html: one page that needs nothing but itself."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from issl_engine.report.columns import Column
from issl_engine.report.differences import all_differences, meaning_of_differences
from issl_engine.report.html_table import (
    differences_table,
    environment_table,
    measures_table,
    recipe_table,
    results_table,
)
from issl_engine.report.over_training_figure import over_training_figure
from issl_engine.report.page_data import map_data, page_data
from issl_engine.report.page_files import script, script_hash, style
from issl_engine.report.run_folder import Run
from issl_engine.report.svg_figures import curve_figure, score_figure
from issl_engine.report.table import meaning
from issl_engine.whole_file import write_whole

NO_MAPS = (
    "There are no feature maps here: the run is not probed yet, reports on held-out images (maps are of test images), "
    "or was made before maps were kept; 'issl-engine run' with the same recipe and folder makes what is missing."
)
CURVES = {
    "loss": "Pretraining loss, one line per seed; losses of different objectives do not compare.",
    "online_top1": "Top-1 % of the linear probe that is trained beside the encoder, without sending it a gradient.",
}
"""Key of metrics.jsonl → caption, of what a browser without scripts shows."""
UNINSTALLED_UMAP = "UMAP is not here: umap-learn was not installed where the run was probed (issl-engine[umap])."


def write_page(path: Path, title: str, run: Run) -> None:
    write_whole(path, render_page(title, run))


def render_page(title: str, run: Run, *, live: bool = False) -> str:
    """The whole page of one run, or of a comparison; ``live`` makes it ask its server for news."""
    sections = [
        _section("results", "Results", _results(run, live)),
        _section("differences", "Differences between arms", _differences(run)),
        _section("training", "Training", _training(run, live)),
        _section("diagnostics", "Diagnostics", _diagnostics(run, live)),
        _section("map", "Feature map", _map(run)),
        _section("crops", "Crops", _crops(run)),
        _section("recipe", "Recipe", _recipe(run)),
        _section("environment", "Environment", environment_table(run)),
    ]
    shown = [section for section in sections if section]
    connect = "connect-src 'self'; " if live else ""
    policy = (
        f"default-src 'none'; {connect}img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script_hash()}'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{style()}</style></head><body{" data-live" if live else ""}>'
        f'<a class="skip" href="#results">Skip to the results</a>{_header(run, shown)}'
        f"<main>{''.join(text for _, _, text in shown)}</main>"
        f"{_json('run-data', page_data(run))}{_json('map-data', map_data(run))}"
        f"<script>{script()}</script></body></html>\n"
    )


def facts(run: Run) -> str:
    """Status, date and commit, in one line."""
    several = len(run.each) > 1
    made = []
    for one in run.each:
        commit = f"commit {one.environment.get('commit') or 'unknown'}"
        made_at = ", ".join(part for part in (_moment(one.environment.get("date")), commit) if part)
        made.append(f"{one.recipe}: {made_at}" if several else made_at)
    return " · ".join([run.status, *made])


def _moment(text: Any) -> str:
    """2026-01-31T12:34:56+00:00 → 2026-01-31 12:34 UTC; anything else as it is."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return "" if text is None else str(text)


def _section(anchor: str, title: str, content: str) -> tuple[str, str, str] | None:
    if not content:
        return None
    heading = f'<h2 id="{anchor}-title">{title}</h2>'
    return anchor, title, f'<section id="{anchor}" aria-labelledby="{anchor}-title">{heading}{content}</section>'


def _header(run: Run, sections: list[tuple[str, str, str]]) -> str:
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in sections)
    about = f'<p class="about">{escape(run.description)}</p>' if run.description else ""
    return (
        f'<header><h1>{escape(run.recipe)}</h1><p class="facts" id="facts">{escape(facts(run))}</p>{about}</header>'
        f'<nav aria-label="Sections"><div class="links">{links}</div><div id="legend"></div></nav>'
    )


def _results(run: Run, live: bool) -> str:
    notes = "".join(f"<li>{escape(line)}</li>" for line in meaning(run))
    static = [] if live else [_figure(score_figure(run, column), _caption(column)) for column in run.plain_columns]
    return (
        f'<div id="table">{results_table(run)}</div><div id="scores"></div>{_static(static)}'
        f'<details class="notes"><summary>What the numbers mean</summary><ul>{notes}</ul></details>'
    )


def _differences(run: Run) -> str:
    table = differences_table(run)
    notes = "".join(f"<li>{escape(line)}</li>" for line in meaning_of_differences(all_differences(run)))
    return f'{table}<div class="notes"><ul>{notes}</ul></div>' if table or notes else ""


def _training(run: Run, live: bool) -> str:
    if live:
        return '<div id="curves"></div>'
    if not any(seed.metrics for arm in run.arms for seed in arm.seeds):
        return ""
    figure = over_training_figure(run)
    over_training = "" if figure is None else _figure(*figure)
    logged = _static([_curve(run, key, caption) for key, caption in CURVES.items()])
    return f'{over_training}<div id="curves"></div>{logged}'


def _curve(run: Run, key: str, caption: str) -> str:
    figure = curve_figure(run, key, caption)
    return _figure(figure, caption) if figure else ""


def _caption(column: Column) -> str:
    return f"{column.title}: mean and 95 % interval."


def _diagnostics(run: Run, live: bool) -> str:
    table = measures_table(run)
    lines = (line for arm in run.arms for seed in arm.seeds for line in seed.metrics)
    logged = any(key.startswith("diagnostics.") for line in lines for key in line)
    if not table and not logged and not live:
        return ""
    return f'{table}<div id="spectra"></div><div id="diagnostic-curves"></div>'


def _map(run: Run) -> str:
    if not any(seed.feature_map for row in run.rows for seed in row.seeds):
        return f'<p class="missing">{NO_MAPS}</p>' if run.results else ""
    return (
        f'<div id="feature-map" data-no-umap="{UNINSTALLED_UMAP}"></div>'
        '<p class="static">The maps are drawn by the page\'s script, which is switched off here.</p>'
    )


def _static(figures: list[str]) -> str:
    """What is shown where the page's script does not run."""
    return f'<div class="static">{"".join(figures)}</div>' if figures else ""


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _crops(run: Run) -> str:
    """Each different contact sheet once, with the arms that it belongs to."""
    sheets: dict[str, tuple[bytes, list[str]]] = {}
    for arm in run.arms:
        path = next((seed.views_png for seed in arm.seeds if seed.views_png), None)
        if path is not None:
            content = path.read_bytes()
            sheets.setdefault(hashlib.sha256(content).hexdigest(), (content, []))[1].append(arm.name)
    return "".join(_figure(_image(content, arms), f"Crops of {', '.join(arms)}.") for content, arms in sheets.values())


def _image(content: bytes, arms: list[str]) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="crops of {escape(", ".join(arms))}" src="data:image/png;base64,{data}">'


def _recipe(run: Run) -> str:
    table = recipe_table(run)
    differs = f"<h3>Keys that differ between arms</h3>{table}" if table else ""
    texts = "".join(
        f"<details{'' if len(run.each) > 1 else ' open'}><summary>{escape(one.recipe)}.yaml</summary>"
        f'<pre tabindex="0">{escape(one.recipe_text)}</pre></details>'
        for one in run.each
        if one.recipe_text
    )
    return differs + texts


def _json(name: str, content: dict[str, Any]) -> str:
    """Inside a script element nothing ends it but '</', so no '<' is left."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'
