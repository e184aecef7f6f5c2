"""Downloads a published file of weights once, and keeps it whole or not at all."""

import hashlib
import http.client
import logging
import os
import tempfile
import urllib.request
from pathlib import Path
from typing import BinaryIO

from issl_engine.cache import cache_folder
from issl_engine.weights.published import Published
from issl_engine.weights.weights_file import WeightsError
from issl_engine.whole_file import sync

BYTES_AT_ONCE = 1 << 20
TIMEOUT_SECONDS = 60

_log = logging.getLogger("issl_engine")


def fetch_published(name: str, published: Published) -> Path:
    """The file in $ISSL_ENGINE_CACHE/weights, downloaded if it is not there. Raises WeightsError."""
    target = cache_folder() / "weights" / published.file_name
    if target.is_file():
        return target
    _log.info("%s: downloading %s", name, published.url)
    partial = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            sha256, md5 = _copy(published.url, file)
            file.flush()
            os.fsync(file.fileno())
        if not (sha256.startswith(published.sha256) and md5.startswith(published.md5)):
            raise WeightsError(f"{name}: {published.url} gives a file of another checksum; try again later")
        os.rename(partial, target)
        sync(target.parent)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise WeightsError(
            f"{name}: {published.url} could not be downloaded ({reason}); on a machine without network, fetch it "
            f"elsewhere and give the file itself, or put it at {target}"
        ) from error
    finally:
        if partial:
            Path(partial).unlink(missing_ok=True)
    return target


def _copy(url: str, file: BinaryIO) -> tuple[str, str]:
    """SHA-256 and MD5 of what was written. Raises OSError, also for an answer that is cut short."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    request = urllib.request.Request(url, headers={"User-Agent": "issl-engine"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        while block := answer.read(BYTES_AT_ONCE):
            file.write(block)
            sha256.update(block)
            md5.update(block)
            size += len(block)
        expected = answer.headers.get("Content-Length")
    if expected is not None and expected != str(size):
        raise OSError(f"{size} of {expected} bytes came")
    return sha256.hexdigest(), md5.hexdigest()
