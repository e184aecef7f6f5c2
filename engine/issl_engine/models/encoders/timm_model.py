"""Any image model of the timm library, freshly initialised.

Letters: N images, C channels, H height, W width, D representation.
"""

from importlib import import_module
from types import ModuleType
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import Encoder, EncoderConfig


class TimmConfig(EncoderConfig):
    """A model of timm, given as ``timm/<model name>``, without its classifier and never pretrained."""

    name_prefix: ClassVar[str] = "timm/"
    name: Annotated[str, Field(pattern=r"^timm/.+")]
    """``timm/`` and the name that timm gives the model, such as timm/resnet26."""
    num_heads: Annotated[int, Field(ge=1)] | None = None
    """Attention heads of a ViT, or null for those of timm's model; MoCo v3's ViT-S has 12 instead of 6."""

    @property
    def model(self) -> str:
        """The name that timm gives the model."""
        return self.name.removeprefix(self.name_prefix)

    def build(self, *, image_size: int) -> "TimmEncoder":
        """Raises Mistake if timm is missing or has no such model, if it cannot have so many heads, if it does not take
        images of this size, or if its output is not [N, dim]."""
        settings = {} if self.num_heads is None else {"num_heads": self.num_heads}
        backbone = _create(self.model, image_size, settings)
        return TimmEncoder(backbone, dim=_measure_dim(backbone, self.name, image_size))


class TimmEncoder(Encoder):
    """Images [N, 3, H, W] → [N, dim], pooled as the timm model does. Sizes depend on the model."""

    def __init__(self, backbone: nn.Module, *, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.dim = dim

    def blocks(self) -> list[nn.Module]:
        """The entries of the outermost containers, where timm models keep their blocks. Raises Mistake if there are
        none."""
        found = _entries(self.backbone)
        if not found:
            raise Mistake(
                "this timm model keeps its blocks in no container, so training.activation_checkpointing finds none to "
                "recompute; set it to false"
            )
        return found

    def forward(self, images_NCHW: Tensor) -> Tensor:
        z_ND: Tensor = self.backbone(images_NCHW)
        return z_ND


def _entries(module: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in module.children():
        found += child if isinstance(child, nn.Sequential | nn.ModuleList) else _entries(child)
    return found


def load_timm(wanted_by: str) -> ModuleType:
    """The timm library. Raises Mistake, which names what wanted it, where it is missing or does not load."""
    try:
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise Mistake(f"{wanted_by} needs the timm library; install it with: pip install issl-engine[timm]") from error
    except (ImportError, RuntimeError) as error:  # its torchvision belongs to another build of torch
        raise Mistake(
            f"{wanted_by} needs the timm library, which does not load ({error}); install a torchvision that was built "
            "for this torch"
        ) from error


def _create(model: str, image_size: int, settings: dict[str, int]) -> nn.Module:
    timm = load_timm(f"encoder timm/{model}")
    if not timm.is_model(model):
        raise Mistake(f"encoder timm/{model} is not a model of timm {timm.__version__}; see timm.list_models()")
    backbone: nn.Module
    try:
        backbone = timm.create_model(model, pretrained=False, num_classes=0, **settings)
    except (AssertionError, RuntimeError, TypeError) as error:  # each model refuses a number of heads in its own way
        if not settings:
            raise
        raise Mistake(
            f"encoder.num_heads: timm/{model} cannot have {settings['num_heads']} attention heads "
            f"({_first_line(error)}); give a number that divides its width, or null for timm's own"
        ) from error
    if not getattr(backbone, "pretrained_cfg", {}).get("fixed_input_size", False):
        return backbone
    # Position embeddings are made for one size, that of the largest crop; smaller crops interpolate them.
    try:
        backbone = timm.create_model(
            model, pretrained=False, num_classes=0, img_size=image_size, dynamic_img_size=True, **settings
        )
    except TypeError as error:
        raise Mistake(
            f"encoder timm/{model} takes images of one size only; choose a convolutional model or a plain ViT"
        ) from error
    return backbone


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _measure_dim(backbone: nn.Module, name: str, image_size: int) -> int:
    """Width of the representation, from one forward pass: timm's attributes do not always give it."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            z_ND: Tensor = backbone(torch.zeros(1, 3, image_size, image_size))
    except (AssertionError, RuntimeError) as error:  # each model refuses a size in its own way
        raise Mistake(
            f"encoder {name} does not take images of {image_size} x {image_size} pixels ({_first_line(error)}); choose "
            "another size of crops, or another encoder"
        ) from error
    backbone.train(was_training)
    if z_ND.ndim != 2:
        raise Mistake(f"encoder {name} gives {list(z_ND.shape)} for one image, not a vector; choose another")
    return z_ND.shape[1]
