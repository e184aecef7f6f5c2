"""Several runs as one: their arms in one table, named after their run where names clash."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from issl_engine.report.run_folder import ArmRuns, Run, load_run


def compare_runs(folders: list[Path]) -> Run:
    """The runs' arms and controls side by side. Raises ReportError for a folder that is no run."""
    distinct = list(dict.fromkeys(folder.resolve() for folder in folders))
    runs = [load_run(folder) for folder in distinct]
    called = Counter(run.folder.name for run in runs)
    titles = [run.folder.name if called[run.folder.name] == 1 else str(run.folder) for run in runs]
    names = Counter(row.name for run in runs for row in run.rows)

    def renamed(rows: list[ArmRuns], title: str) -> list[ArmRuns]:
        return [
            replace(row, run=title, name=f"{title}: {row.name}" if names[row.name] > 1 else row.name) for row in rows
        ]

    first = runs[0]
    return Run(
        folder=first.folder,
        recipe=" and ".join(titles),
        description="; ".join(dict.fromkeys(run.description for run in runs if run.description)),
        status=", ".join(dict.fromkeys(run.status for run in runs)),
        arms=[row for run, title in zip(runs, titles, strict=True) for row in renamed(run.arms, title)],
        controls=[row for run, title in zip(runs, titles, strict=True) for row in renamed(run.controls, title)],
        environment=first.environment,
        recipe_text="\n\n".join(f"# {title}\n{run.recipe_text}" for run, title in zip(runs, titles, strict=True)),
        members=[replace(run, recipe=title) for run, title in zip(runs, titles, strict=True)],
    )
