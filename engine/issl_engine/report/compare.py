"""Several runs as one: their arms in one table, named after their run where names clash."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from issl_engine.report.run_folder import ArmRuns, Run, load_run


def compare_runs(folders: list[Path]) -> Run:
    """The runs' arms and controls side by side. Raises ReportError for a folder that is no run."""
    runs = [load_run(folder) for folder in folders]
    names = Counter(row.name for run in runs for row in run.rows)

    def renamed(rows: list[ArmRuns], run: Run) -> list[ArmRuns]:
        return [replace(row, name=f"{run.folder.name}: {row.name}") if names[row.name] > 1 else row for row in rows]

    first = runs[0]
    return Run(
        folder=first.folder,
        recipe=" and ".join(dict.fromkeys(run.folder.name for run in runs)),
        description="; ".join(dict.fromkeys(run.description for run in runs if run.description)),
        status=", ".join(dict.fromkeys(run.status for run in runs)),
        arms=[row for run in runs for row in renamed(run.arms, run)],
        controls=[row for run in runs for row in renamed(run.controls, run)],
        environment=first.environment,
        recipe_text="\n\n".join(f"# {run.folder.name}\n{run.recipe_text}" for run in runs),
    )
