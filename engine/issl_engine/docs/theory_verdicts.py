"""The verdicts on the theory's claims, from the results in profiling/results that `issl-engine theory run` wrote."""

import csv
from collections.abc import Iterator
from pathlib import Path

import issl_engine
from issl_engine.docs.markdown import plain, table

RESULTS = Path(issl_engine.__file__).parents[2] / "profiling" / "results"
HEAD = ("claim", "verdict", "measured", "mean", "95 % interval", "supported by")


def theory_verdicts() -> str:
    """A section per experiment whose results hold claims, with what was run, where and when."""
    return "\n".join(line for path in sorted(RESULTS.glob("theory_*.csv")) for line in _section(path))


def _section(path: Path) -> Iterator[str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    claims = [row for row in rows if row.get("verdict")]
    if not claims:
        return
    first, seeds = claims[0], {row["seed"] for row in rows if row["seed"]}
    yield f"## {path.stem.removeprefix('theory_')}"
    yield ""
    yield (
        f"`{first['command']}`: {len(seeds)} seeds, {first['device']}, commit {first['commit'][:7]}, "
        f"{first['date'][:10]}; {int(first['cpu_seconds']) / 60:.1f} minutes of CPU time. Every value: "
        f"[{path.name}](../profiling/results/{path.name}), drawn in "
        f"[{path.stem}.png](../profiling/results/{path.stem}.png)."
    )
    yield ""
    yield from table(HEAD, [_row(claim) for claim in claims])


def _row(claim: dict[str, str]) -> list[str]:
    interval = f"{_short(claim['low'])} to {_short(claim['high'])}" if claim["low"] else "–"
    return [
        plain(claim["series"]), f"**{claim['verdict']}**", plain(claim["metric"]), _short(claim["value"]), interval,
        plain(claim["rule"]),
    ]  # fmt: skip


def _short(value: str) -> str:
    """As the command prints it."""
    return f"{float(value):.3g}"
