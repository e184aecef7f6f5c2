"""A JSON file of a run folder, and what is wrong with a run folder."""

import json
from pathlib import Path
from typing import Any

from issl_engine.mistakes import Mistake


class ReportError(Mistake):
    """A folder that is no run, or a damaged file in it: one sentence."""


def read_json(path: Path) -> Any:
    """Raises ReportError where the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: the file is damaged ({error}); run the recipe again to write it anew") from error
