"""The page's own style and script: files of ``page/``, put into the page as they are."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

SCRIPTS = (
    "state.js",
    "theme.js",
    "table.js",
    "chart.js",
    "scores.js",
    "curves.js",
    "spectra.js",
    "map_panel.js",
    "map.js",
    "live.js",
    "start.js",
)
"""In the order in which they run; they share one scope."""


@cache
def style() -> str:
    return _read("style.css")


@cache
def script() -> str:
    """One strict function, so that nothing of it is global."""
    return "(() => {\n'use strict';\n" + "\n".join(_read(name) for name in SCRIPTS) + "\n})();\n"


def script_hash() -> str:
    """For the page's content security policy: no other script runs, whatever a name in the run folder holds."""
    return base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()


def _read(name: str) -> str:
    return (files("issl_engine.report") / "page" / name).read_text(encoding="utf-8")
