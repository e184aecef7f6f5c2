"""Fine-tuning judged: learning rate chosen on held-out images, refitted on all labelled ones, top-1 on the rest."""

import logging
from dataclasses import dataclass

import torch
from torch import nn

from issl_engine.loading import EvaluationImages
from issl_engine.mistakes import Mistake
from issl_engine.probing.fine_tuning.label_share import label_share
from issl_engine.probing.fine_tuning.tuner import Tuner
from issl_engine.probing.judging.bootstrap import share_interval
from issl_engine.probing.judging.splits import hold_out
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.sources.base import ImageSet

_log = logging.getLogger("issl_engine")


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """What may be fine-tuned on, and what judges it; no image is in both."""

    train: ImageSet
    judged: ImageSet
    judged_split: str
    """test or held_out."""


def fine_tuned_accuracy(
    tuner: Tuner, images: LabelledImages, *, label_fraction: float, held_out_fraction: float, batch_size: int
) -> ProbeResult:
    """Top-1 with ``label_fraction`` of the training labels; only these choose the learning rate.

    Raises Mistake where a class has a single image, or every learning rate diverged.
    """
    labelled = images.train.subset(label_share(images.train.labels, label_fraction, tuner.seed))
    lr, held_out_value = _chosen_lr(tuner, labelled, held_out_fraction, batch_size)
    model = tuner.fine_tuned(labelled, lr)
    correct = _num_correct(model, tuner, images.judged, batch_size)
    if correct is None:
        raise Mistake(f"fine-tuning diverged on all labelled images at lr {lr:g}; lower fine_tuning.lrs")
    count, config = len(images.judged), tuner.config
    share = "" if label_fraction == 1 else f"{100 * label_fraction:g} % of labels"
    return ProbeResult(
        probe="fine_tuning", metric="top1", value=100 * correct / count, split=images.judged_split, setting=share,
        num_train_images=len(labelled), num_split_images=count, held_out_value=held_out_value,
        interval=share_interval(correct, count, tuner.seed), chosen={"lr": lr},
        grid=(
            f"lr {list(config.lrs)}, {config.optimizer}, {config.epochs} epochs, weight decay {config.weight_decay:g}, "
            f"layer decay {config.layer_decay:g}, flips and random crops of {config.area[0]:g} to {config.area[1]:g} "
            "of the image, chosen on held-out labelled images"
        ),
        seed=tuner.seed,
    )  # fmt: skip


def _chosen_lr(tuner: Tuner, labelled: ImageSet, held_out_fraction: float, batch_size: int) -> tuple[float, float]:
    """The best learning rate and its top-1 in percent on a held-out part of ``labelled``."""
    kept, chosen = (part.numpy() for part in hold_out(labelled.labels, held_out_fraction, tuner.seed))
    fit, held_out = labelled.subset(kept), labelled.subset(chosen)
    scores: dict[float, float] = {}
    for lr in dict.fromkeys(tuner.config.lrs):
        correct = _num_correct(tuner.fine_tuned(fit, lr), tuner, held_out, batch_size)
        if correct is None:
            _log.warning("fine-tuning: lr %g diverged", lr)
            continue
        scores[lr] = 100 * correct / len(held_out)
        _log.info("fine-tuning: %d images, lr %g: %.2f %% on held-out ones", len(fit), lr, scores[lr])
    if not scores:
        raise Mistake(f"fine-tuning diverged at every lr of {list(tuner.config.lrs)}; lower fine_tuning.lrs")
    best = max(scores, key=lambda lr: scores[lr])
    return best, scores[best]


@torch.no_grad()
def _num_correct(model: nn.Module, tuner: Tuner, images: ImageSet, batch_size: int) -> int | None:
    """Images whose class was predicted; None where a number is NaN or infinite."""
    setting, correct = tuner.preprocessing, 0
    batches = EvaluationImages(
        images, setting, batch_size=batch_size, device=tuner.device, num_threads=tuner.num_threads
    )
    for pixels, labels in batches:
        logits = model(pixels.to(tuner.device).contiguous(memory_format=torch.channels_last))
        if not logits.isfinite().all():
            return None
        correct += int((logits.argmax(1).cpu() == labels).sum())
    return correct
