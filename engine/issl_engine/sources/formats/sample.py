"""What the readers of files with many images find: samples, and their labels as text."""

from typing import NamedTuple


class Sample(NamedTuple):
    """What a format's reader finds: an image's place in the file, or, with ``reason``, why there is none.

    ``name``: what messages call it inside its file; ``label``: a whole number or a class's name, None where there is
    none; ``title``: the class's name where the file gives it beside the label.
    """

    name: str
    start: int = 0
    length: int = 0
    label: str | None = None
    title: str = ""
    reason: str = ""


def label_text(value: object) -> str | None:
    """A label as samples hold it: whole numbers in one way of writing, None for no label (nothing, or below 0).

    Raises ValueError, which says what it is, for what is neither number nor text.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"neither a whole number nor a name, but of type {type(value).__name__}")
    text = str(value).strip()
    if is_number(text.removeprefix("-")):
        return None if text.startswith("-") else str(int(text))
    return text or None


def is_number(text: str) -> bool:
    """Whether a label's text is a whole number, 0 or above."""
    return text.isascii() and text.isdecimal()
