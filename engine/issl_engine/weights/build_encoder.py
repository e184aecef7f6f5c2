"""Builds an encoder of this engine from a file's tensors, with none missing and none left over."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from issl_engine.models.encoders.base import Encoder, EncoderConfig
from issl_engine.models.encoders.timm_model import TimmConfig
from issl_engine.views.preprocessing import Preprocessing
from issl_engine.weights.choose_layout import choose_layout, listed
from issl_engine.weights.layouts.base import Reading
from issl_engine.weights.reference import ReferenceOptions
from issl_engine.weights.resnet_shapes import resnet_of
from issl_engine.weights.vit_shapes import vit_of
from issl_engine.weights.weights_file import WeightsError, WeightsFile


@dataclass(frozen=True, kw_only=True)
class Identified:
    """What a file holds, known before anything is built."""

    reading: Reading
    config: EncoderConfig
    image_size: int
    """Side of the images, in pixels, that the encoder is built for."""
    preprocessing: Preprocessing


def identify(file: WeightsFile, options: ReferenceOptions) -> Identified:
    """Layout, architecture and preprocessing of a file. Raises WeightsError."""
    reading = choose_layout(file.tensors, file.path, root=options.root)
    shapes = {ours: tuple(file.tensors[name].shape) for ours, name in reading.encoder.items()}
    place, layout = f"{file.path} (layout {reading.layout.name})", reading.layout
    if "patch_embed.proj.weight" in shapes:
        width = next(iter(shapes["patch_embed.proj.weight"]), 0)
        vit, size = vit_of(shapes, place, num_heads=options.num_heads or layout.vit_heads.get(width))
        return Identified(
            reading=reading,
            config=vit,
            image_size=size,
            preprocessing=_resized(layout.preprocessing, options.size or (None if size == 224 else size)),
        )
    resnet = resnet_of(shapes, place, stem_of_3x3=options.stem or layout.stem_of_3x3)
    images = layout.preprocessing
    if resnet.stem != "imagenet":
        images = layout.preprocessing_of_3x3 or images
        if layout.preprocessing_of_3x3 is None and options.size is None:
            raise WeightsError(f"{place}: add the size of its images to the name: FILE?stem={resnet.stem}&size=32")
    images = _resized(images, options.size)
    return Identified(reading=reading, config=resnet, image_size=images.crop, preprocessing=images)


def _resized(images: Preprocessing, size: int | None) -> Preprocessing:
    return images if size is None else replace(images, resize=size, crop=size)


def build_encoder(file: WeightsFile, found: Identified) -> Encoder:
    """The encoder with the file's weights, in fp32 on the CPU. Raises WeightsError for what does not fit."""
    tensors = {ours: file.tensors[name] for ours, name in found.reading.encoder.items()}
    encoder: Encoder
    if isinstance(found.config, TimmConfig):
        encoder = found.config.build(image_size=found.image_size)
        tensors = {f"backbone.{name}": tensor for name, tensor in tensors.items()}
    else:
        with torch.device("meta"):  # every parameter and buffer comes from the file
            encoder = found.config.build(image_size=found.image_size)
    wanted = encoder.state_dict()
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked") and name not in tensors:  # files from before torch 0.4.1
            tensors[name] = torch.zeros((), dtype=tensor.dtype)
    _check(tensors, wanted, found, str(file.path))
    encoder.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items()}, assign=True)
    return encoder


def _check(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], found: Identified, path: str) -> None:
    prefix = "backbone." if isinstance(found.config, TimmConfig) else ""
    missing = [name.removeprefix(prefix) for name in wanted if name not in tensors]
    left_over = [found.reading.encoder[name.removeprefix(prefix)] for name in tensors if name not in wanted]
    left_over += found.reading.left_over
    looks_like = f"it looks like layout {found.reading.layout.name} with a {found.config.name}"
    if found.reading.root:
        looks_like += f" at '{found.reading.root}'"
    problems = [f"{listed(missing)} missing"] if missing else []
    problems += [f"{listed(left_over)} left over"] if left_over else []
    if problems:
        raise WeightsError(f"{path}: {looks_like}, but with {', and '.join(problems)}; the encoder is another one")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise WeightsError(
                f"{path}: {looks_like}, but its {name.removeprefix(prefix)} is {list(tensor.shape)} instead of "
                f"{list(wanted[name].shape)}; grouped, wide and anti-aliased ResNets are not supported"
            )
