"""config.json beside a file of weights from a model hub: timm writes there how images must be prepared."""

import json
from pathlib import Path

from issl_engine.weights.errors import WeightsError
from issl_engine.weights.preprocessing import Preprocessing
from issl_engine.weights.timm_weights import timm_preprocessing

CONFIG = "config.json"


def preprocessing_beside(weights: Path) -> Preprocessing | None:
    """None where there is no config.json, or one that is not timm's. Raises WeightsError for a damaged one."""
    path = weights.parent / CONFIG
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        settings = record.get("pretrained_cfg") if isinstance(record, dict) else None
        return None if settings is None else timm_preprocessing(settings, str(path))
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise WeightsError(
            f"{path}: how images are to be prepared cannot be read from it ({type(error).__name__}: {error}); fetch it "
            "again, or take the weights into a folder of their own"
        ) from error
