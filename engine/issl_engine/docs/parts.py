"""Which documents have generated parts, what makes each, and which of them are out of date."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from issl_engine.docs.command_line import command_line
from issl_engine.docs.keys import keys
from issl_engine.docs.names import table_of_names
from issl_engine.docs.objectives import objectives
from issl_engine.docs.protocols import protocols
from issl_engine.docs.theory_verdicts import theory_verdicts
from issl_engine.mistakes import Mistake

DOCUMENTS = ("recipes/README.md", "recipes/KEYS.md", "engine/OBJECTIVES.md", "engine/CLI.md", "recipes/THEORY.md")
"""The files with generated parts, as paths in a checkout."""

PARTS: dict[str, Callable[[], str]] = {
    "command line": command_line,
    "objectives": objectives,
    "keys": keys,
    "protocols": protocols,
    "theory verdicts": theory_verdicts,
    **{
        kind: partial(table_of_names, kind)
        for kind in ("recipes", "suites", "sources", "encoders", "probes", "optimizers", "regularizers")
    },
}
"""Name of a part → what makes its Markdown."""

PART = re.compile(r"(<!-- generated: ([a-z ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def stale_documents(checkout: Path) -> dict[Path, str]:
    """Each document whose generated parts differ from the code → its text as it should be.

    Raises Mistake where ``checkout`` holds no documents (an installed package), or a part has no known name.
    """
    stale: dict[Path, str] = {}
    for name in DOCUMENTS:
        path = checkout / name
        if not path.exists():
            raise Mistake(f"{path}: no such document; run this in a checkout of the repository")
        written = path.read_text(encoding="utf-8")
        right = with_parts(written, place=name)
        if right != written:
            stale[path] = right
    return stale


def with_parts(text: str, *, place: str) -> str:
    """A document's text with its generated parts made anew; ``place`` names it in errors."""

    def made(match: re.Match[str]) -> str:
        begin, name, _, end = match.groups()
        if name not in PARTS:
            raise Mistake(f"{place}: no generated part is called '{name}'; there are {', '.join(PARTS)}")
        return f"{begin}\n{PARTS[name]().strip()}\n\n{end}"

    return PART.sub(made, text)
