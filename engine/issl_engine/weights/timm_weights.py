"""timm's own weights (``timm:NAME``), and how timm says that images are prepared.

That stands in the model's settings, and in the config.json beside a file of weights from a model hub.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from issl_engine.models.encoders.timm_model import TimmConfig, TimmEncoder, load_timm
from issl_engine.recipe.check import first_sentence
from issl_engine.views.preprocessing import Preprocessing
from issl_engine.weights.weights_file import WeightsError

TIMM = "timm:"
CONFIG = "config.json"
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class TimmModel:
    """An encoder of timm with its weights."""

    encoder: TimmEncoder
    config: TimmConfig
    image_size: int
    preprocessing: Preprocessing


def open_timm(model: str) -> TimmModel:
    """The model and timm's own weights of it. Raises Mistake: no timm, no such model, no weights."""
    timm = load_timm(f"{TIMM}{model}")
    if not timm.is_model(model):
        raise WeightsError(f"{TIMM}{model} is not a model of timm {timm.__version__}; see timm.list_models()")
    try:
        backbone = timm.create_model(model, pretrained=True, num_classes=0)
    except Exception as error:  # no weights of it, no network: the libraries below raise what they like
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{TIMM}{model}: timm could not fetch the weights ({reason}); on a machine without network, give the file "
            "itself instead"
        ) from error
    preprocessing = timm_preprocessing(timm.data.resolve_data_config({}, model=backbone), f"{TIMM}{model}")
    config = TimmConfig(name=f"timm/{model}")
    encoder = config.build(image_size=preprocessing.crop)
    encoder.backbone.load_state_dict(backbone.state_dict())
    return TimmModel(encoder=encoder, config=config, image_size=preprocessing.crop, preprocessing=preprocessing)


def timm_preprocessing(settings: Mapping[str, Any], place: str) -> Preprocessing:
    """From timm's words: the crop is a share ``crop_pct`` of the resized image.

    Raises WeightsError for another interpolation; KeyError, TypeError and ValueError for settings that are not timm's.
    """
    crop, interpolation = settings["input_size"][-1], settings["interpolation"]
    if interpolation not in INTERPOLATIONS:
        raise WeightsError(f"{place} wants images resized by {interpolation}, and here are bilinear and bicubic")
    return Preprocessing.from_json({
        "resize": int(crop / settings["crop_pct"]), "crop": crop, "mean": settings["mean"], "std": settings["std"],
        "interpolation": interpolation,
    })  # fmt: skip


def preprocessing_beside(weights: Path) -> Preprocessing | None:
    """None where there is no config.json, or one that is not timm's. Raises WeightsError for a damaged one."""
    path = weights.parent / CONFIG
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        settings = record.get("pretrained_cfg") if isinstance(record, dict) else None
        return None if settings is None else timm_preprocessing(settings, str(path))
    except WeightsError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        said = first_sentence(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise WeightsError(
            f"{path}: how images are to be prepared cannot be read from it ({said}); fetch it again, or take the "
            "weights into a folder of their own"
        ) from error
