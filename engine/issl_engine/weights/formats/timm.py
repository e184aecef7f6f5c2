"""timm's format: a state dict of its model of the same architecture, without the classifier."""

from pathlib import Path
from typing import Literal

from issl_engine.models.encoders.timm_model import TimmConfig
from issl_engine.weights.formats.base import Exported, ExportFormat
from issl_engine.weights.open_encoder import OpenedEncoder
from issl_engine.weights.state_dict import plain_resnet, write_state_dict


class TimmFormat(ExportFormat):
    """A .pth file that loads strictly into timm.create_model(NAME, num_classes=0)."""

    name: Literal["timm"] = "timm"

    def write(self, opened: OpenedEncoder, out: Path, *, license_name: str) -> Exported:
        config, tensors = opened.config, opened.encoder.state_dict()
        if isinstance(config, TimmConfig):
            settings = "" if config.num_heads is None else f", num_heads={config.num_heads}"
            if "backbone.pos_embed" in tensors and not config.model.endswith(f"_{opened.image_size}"):
                settings += f", img_size={opened.image_size}"
            name = config.model
            tensors = {key.removeprefix("backbone."): value for key, value in tensors.items()}
        else:
            name, settings = plain_resnet(opened, "timm").name, ""
        write_state_dict(tensors, out)
        usage = (
            f"model = timm.create_model({name!r}, num_classes=0{settings})\n"
            f"model.load_state_dict(torch.load({str(out)!r}))"
        )
        return Exported(files=(out,), usage=usage)
