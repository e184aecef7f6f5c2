"""What the theory asks of a recipe with its probes: width, heads and augmentations, by its equivalence classes."""

from dataclasses import dataclass

from issl_engine.recipe.schema import Recipe
from issl_engine.theory.overlap import ClassEstimate
from issl_engine.views.config import Augmentation

LINEAR = ("linear", "linear_sgd", "linear_augmented", "logistic", "ridge")
"""Probes that are linear in the representation."""
OFTEN_EQUIVALENT = 0.5
"""With an estimate above this share of the images, hardly two images share a view."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One line: what the recipe has, what the theory asks for, and whether that holds (None: it says nothing)."""

    item: str
    now: str
    needed: str
    met: bool | None
    advice: str = ""


def requirements(recipe: Recipe, estimate: ClassEstimate, dim: int) -> list[Requirement]:
    """Width (``dim``: the encoder's), heads, DISSL's classes and the augmentations, in that order."""
    kinds = list(dict.fromkeys(_kind(probe.name) for probe in recipe.probes))
    found = [_width(kind, estimate, dim) for kind in kinds]
    found += [_head(recipe, kind) for kind in kinds if kind != "other"]
    prototypes = getattr(recipe.objective, "num_classes", None)
    if recipe.objective.name == "dissl" and prototypes is not None:
        found.append(_prototypes(prototypes, estimate))
    found.append(_coarseness(recipe, estimate))
    return found


def _kind(probe: str) -> str:
    if probe in LINEAR:
        return "linear"
    return "mlp" if probe.startswith("mlp") else "other"


def _width(kind: str, estimate: ClassEstimate, dim: int) -> Requirement:
    """Linear: d >= C - 1, the least that can part C classes in every way. MLP: on a line, C - 1 hidden ReLUs make the
    C - 1 changes of sign that a labeling may need, so d = 1 can do."""
    item, now = f"width for {_title(kind)} probes", f"d = {dim}"
    if kind == "mlp":
        return Requirement(item=item, now=now, needed="d >= 1 with C - 1 hidden units in the probe", met=True)
    if kind == "other":
        return Requirement(item=item, now=now, needed="the theory says nothing of these probes", met=None)
    needed, low, high = estimate.estimate - 1, estimate.low - 1, estimate.high - 1
    met, advice = dim >= needed, ""
    if not met:
        advice = "raise encoder.dim as far as memory allows, or make the augmentations coarser"
    elif dim < high:
        advice = f"if no two images are equivalent, d = {high} would be needed"
    return Requirement(item=item, now=now, needed=f"d >= C - 1 = {needed} ({low} to {high})", met=met, advice=advice)


def _head(recipe: Recipe, kind: str) -> Requirement:
    """One head must be of the probe's kind; the other may be any MLP."""
    item, needed = f"a head for {_title(kind)} probes", f"one head {_article(kind)} {_title(kind)} map"
    head = getattr(recipe.objective, "student_head", None)
    name = recipe.objective.name
    if head is None:
        if kind == "mlp":
            return Requirement(item=item, now=f"{name}: no choice of heads", needed=needed, met=None)
        advice = "objectives cissl and dissl have a student_head, linear by default"
        return Requirement(
            item=item, now=f"{name}: its heads are no choice of the recipe", needed=needed, met=False, advice=advice
        )
    own_kind = "linear" if head == "linear" else "mlp"  # a head with a residual block is an MLP
    now, met = f"student_head: {head}", own_kind == kind
    advice = "" if met else f"set objective.student_head to {kind}, or judge by {_title(own_kind)} probes"
    return Requirement(item=item, now=now, needed=needed, met=met, advice=advice)


def _prototypes(prototypes: int, estimate: ClassEstimate) -> Requirement:
    """DISSL's heads choose among K classes; with K < C some equivalence classes must share one."""
    met = prototypes >= estimate.estimate
    advice = "" if met else "raise objective.num_classes, or make the augmentations coarser"
    return Requirement(
        item="DISSL's classes", now=f"K = {prototypes}", needed=f"K >= C = {estimate.estimate}", met=met, advice=advice
    )


def _coarseness(recipe: Recipe, estimate: ClassEstimate) -> Requirement:
    """Labelled images that a task needs grow with C, so fewer, larger classes are better."""
    share = estimate.estimate / estimate.num_images
    now = f"C / N = {share:.2g}"
    item, needed = "coarse augmentations", "few classes, none of which joins two labels"
    if not estimate.evidence:
        advice = (
            "images of one label are joined hardly more often than images of two: few images share a view, or this "
            "comparison does not show it; try --encoder with a pretrained one, and stronger augmentations that keep "
            "labels"
        )
        return Requirement(item=item, now=now, needed=needed, met=None, advice=advice + _extra(recipe))
    if share <= OFTEN_EQUIVALENT:
        return Requirement(item=item, now=now, needed=needed, met=True)
    advice = "hardly two images share a view: stronger augmentations that keep labels would leave fewer classes"
    return Requirement(item=item, now=now, needed=needed, met=False, advice=advice + _extra(recipe))


def _extra(recipe: Recipe) -> str:
    unused = _unused(recipe.views.augmentation)
    return f" (this recipe leaves out {', '.join(unused)})" if unused else ""


def _unused(augmentation: Augmentation) -> list[str]:
    """Keys of views.augmentation that do nothing."""
    candidates = ("flip", "colour_jitter", "greyscale", "blur", "rotation", "policy")
    return [key for key in candidates if not getattr(augmentation, key)]


def _title(kind: str) -> str:
    return {"linear": "linear", "mlp": "MLP", "other": "other"}[kind]


def _article(kind: str) -> str:
    return "an" if kind == "mlp" else "a"
