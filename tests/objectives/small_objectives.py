"""What tests know of each objective: small settings, and what is true of it. A new objective needs one entry here."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SmallObjective:
    """One objective. Its name is the entry's, and is in none of the settings."""

    formula: dict[str, Any]
    """Settings for a handful of images in fp64; every setting that a formula needs is spelt out."""
    training: dict[str, Any]
    """Settings for a training run that takes about a second."""
    metrics: set[str]
    """Names of all metrics that it logs."""
    out_of_range: list[dict[str, Any]] = field(default_factory=list)
    """Settings that must be refused, one key each, beside those of ``formula``."""
    two_ranks: dict[str, Any] = field(default_factory=dict)
    """Changes of ``formula`` under which two ranks are compared with one, on 6 images."""
    with_state: dict[str, Any] = field(default_factory=dict)
    """Changes of ``formula`` under which it has all the state that it can have, on 5 images."""
    compares_views: bool = True
    """Whether a single view is refused."""
    compares_images: bool = False
    """Whether a single image is refused."""
    compares_embeddings: bool = False
    """Whether ``training.exact_accumulation`` takes it."""
    assigns_classes: bool = False
    """Whether it assigns images to classes or prototypes."""
    has_collapse_loss: bool = False
    """Whether a constant representation has one known loss."""
    rows_equal_in_collapse: str | None = None
    """The weight whose rows must be equal too for that loss."""
    waits_for_device: bool = False
    """Whether a step waits for a GPU, as the spectrum of a matrix makes it."""


_CONTRASTIVE = {"mutual_information_bound", "retrieval_accuracy", "negatives"}
_COSINES = {"temperature", "positive_cosine", "negative_cosine"}

SMALL: dict[str, SmallObjective] = {
    "simclr": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4, "temperature": 0.3},
        training={"hidden_dim": 32},
        metrics=_CONTRASTIVE | _COSINES,
        out_of_range=[{"temperature": 0}, {"temperature": -0.1}, {"temprature": 0.1}],
        compares_images=True,
        compares_embeddings=True,
        has_collapse_loss=True,
    ),
    "cissl": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4, "temperature": 0.2},
        training={"hidden_dim": 32},
        metrics=_CONTRASTIVE | _COSINES,
        out_of_range=[{"temperature": "nan"}, {"student_head": "conv"}, {"hidden_layers": 0}],
        two_ranks={"exchange": "ring"},
        compares_images=True,
        compares_embeddings=True,
        has_collapse_loss=True,
    ),
    "swav": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4, "num_prototypes": 8, "freeze_prototypes_steps": 0},
        training={"num_prototypes": 12, "queue_length": 16, "queue_start_epochs": 0.4, "hidden_dim": 32},
        metrics={"assignment_entropy", "assignment_perplexity", "prototypes_used"},
        out_of_range=[{"epsilon": 0}, {"num_prototypes": 1}, {"queue_length": -1}],
        two_ranks={"queue_length": 12, "queue_start_epochs": 0.1},  # one step; the queue is full after two
        with_state={"queue_length": 10, "queue_start_epochs": 0},
        assigns_classes=True,
        has_collapse_loss=True,
        rows_equal_in_collapse="prototypes",
    ),
    "dino": SmallObjective(
        formula={"hidden_dim": 7, "bottleneck_dim": 4, "num_prototypes": 9, "freeze_last_layer_epochs": 0},
        training={"num_prototypes": 24, "hidden_dim": 32},
        metrics={"teacher_entropy", "kl_distillation", "perplexity", "prototypes_used", "teacher_temperature"},
        out_of_range=[{"centre_momentum": 1.0}, {"ema_momentum": 1.5}, {"teacher_temperature_start": 0}],
        two_ranks={"centre_momentum": 0.5},
        assigns_classes=True,
        has_collapse_loss=True,
        rows_equal_in_collapse="projector.last_layer",
    ),
    "dissl": SmallObjective(
        formula={"hidden_dim": 7, "bottleneck_dim": 4, "num_classes": 9},
        training={"num_classes": 24, "hidden_dim": 32, "bottleneck_dim": 16},
        metrics={
            "distillation_ce", "marginal_entropy", "conditional_entropy", "invariance_ce", "kl_invariance",
            "kl_distillation", "perplexity", "classes_used", "invariance_weight", "teacher_temperature",
        },
        out_of_range=[
            {"teacher_temperature": 0}, {"entropy_weight": -1}, {"num_classes": 1}, {"teacher_head": "residual"},
        ],
        two_ranks={"invariance_weight_start": 2.3, "invariance_ramp_steps": 3},
        assigns_classes=True,
    ),
    "barlow_twins": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4, "off_diagonal_weight": 0.3},
        training={"hidden_dim": 32, "projection_dim": 32},
        metrics={"diagonal_correlation"},
        out_of_range=[{"off_diagonal_weight": -0.1}],
        compares_images=True,
        has_collapse_loss=True,
    ),
    "vicreg": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4},
        training={"hidden_dim": 32, "projection_dim": 32},
        metrics={"invariance", "variance", "covariance", "projection_std"},
        out_of_range=[{"variance_weight": -1}],
        compares_images=True,
        has_collapse_loss=True,
    ),
    "byol": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4},
        training={"hidden_dim": 32, "projection_dim": 16},
        metrics={"cosine", "projection_std"},
        out_of_range=[{"ema_momentum": -0.1}],
    ),
    "simsiam": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4, "predictor_hidden_dim": 3},
        training={"hidden_dim": 32, "projection_dim": 16},
        metrics={"cosine", "projection_std"},
        out_of_range=[{"projection_dim": 0}],
    ),
    "ssl_hsic": SmallObjective(
        formula={"kernel_scale": 0.7, "hidden_dim": 7, "projection_dim": 4},
        training={"hidden_dim": 32, "projection_dim": 16},
        metrics={"hsic_image", "hsic_self", "projection_std"},
        out_of_range=[{"kernel_scale": 0}],
        compares_images=True,
    ),
    "matrix_ssl": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4, "predictor_hidden_dim": 7},
        training={"hidden_dim": 32, "projection_dim": 16, "predictor_hidden_dim": 16},
        metrics={"uniformity", "alignment", "projection_std"},
        out_of_range=[{"shift": 0}],
        two_ranks={"alignment_weight": 0.7},
        compares_images=True,
        waits_for_device=True,
    ),
    "sem": SmallObjective(
        formula={"num_simplices": 3, "simplex_dim": 4, "temperature": 0.5, "hidden_dim": 7, "projection_dim": 4},
        training={"num_simplices": 8, "simplex_dim": 4, "hidden_dim": 32, "projection_dim": 16},
        metrics={"cosine", "projection_std", "simplex_entropy"},
        out_of_range=[{"simplex_dim": 1}, {"temperature": 0}, {"probe_temperatures": [1, 0]}],
    ),
    "falcon": SmallObjective(
        formula={"code_dim": 8, "num_codes": 9, "epsilon": 1e-3},
        training={"code_dim": 32, "num_codes": 24},
        metrics={"invariance_ce", "marginal_entropy", "conditional_entropy", "perplexity", "codes_used"},
        out_of_range=[{"epsilon": 0.2}, {"invariance_weight": 0}],
        two_ranks={"invariance_weight": 0.4},
        compares_images=True,
        assigns_classes=True,
        has_collapse_loss=True,
    ),
    "diet": SmallObjective(
        formula={"label_smoothing": 0.6},
        training={},
        metrics={"target_kl"},
        out_of_range=[{"label_smoothing": 1}],
        compares_views=False,
        has_collapse_loss=True,
        rows_equal_in_collapse="weight",
    ),
    "aninfonce": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4, "initial_temperature": 0.3},
        training={"hidden_dim": 32},
        metrics=_CONTRASTIVE | {"smallest_weight", "largest_weight"},
        out_of_range=[{"initial_temperature": 0}],
        two_ranks={"exchange": "ring"},
        compares_images=True,
        compares_embeddings=True,
        has_collapse_loss=True,
    ),
    "mmcr": SmallObjective(
        formula={"hidden_dim": 7, "projection_dim": 4},
        training={"hidden_dim": 32, "projection_dim": 16},
        metrics={"centroid_nuclear_norm", "centroid_length"},
        out_of_range=[{"compression_weight": -1}],
        two_ranks={"compression_weight": 0.3},
        compares_images=True,
        has_collapse_loss=True,
        waits_for_device=True,
    ),
}  # fmt: skip
"""Objective's name → its entry; ``test_contract.py`` holds that every objective has one."""
