"""Where made or downloaded data is kept between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$ISSL_ENGINE_CACHE, or ~/.cache/issl-engine. Not made here."""
    named = os.environ.get("ISSL_ENGINE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "issl-engine"
