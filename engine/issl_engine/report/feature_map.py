"""A flat map of a representation: where some test images lie, and which lie next to which.

Letters: M images of the map, D width of the representation, K neighbours.
"""

import io
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from issl_engine.environment import version
from issl_engine.whole_file import write_whole

_log = logging.getLogger("issl_engine")

MOST_IMAGES = 1000
NUM_NEIGHBOURS = 8
UMAP_NEIGHBOURS = 15
"""Of UMAP's graph; its own default."""


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """Places are on the unit sphere's directions of largest variance; neighbours are by cosine in all D dimensions."""

    sprite: str
    """Name of the thumbnails' file in the run folder."""
    pca_M2: NDArray[np.float32]
    explained_2: NDArray[np.float32]
    """Shares of the variance along both directions."""
    umap_M2: NDArray[np.float32] | None
    """None where umap-learn is not installed."""
    neighbours_MK: NDArray[np.int16]
    """Places in the map, nearest first, the image itself left out."""
    cosines_MK: NDArray[np.float32]


def chosen_images(num_images: int) -> NDArray[np.int64]:
    """Which images of a split the map shows: the same for every arm and seed, rising."""
    order = np.random.default_rng(0).permutation(num_images)
    return np.sort(order[:MOST_IMAGES])


def make_feature_map(x_MD: Tensor, *, sprite: str) -> FeatureMap:
    """From features float [M, D]. Takes seconds for a thousand images, some more where UMAP is installed."""
    unit_MD = F.normalize(x_MD.double(), dim=1)
    pca_M2, explained_2 = principal_plane(unit_MD)
    neighbours_MK, cosines_MK = nearest(unit_MD, NUM_NEIGHBOURS)
    return FeatureMap(
        sprite=sprite,
        pca_M2=pca_M2.float().numpy(),
        explained_2=explained_2.float().numpy(),
        umap_M2=_umap(unit_MD),
        neighbours_MK=neighbours_MK.short().numpy(),
        cosines_MK=cosines_MK.float().numpy(),
    )


def principal_plane(x_MD: Tensor) -> tuple[Tensor, Tensor]:
    """(coordinates [M, 2] along the two directions of largest variance, their shares of the variance [2]).

    By the eigenvectors of the M x M Gram matrix of the centred rows, which is small whatever D is. A direction's sign
    is that which makes its largest coordinate positive, so that equal features give equal maps.
    """
    centred_MD = x_MD - x_MD.mean(0)
    values_M, vectors_MM = torch.linalg.eigh(centred_MD @ centred_MD.T)
    values_2 = F.pad(values_M.flip(0)[:2].clamp(min=0), (0, max(0, 2 - len(values_M))))
    vectors_M2 = F.pad(vectors_MM.flip(1)[:, :2], (0, max(0, 2 - len(values_M))))
    largest_2 = vectors_M2.gather(0, vectors_M2.abs().argmax(0, keepdim=True))[0]
    signs_2 = torch.where(largest_2 < 0, -1.0, 1.0)
    total = values_M.clamp(min=0).sum()
    shares_2 = values_2 / total if total > 0 else torch.zeros_like(values_2)
    return vectors_M2 * values_2.sqrt() * signs_2, shares_2


def nearest(unit_MD: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(places int64 [M, K], cosines [M, K]) of the nearest other rows of unit length; K is at most M - 1."""
    cosines_MM = unit_MD @ unit_MD.T
    cosines_MM.fill_diagonal_(-torch.inf)
    cosines_MK, places_MK = cosines_MM.topk(min(count, len(unit_MD) - 1), dim=1)
    return places_MK, cosines_MK.clamp(-1, 1)


def _umap(unit_MD: Tensor) -> NDArray[np.float32] | None:
    if version("umap-learn") is None or len(unit_MD) <= UMAP_NEIGHBOURS:
        return None
    import umap

    _log.info("UMAP of %d images; its first map in a process takes about a minute more, to be compiled", len(unit_MD))
    reducer = umap.UMAP(n_neighbors=UMAP_NEIGHBOURS, metric="cosine", random_state=0, n_jobs=1)
    return np.asarray(reducer.fit_transform(unit_MD.float().numpy()), dtype=np.float32)


def write_feature_map(path: Path, feature_map: FeatureMap) -> None:
    content = io.BytesIO()
    arrays = {key: value for key, value in vars(feature_map).items() if value is not None}
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_whole(path, content.getvalue())


def read_feature_map(path: Path) -> FeatureMap | None:
    """None where there is none, or a damaged one, or one of another version."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
        found.pop("made_of", None)  # older versions noted it here
        return FeatureMap(
            sprite=str(found.pop("sprite")),
            umap_M2=found.pop("umap_M2", None),
            **found,
        )
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return None
