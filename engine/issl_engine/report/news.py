"""What a watched run's page asks for every few seconds."""

import json
import time
from pathlib import Path

from issl_engine.report.html import facts
from issl_engine.report.html_table import results_table
from issl_engine.report.page_data import page_data
from issl_engine.report.run_folder import load_run


def news(folder: Path) -> bytes:
    """JSON: ``run`` (as page_data), ``facts``, ``table`` (HTML). Raises ReportError or OSError."""
    run = load_run(folder)
    content = {"run": page_data(run), "facts": facts(run), "table": results_table(run)}
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def quiet_seconds(folder: Path) -> float:
    """Since anything was logged there; a run that was killed outright still says that it is running."""
    written = [path.stat().st_mtime for path in (folder / "run.json", *folder.glob("*/seed*/*.json*"))]
    return max(0.0, time.time() - max(written))
