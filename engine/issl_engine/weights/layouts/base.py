"""What a layout is: how one project names the tensors of its files, seen from the names alone.

A layout is one file of this folder with a ``Layout`` subclass; files are matched against it by being there. It says
where the encoder lies (a prefix), what beside it is known to be no part of it, and what is named otherwise than here.
Our names are torchvision's for ResNets and timm's for ViTs.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

from issl_engine.config import Config
from issl_engine.models.encoders.resnet import Stem
from issl_engine.views.preprocessing import IMAGENET, Preprocessing

ENCODER_NAMES = re.compile(
    r"(conv1|bn1|layer\d+|resizer|patch_embed|blocks|norm|norm_pre|fc_norm)\..+|cls_token|pos_embed|reg_token"
)
"""Our names of a ResNet's and a ViT's parts."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The names of one file, sorted by what they belong to."""

    layout: "Layout"
    root: str
    """The prefix of the encoder's names."""
    encoder: dict[str, str]
    """Our name → the file's name."""
    heads: tuple[str, ...]
    """Names that the layout knows: projection heads, classifiers, momentum copies, queues."""
    left_over: tuple[str, ...]
    """Names beside the encoder's that neither belong to it nor are known."""
    others: tuple[str, ...]
    """Names that begin otherwise than the encoder's and are not known."""

    def behind(self, root: str) -> "Reading":
        """The same of names that all have another prefix in front."""
        return replace(
            self,
            root=root + self.root,
            encoder={ours: root + name for ours, name in self.encoder.items()},
            heads=tuple(root + name for name in self.heads),
            left_over=tuple(root + name for name in self.left_over),
            others=tuple(root + name for name in self.others),
        )


class Layout(Config):
    """Base of every layout: its ``name`` is a Literal, the first line of its docstring is what tables show."""

    name: str

    roots: ClassVar[tuple[str, ...]]
    """Patterns of the prefix, in order of preference; an encoder lies at one of the file's prefixes."""
    signs: ClassVar[tuple[str, ...]] = ()
    """Patterns each of which some name of the file must fit."""
    heads: ClassVar[tuple[str, ...]] = ()
    """Patterns of whole names that are known to be no part of the encoder."""
    renames: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(pattern, replacement) at the beginning of a name behind the prefix; the first that fits is taken."""
    anchors: ClassVar[tuple[str, ...]] = ("layer1.0.conv1.weight", "patch_embed.proj.weight")
    """What an encoder has in any case; what stands before it is a prefix."""
    preprocessing: ClassVar[Preprocessing] = IMAGENET
    stem_of_3x3: ClassVar[Stem | None] = None
    """What a first convolution of 3x3 means, where all files of this layout agree."""
    preprocessing_of_3x3: ClassVar[Preprocessing | None] = None
    """The images of an encoder with such a stem."""
    vit_heads: ClassVar[dict[int, int]] = {}
    """Width of a ViT → its attention heads, where they are not those of timm's model of that width."""

    def read(self, names: Collection[str]) -> Reading | None:
        """The names sorted by what they belong to, or None for a file of another layout."""
        if not all(any(re.fullmatch(sign, name) for name in names) for sign in self.signs):
            return None
        root = self._root(names)
        return None if root is None else self._sorted_names(names, root)

    def _root(self, names: Collection[str]) -> str | None:
        found = sorted(set(encoder_roots(names, self.anchors)))
        return next((root for pattern in self.roots for root in found if re.fullmatch(pattern, root)), None)

    def _sorted_names(self, names: Collection[str], root: str) -> Reading:
        encoder: dict[str, str] = {}
        heads: list[str] = []
        left_over: list[str] = []
        others: list[str] = []
        known = re.compile("|".join(f"(?:{head})" for head in self.heads) or r"(?!)")
        for name in names:
            is_below, ours = name.startswith(root), self._our_name(name.removeprefix(root))
            if is_below and ENCODER_NAMES.fullmatch(ours):
                encoder[ours] = name
            elif known.fullmatch(name):
                heads.append(name)
            else:
                (left_over if is_below else others).append(name)
        return Reading(
            layout=self,
            root=root,
            encoder=encoder,
            heads=tuple(heads),
            left_over=tuple(left_over),
            others=tuple(others),
        )

    def _our_name(self, name: str) -> str:
        for pattern, replacement in self.renames:
            renamed, count = re.subn(rf"\A(?:{pattern})", replacement, name)
            if count:
                return renamed
        return name


def encoder_roots(names: Collection[str], anchors: Collection[str]) -> list[str]:
    """The prefixes at which some encoder lies: empty, or with a dot at the end."""
    return [
        name.removesuffix(anchor)
        for name in names
        for anchor in anchors
        if name == anchor or name.endswith(f".{anchor}")
    ]
