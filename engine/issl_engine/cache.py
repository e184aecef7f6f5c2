"""Where made or downloaded data is kept between runs."""

import os
from pathlib import Path

from issl_engine.mistakes import Mistake


def cache_folder() -> Path:
    """$ISSL_ENGINE_CACHE, or ~/.cache/issl-engine. Not made here. Raises Mistake where there is neither."""
    named = os.environ.get("ISSL_ENGINE_CACHE")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache" / "issl-engine"
    except RuntimeError as error:
        raise Mistake("this user has no home folder; set ISSL_ENGINE_CACHE to a folder for what is kept") from error
