"""What an encoder is to the engine: images in, one vector per image out."""

from torch import Tensor, nn

from issl_engine.config import Config


class Encoder(nn.Module):
    """Images [N, 3, H, W], float, normalised → representations [N, dim]. ``dim`` is what heads and probes read."""

    dim: int

    def blocks(self) -> list[nn.Module]:
        """Parts that follow one another, each of which training.activation_checkpointing may recompute by itself."""
        raise AssertionError(f"{type(self).__name__} must implement blocks")

    def forward(self, images_NCHW: Tensor) -> Tensor:
        raise AssertionError(f"{type(self).__name__} must implement forward")


class EncoderConfig(Config):
    """Base of every encoder's Config: its ``name`` is a Literal (or an open family, ``name_prefix``)."""

    name: str

    def build(self, *, image_size: int) -> Encoder:
        """A freshly initialised encoder; ``image_size`` (pixels, the largest crop's side) chooses the stem."""
        raise AssertionError(f"{type(self).__name__} must implement build")
