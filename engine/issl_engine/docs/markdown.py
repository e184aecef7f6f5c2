"""Pieces of Markdown: text that stays text, tables, links to headings."""

import re
from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    """Text in one line in which no character means anything to Markdown, but for code in backticks."""
    line = " ".join(text.replace("``", "`").split())
    parts = line.split("`")
    escaped = [re.sub(r"([<|*\[\]])", r"\\\1", part) if i % 2 == 0 else part for i, part in enumerate(parts)]
    return "`".join(escaped).replace("\\<", "&lt;")


def code(text: str) -> str:
    """``text`` as code in a table's cell."""
    return f"`{text}`".replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, a blank one after it."""
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def anchor(heading: str) -> str:
    """The part of an address behind # that leads to a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
