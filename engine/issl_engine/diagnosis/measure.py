"""All measures of one frozen encoder, with the theory's value where there is one.

Letters: N images, V views of each, D width of the representation, C classes, M images of an ETF.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from issl_engine.measures.alpha_req import alpha_req
from issl_engine.measures.checked_features import class_means, spread
from issl_engine.measures.collapse import alignment, feature_std, rank_me, uniformity
from issl_engine.measures.effective_rank import effective_rank, largest_effective_rank
from issl_engine.measures.invariance import invariance
from issl_engine.measures.lidar import lidar
from issl_engine.measures.simplex_etf import etf_angle_std, etf_cosine, etf_distance, optimal_etf_cosine
from issl_engine.measures.spectrum import singular_spectrum
from issl_engine.measures.variability_collapse import variability_collapse
from issl_engine.mistakes import Mistake

_log = logging.getLogger("issl_engine")

DIGITS = 6
"""Significant digits of spectra in diagnostics.json."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What diagnostics.json holds."""

    measures: dict[str, float] = field(default_factory=dict)
    optimum: dict[str, float] = field(default_factory=dict)
    """The theory's value of a measure, where there is one."""
    spectra: dict[str, list[float]] = field(default_factory=dict)
    """Singular values, falling, over their sum: of the representation, of heads' weights and outputs."""
    split: str = ""
    num_images: int = 0
    num_views: int = 0
    dim: int = 0

    def add(self, name: str, measure: Callable[[], float], optimum: float | None = None) -> None:
        """Measures; where there is no value, says why and leaves the measure out."""
        try:
            self.measures[name] = measure()
        except Mistake as error:
            _log.warning("diagnostics: no %s: %s", name, error)
            return
        if optimum is not None:
            self.optimum[name] = optimum

    def add_spectrum(self, name: str, matrix: Tensor) -> None:
        """That of a matrix as it is; nothing for one that is all zero."""
        try:
            spectrum = singular_spectrum(matrix)
        except Mistake as error:
            _log.warning("diagnostics: no spectrum of %s: %s", name, error)
            return
        self.spectra[name] = [float(f"{value:.{DIGITS}g}") for value in spectrum.tolist()]


def measure_representation(found: Diagnosis, x_ND: Tensor, labels_N: Tensor) -> None:
    """Measures of single images, and of the classes of their labels (int64 [N], -1 where there is no class)."""
    N, D = x_ND.shape
    if spread(x_ND.double()) == 0:
        found.add("feature_std", lambda: 0.0, 1.0)
        _log.warning("diagnostics: the encoder gives all %d images the same features, so little can be measured", N)
        return
    found.add_spectrum("representation", x_ND)
    found.add("rank_me", partial(rank_me, x_ND), min(N, D))
    found.add("effective_rank", partial(effective_rank, x_ND), largest_effective_rank(N, D))
    found.add("alpha_req", partial(alpha_req, x_ND))
    found.add("feature_std", partial(feature_std, x_ND), 1.0)
    found.add("uniformity", partial(uniformity, x_ND))
    C = len(labels_N.unique()) if (labels_N >= 0).all() else 0
    if C > 1:
        means_CD, _ = class_means(x_ND, labels_N)
        found.add("etf_cosine", partial(etf_cosine, means_CD), optimal_etf_cosine(C))
        found.add("etf_angle_std", partial(etf_angle_std, means_CD), 0.0)
        found.add("etf_distance", partial(etf_distance, means_CD), 0.0)
    if C > 1 and N > D:
        found.add("variability_collapse", partial(variability_collapse, x_ND, labels_N))


def measure_views(found: Diagnosis, z_NVD: Tensor) -> None:
    """Measures of views, whose equivalence classes are the images."""
    N, V, D = z_NVD.shape
    if spread(z_NVD.flatten(0, 1).double()) == 0:
        return  # said already
    found.add("alignment", partial(alignment, z_NVD[:, 0], z_NVD[:, 1]), 0.0)
    found.add("invariance", partial(invariance, z_NVD), 0.0)
    found.add("lidar", partial(lidar, z_NVD), largest_effective_rank(N, D))
    M = min(N, D + 1)  # more cannot form an ETF in D dimensions
    apart_M = torch.linspace(0, N - 1, M).long()  # a source may list its images class by class
    means_MD = z_NVD[apart_M].double().mean(1)
    found.add("image_etf_cosine", partial(etf_cosine, means_MD), optimal_etf_cosine(M))
    found.add("image_etf_angle_std", partial(etf_angle_std, means_MD), 0.0)
    found.add("image_etf_distance", partial(etf_distance, means_MD), 0.0)
    if N * V > D:
        image_of_row = torch.arange(N).repeat_interleave(V)
        rows_ND = z_NVD.flatten(0, 1)
        found.add("image_variability_collapse", partial(variability_collapse, rows_ND, image_of_row), 0.0)


def as_json(found: Diagnosis) -> dict[str, Any]:
    """As diagnostics.json holds it."""
    return {
        "measures": found.measures, "optimum": found.optimum, "spectra": found.spectra, "split": found.split,
        "num_images": found.num_images, "num_views": found.num_views, "dim": found.dim,
    }  # fmt: skip
