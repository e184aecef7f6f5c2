"""report.html: one page that needs nothing but itself."""

import base64
import hashlib
from html import escape
from pathlib import Path

from issl_engine.report import plots
from issl_engine.report.run_folder import Run
from issl_engine.report.table import PROBE_TITLES, headline, meaning
from issl_engine.whole_file import write_whole

STYLE = """
:root { --ink: #1d2127; --soft: #5b6470; --paper: #ffffff; --line: #dfe3e8; --wash: #f5f7f9; --accent: #0072B2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e9ec; --soft: #a3abb6; --paper: #15181c; --line: #333a43; --wash: #1e2329; --accent: #6bb7e8; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 62rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-top: .9rem; border-top: 1px solid var(--line); }
.facts { color: var(--soft); font-size: .92rem; margin: 0 0 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .45rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; white-space: normal; }
th:first-child, td:first-child { text-align: left; }
tbody tr.control td { color: var(--soft); background: var(--wash); }
tbody td.best { font-weight: 700; color: var(--accent); }
ul { color: var(--soft); font-size: .92rem; padding-left: 1.2rem; }
figure { margin: 0 0 1.2rem; padding: .8rem; background: #fff; border: 1px solid var(--line); border-radius: .5rem; }
figure svg, figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: #5b6470; font-size: .88rem; margin-top: .5rem; text-align: center; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; overflow-x: auto;
  font-size: .82rem; line-height: 1.45; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""


def render_page(title: str, runs: list[Run]) -> str:
    """The whole page for one run, or several under each other."""
    body = "".join(_run_section(run) for run in runs)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main>'
        f"</body></html>\n"
    )


def _run_section(run: Run) -> str:
    parts = [
        f"<h1>{escape(run.recipe)}</h1><p class=facts>{escape(_facts(run))}</p>",
        f"<p>{escape(run.description)}</p>" if run.description else "",
        f"<h2>Results</h2>{_table(run)}",
        f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in meaning(run))}</ul>",
        _figures(run),
        _crops(run),
        f"<h2>Recipe</h2><pre>{escape(run.recipe_text)}</pre>",
        f"<h2>Environment</h2>{_environment(run)}",
    ]
    return "".join(parts)


def _facts(run: Run) -> str:
    environment = run.environment
    facts = [run.status, environment.get("date"), f"commit {environment.get('commit') or 'unknown'}"]
    return " · ".join(str(fact) for fact in facts if fact)


def _table(run: Run) -> str:
    titles, rows = headline(run)
    best = {column: _best_row(run, probe) for column, probe in enumerate(run.probe_names, start=1)}
    head = "".join(f"<th scope=col>{escape(title)}</th>" for title in titles)
    lines = []
    for index, row in enumerate(rows):
        kind = " class=control" if index >= len(run.arms) else ""
        cells = "".join(
            f"<td{' class=best' if best.get(column) == index else ''}>{escape(text)}</td>"
            for column, text in enumerate(row)
        )
        lines.append(f"<tr{kind}>{cells}</tr>")
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _best_row(run: Run, probe: str) -> int | None:
    scores = {index: arm.probe(probe) for index, arm in enumerate(run.arms)}
    means = {index: score.mean for index, score in scores.items() if score is not None}
    return max(means, key=lambda index: means[index]) if means else None


def _figures(run: Run) -> str:
    parts = []
    for probe in run.probe_names:
        caption = f"{PROBE_TITLES.get(probe, probe)}: mean over seeds, 95 % interval, a dot a seed; lines are controls."
        parts.append(_figure(plots.comparison(run, probe), caption))
    loss = plots.curves(run, "loss", "loss")
    online = plots.online_curves(run)
    if loss:
        parts.append("<h2>Training</h2>")
        parts.append(_figure(loss, "Pretraining loss; losses of different objectives do not compare."))
    if online:
        parts.append(_figure(online, "Linear probe trained beside the encoder, without sending it a gradient."))
    if any(seed.metrics for arm in run.arms for seed in arm.seeds):
        parts.append(_figure(plots.throughput(run), "Throughput, and the share of time spent waiting for data."))
    return "".join(parts)


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
    if not sheets:
        return ""
    figures = "".join(
        _figure(_image(content, arms), f"Crops of {', '.join(arms)}.") for content, arms in sheets.values()
    )
    return f"<h2>Crops</h2>{figures}"


def _image(content: bytes, arms: list[str]) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="crops of {escape(", ".join(arms))}" src="data:image/png;base64,{data}">'


def _environment(run: Run) -> str:
    entries = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in run.environment.items())
    return f"<dl>{entries}</dl>"


def write_page(path: Path, title: str, runs: list[Run]) -> None:
    write_whole(path, render_page(title, runs))
