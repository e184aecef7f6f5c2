"""torchvision's format: a state dict of its ResNets, without the classifier."""

from pathlib import Path
from typing import Literal

from issl_engine.weights.formats.base import Exported, ExportFormat
from issl_engine.weights.open_encoder import OpenedEncoder
from issl_engine.weights.state_dict import plain_resnet, write_state_dict
from issl_engine.weights.weights_file import WeightsError


class TorchvisionFormat(ExportFormat):
    """A .pth file that loads strictly into torchvision's ResNets, their ``fc`` replaced by nn.Identity()."""

    name: Literal["torchvision"] = "torchvision"

    def write(self, opened: OpenedEncoder, out: Path, *, license_name: str) -> Exported:
        name = plain_resnet(opened, "torchvision").name
        if name == "resnet200":
            raise WeightsError(f"{opened.name}: torchvision has no resnet200; take --format timm or safetensors")
        write_state_dict(opened.encoder.state_dict(), out)
        usage = (
            f"model = torchvision.models.{name}()\n"
            "model.fc = torch.nn.Identity()\n"
            f"model.load_state_dict(torch.load({str(out)!r}))"
        )
        return Exported(files=(out,), usage=usage)
