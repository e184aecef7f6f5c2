"""Files that appear whole or not at all, though several processes write them at once."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, of a name of its own, which takes the place of ``path`` when the block is complete and vanishes
    where it is not. Makes the folder. Raises OSError; what the block raises passes through."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
