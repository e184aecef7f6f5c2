"""What a recipe says of the images that probes and diagnostics measure an encoder on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake

Network = Literal["student", "teacher"]
"""Which of the two networks of an objective with an EMA teacher: the one that takes gradients, or its slow copy."""


class EvaluationConfig(Config):
    """Images for the probes: resized, centre crop, no augmentation."""

    resize: Annotated[int, Field(ge=8)]
    """The shorter side is resized to this, in pixels."""
    crop: Annotated[int, Field(ge=8)]
    """Side of the centre crop, in pixels."""
    network: Network | Literal["both"] = "student"
    """Which network is probed, where the objective has an EMA teacher: student is the encoder that takes gradients,
    teacher is its slow copy, and both probes each. Diagnostics and feature maps show one: the teacher with teacher,
    else the student."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Images per rank in one forward pass of the frozen encoder."""
    held_out_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training split, balanced over classes, on which probes choose their hyper-parameters."""
    max_train_images: Annotated[int, Field(ge=1)] | None = None
    """Probe on at most this many training images (drawn with the seed), or null for all."""
    report_on: Literal["test", "held_out"] = "test"
    """Split of the reported number; held_out leaves the test split unread, for tuning a recipe."""
    over_training: Annotated[int, Field(ge=0, le=100)] = 0
    """Checkpoints, evenly spaced and with the last, on which the first probe is fitted too, for accuracy against epochs
    in the report; 0 for none. They are kept, and each costs a checkpoint's write, its disk and one more probe."""
    allow_shared_images: bool = False
    """With true, test images that are in the training split too, byte by byte, are counted in a warning; with false
    they are an error. Within the training split such images are a warning always."""
    check_leaks: bool = False
    """Also fit each probe twice more, with other images in the place of those that judge it, and stop where that
    changes a weight or a hyper-parameter."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """Those that are probed, in the order of results."""
        return ("student", "teacher") if self.network == "both" else (self.network,)

    @property
    def shown_network(self) -> Network:
        """The one that diagnostics and feature maps show."""
        return "teacher" if self.network == "teacher" else "student"

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop > self.resize:
            raise Mistake(f"crop ({self.crop}) is larger than resize ({self.resize}); make crop smaller or equal")
        return self
