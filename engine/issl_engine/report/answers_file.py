"""answers.json: which of the judged images each probe of classes told right.

``judged`` is the digest of the judged images, in their order; ``count`` is how many there are; ``right`` is a column's
key → a bit an image, the first the highest of its byte, in base64.

Letters: N images.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.report.read_json import ReportError, read_json


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the file says; ``packed``: a column's key → the bits."""

    judged: str
    count: int
    packed: dict[str, bytes]

    def right_N(self, key: str) -> NDArray[np.bool_] | None:
        """bool [n]; None where the column has none."""
        bits = self.packed.get(key)
        return None if bits is None else np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=self.count) == 1


def as_json(right: Mapping[str, NDArray[np.bool_]], *, judged: str) -> dict[str, Any]:
    """Column's key → bool [n], as the file has it."""
    counts = {len(right_N) for right_N in right.values()}
    assert len(counts) <= 1, "all probes are judged on the same images"
    packed = {key: base64.b64encode(np.packbits(right_N).tobytes()).decode() for key, right_N in right.items()}
    return {"judged": judged, "count": counts.pop() if counts else 0, "right": packed}


def read_answers(path: Path) -> Answers | None:
    """None where there is no such file: earlier versions kept none. Raises ReportError where it is damaged."""
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        packed = {str(key): base64.b64decode(text, validate=True) for key, text in content["right"].items()}
        answers = Answers(judged=str(content["judged"]), count=int(content["count"]), packed=packed)
        if any(len(bits) != -(-answers.count // 8) for bits in packed.values()):
            raise ValueError("the number of bits is not that of the images")
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise ReportError(f"{path}: the file is damaged ({error}); run the recipe again to write it anew") from error
    return answers
