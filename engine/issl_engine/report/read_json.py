"""A JSON file of a run folder."""

import json
from pathlib import Path
from typing import Any

from issl_engine.report.errors import ReportError


def read_json(path: Path) -> Any:
    """Raises ReportError where the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: the file is damaged ({error}); run the recipe again to write it anew") from error
