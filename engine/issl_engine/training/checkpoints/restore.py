"""Puts a checkpoint's state back, on as many ranks as saved it or on another number, at any ZeRO stage."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from issl_engine.models.rank_buffers import BufferMismatchError, buffer_rules
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks
from issl_engine.training.checkpoints.layout import (
    ENCODER,
    LEARNER,
    ONLINE_PROBE,
    STUDENT_PREFIX,
    TEACHER,
    TEACHER_PREFIX,
    optimizer_name,
    rank_name,
)
from issl_engine.training.checkpoints.manifest import CheckpointError, Manifest, read_manifest
from issl_engine.training.checkpoints.optimizer_state import SavedOptimizerState, load_optimizer_state
from issl_engine.training.checkpoints.snapshot import (
    CPU_RANDOM,
    CUDA_RANDOM,
    LEARNER_BUFFERS,
    PROBE_BUFFERS,
    PROBE_OPTIMIZER,
)
from issl_engine.training.deepspeed import Engine
from issl_engine.training.learner import Learner


def restore_checkpoint(
    checkpoint: Path, *, engine: Engine, learner: Learner, online_probe: OnlineProbe | None, ranks: Ranks
) -> Manifest:
    """Weights, optimiser, buffers, online probe and random numbers of a verified checkpoint.

    With as many ranks as saved it, every bit is as it was. With another number buffers follow their rules
    (models/rank_buffers.py), and random numbers start anew from (seed, step, rank): the same each time that one resumes
    with that number. Every rank calls it; raises CheckpointError on all of them.
    """
    manifest, reason = None, None
    try:
        manifest = _restore(checkpoint, engine, learner, online_probe, ranks)
    except CheckpointError as error:
        reason = str(error)
    except (SafetensorError, KeyError, OSError) as error:
        reason = f"{checkpoint}: the state cannot be read ({error})"
    reasons = [found for found in ranks.gather(reason) if found is not None]
    if reasons:
        raise CheckpointError(reasons[0])
    assert manifest is not None
    return manifest


def _restore(
    checkpoint: Path, engine: Engine, learner: Learner, online_probe: OnlineProbe | None, ranks: Ranks
) -> Manifest:
    manifest = read_manifest(checkpoint)
    _restore_weights(checkpoint, learner)
    engine.take_weights_from_module()
    paths = [checkpoint / optimizer_name(rank) for rank in range(manifest.world_size)]
    with SavedOptimizerState(paths) as saved:
        load_optimizer_state(engine.torch_optimizer, engine.fragments(), saved)
    if not (checkpoint / ONLINE_PROBE).exists():
        online_probe = None  # it begins anew
    if online_probe is not None:
        _restore_probe(checkpoint / ONLINE_PROBE, online_probe)
    _restore_rank_state(checkpoint, manifest, learner, online_probe, ranks)
    return manifest


def restore_learner(checkpoint: Path, learner: Learner, manifest: Manifest, ranks: Ranks) -> None:
    """Weights and buffers of a verified checkpoint, without optimiser, online probe and random numbers. Raises
    CheckpointError, SafetensorError, KeyError and OSError for what cannot be read."""
    _restore_weights(checkpoint, learner)
    same = manifest.world_size == ranks.world_size
    savers = [ranks.rank] if same else range(manifest.world_size)
    with ExitStack() as stack:
        paths = [checkpoint / rank_name(rank) for rank in savers]
        files = [stack.enter_context(safe_open(path, framework="pt", device="cpu")) for path in paths]
        _restore_buffers(checkpoint, learner, LEARNER_BUFFERS, files, ranks, same=same)
    _restore_encoder_buffers(checkpoint, learner)


@torch.no_grad()
def _restore_encoder_buffers(checkpoint: Path, learner: Learner) -> None:
    """Those of the encoders' own files, where ranks differ: what is measured is what is exported."""
    buffers = dict(learner.named_buffers())
    for prefix, path in _weight_files(checkpoint):
        if not prefix:
            continue
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 (a file, not a mapping)
                if prefix + name in buffers:
                    buffers[prefix + name].copy_(file.get_tensor(name))


def _weight_files(checkpoint: Path) -> list[tuple[str, Path]]:
    """(What the names in the learner begin with and those in the file do not, the file).

    A checkpoint of an earlier version has the teacher's encoder in the learner's file, by its whole names.
    """
    files = [(STUDENT_PREFIX, ENCODER), (TEACHER_PREFIX, TEACHER), ("", LEARNER)]
    return [(prefix, checkpoint / name) for prefix, name in files if name != TEACHER or (checkpoint / name).exists()]


@torch.no_grad()
def _restore_weights(checkpoint: Path, learner: Learner) -> None:
    weights = dict(learner.named_parameters())
    found = set()
    for prefix, path in _weight_files(checkpoint):
        with safe_open(path, framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118 (a file, not a mapping)
                if prefix + key in weights:
                    weights[prefix + key].copy_(file.get_tensor(key))
                    found.add(prefix + key)
    missing = sorted(weights.keys() - found)
    if missing:
        raise CheckpointError(f"{checkpoint}: the checkpoint lacks the weights {missing[0]}; was the encoder changed?")


def _restore_probe(path: Path, online_probe: OnlineProbe) -> None:
    weights = dict(online_probe.named_parameters())
    with torch.no_grad(), safe_open(path, framework="pt", device="cpu") as file:
        for name, weight in weights.items():
            weight.copy_(file.get_tensor(name))
        indices = {id(weight): index for index, weight in enumerate(online_probe.optimizer.param_groups[0]["params"])}
        content = online_probe.optimizer.state_dict() | {"state": {}}
        for key in file.keys():  # noqa: SIM118 (a file, not a mapping)
            if key.startswith(f"{PROBE_OPTIMIZER}/"):
                _, kind, name = key.split("/")
                content["state"].setdefault(indices[id(weights[name])], {})[kind] = file.get_tensor(key)
        online_probe.optimizer.load_state_dict(content)


def _restore_rank_state(
    checkpoint: Path, manifest: Manifest, learner: Learner, online_probe: OnlineProbe | None, ranks: Ranks
) -> None:
    same = manifest.world_size == ranks.world_size
    savers = [ranks.rank] if same else range(manifest.world_size)
    with ExitStack() as stack:
        files = [
            stack.enter_context(safe_open(checkpoint / rank_name(rank), framework="pt", device="cpu"))
            for rank in savers
        ]
        for module, prefix in _modules(learner, online_probe):
            _restore_buffers(checkpoint, module, prefix, files, ranks, same=same)
        _restore_random(files[0] if same else None, manifest, ranks)


def _restore_random(file: Any | None, manifest: Manifest, ranks: Ranks) -> None:
    """As they were in this rank's ``file``; what it lacks, as a run moved to GPUs does, begins anew."""
    entropy = np.random.SeedSequence((manifest.seed, manifest.step, ranks.rank))
    torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
    if file is None:
        return
    torch.set_rng_state(file.get_tensor(CPU_RANDOM))
    if CUDA_RANDOM in set(file.keys()) and torch.cuda.is_available():
        torch.cuda.set_rng_state(file.get_tensor(CUDA_RANDOM))


def _modules(learner: Learner, online_probe: OnlineProbe | None) -> Iterator[tuple[nn.Module, str]]:
    yield learner, LEARNER_BUFFERS
    if online_probe is not None:
        yield online_probe, PROBE_BUFFERS


@torch.no_grad()
def _restore_buffers(
    checkpoint: Path, module: nn.Module, prefix: str, files: list[Any], ranks: Ranks, *, same: bool
) -> None:
    for name, buffer, rule in buffer_rules(module):
        saved: list[Tensor] = [file.get_tensor(f"{prefix}/{name}") for file in files]
        try:
            value = saved[0] if same else rule.redistributed(saved, rank=ranks.rank, world_size=ranks.world_size)
        except BufferMismatchError as error:
            raise CheckpointError(
                f"{checkpoint}: saved by {len(saved)} ranks, and this run has {ranks.world_size}: the buffer "
                f"{prefix}.{name} {error}; resume with {len(saved)} ranks"
            ) from error
        buffer.copy_(value)
