"""A folder with a model card and model.safetensors, whose metadata name the encoder."""

import json
import shutil
from pathlib import Path
from typing import Literal

from safetensors.torch import save

from issl_engine.weights.engine_file import FILE_NAME
from issl_engine.weights.formats.base import Exported, ExportFormat
from issl_engine.weights.model_card import model_card
from issl_engine.weights.open_encoder import OpenedEncoder
from issl_engine.weights.weights_file import WeightsError
from issl_engine.whole_file import write_whole

CARD_NAME = "README.md"


class SafetensorsFormat(ExportFormat):
    """A folder with model.safetensors and README.md, a model card; this engine opens the folder or the file again."""

    name: Literal["safetensors"] = "safetensors"

    def write(self, opened: OpenedEncoder, out: Path, *, license_name: str) -> Exported:
        if out.suffix == ".safetensors":
            raise WeightsError(f"{out}: --format safetensors writes a folder (weights and model card); name a folder")
        tensors = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in opened.encoder.state_dict().items()
        }
        card, weights = model_card(opened, license_name=license_name), save(tensors, metadata=_metadata(opened))
        usage = f"tensors = safetensors.torch.load_file({str(out / FILE_NAME)!r})"
        out.mkdir()
        try:
            write_whole(out / CARD_NAME, card)
            write_whole(out / FILE_NAME, weights)
        except OSError:
            shutil.rmtree(out)
            raise
        return Exported(files=(out / FILE_NAME, out / CARD_NAME), usage=usage)


def _metadata(opened: OpenedEncoder) -> dict[str, str]:
    """Text by key, for ``weights/engine_file.py`` to read."""
    found = {
        "format": "pt",
        "encoder": opened.config.model_dump_json(),
        "image_size": str(opened.image_size),
        "preprocessing": json.dumps(opened.preprocessing.as_json()),
        "exported_from": opened.name,
        "digest": opened.digest,
    }
    if opened.recipe is not None:
        found |= {"recipe": opened.recipe.model_dump_json(), "network": opened.network}
    if opened.seed is not None:
        found["seed"] = str(opened.seed)
    if opened.manifest is not None:
        found |= {"step": str(opened.manifest.step), "epoch": f"{opened.manifest.epoch:g}"}
    return found
