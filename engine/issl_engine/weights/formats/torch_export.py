"""torch.export's format: the encoder as a program, without this engine's Python."""

import io
from pathlib import Path
from typing import Literal

import torch

from issl_engine.weights.formats.base import BATCH, Exported, ExportFormat, example_images, untraceable_reported
from issl_engine.weights.open_encoder import OpenedEncoder
from issl_engine.whole_file import write_whole


class TorchExportFormat(ExportFormat):
    """A .pt2 file that torch.export.load reads: any batch size, images of the encoder's crop."""

    name: Literal["torch_export"] = "torch_export"

    def write(self, opened: OpenedEncoder, out: Path, *, license_name: str) -> Exported:
        images_NCHW = example_images(opened)
        with untraceable_reported(opened, "torch.export"):
            program = torch.export.export(opened.encoder.eval(), (images_NCHW,), dynamic_shapes=({0: BATCH},))
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={"preprocessing": opened.preprocessing.describe()})
        write_whole(out, content.getvalue())
        crop = opened.preprocessing.crop
        usage = (
            f"model = torch.export.load({str(out)!r}).module()\n"
            f"features = model(images)  # [n, 3, {crop}, {crop}], normalised → [n, {opened.encoder.dim}]"
        )
        return Exported(files=(out,), usage=usage)
