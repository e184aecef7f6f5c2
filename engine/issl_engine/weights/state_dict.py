"""Writes state dicts, for the formats that hold nothing else."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from issl_engine.models.encoders.resnet import ResNetConfig
from issl_engine.weights.open_encoder import OpenedEncoder
from issl_engine.weights.weights_file import WeightsError
from issl_engine.whole_file import write_whole


def write_state_dict(tensors: Mapping[str, Tensor], out: Path) -> None:
    """torch.save of contiguous copies on the CPU. Raises OSError."""
    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, content)
    write_whole(out, content.getvalue())


def plain_resnet(opened: OpenedEncoder, library: str) -> ResNetConfig:
    """The settings of a ResNet that torchvision and timm have too. Raises WeightsError for any other encoder."""
    config = opened.config
    if not isinstance(config, ResNetConfig):
        raise _other(opened, f"a {config.name}", library)
    width = opened.encoder.dim
    if any(name.startswith("resizer.") for name in opened.encoder.state_dict()):
        raise _other(opened, f"a {config.name} with a bottleneck to {width} dimensions", library)
    if config.width_multiplier != 1:
        raise _other(opened, f"a {config.name} of {config.width_multiplier} times the width", library)
    if opened.encoder.state_dict()["conv1.weight"].shape[-1] != 7:
        raise _other(opened, f"a {config.name} with a stem for small images", library)
    return config


def _other(opened: OpenedEncoder, what: str, library: str) -> WeightsError:
    return WeightsError(f"{opened.name}: this is {what}, which {library} has not; take --format safetensors or onnx")
