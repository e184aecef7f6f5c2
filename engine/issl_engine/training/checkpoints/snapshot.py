"""What this rank writes of a checkpoint, copied to host memory between two steps."""

import torch
from torch import Tensor, nn

from issl_engine.models.rank_buffers import ImageRows, buffer_rules
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
from issl_engine.training.checkpoints.optimizer_state import optimizer_file, share
from issl_engine.training.checkpoints.tensor_file import TensorFile
from issl_engine.training.deepspeed import Engine, Fragment
from issl_engine.training.learner import Learner

Snapshot = dict[str, TensorFile]
"""File name → what it will hold."""

CPU_RANDOM, CUDA_RANDOM = "random.cpu", "random.cuda"
LEARNER_BUFFERS, PROBE_BUFFERS = "learner", "online_probe"
PROBE_OPTIMIZER = "optimizer"


def take_snapshot(engine: Engine, learner: Learner, online_probe: OnlineProbe | None, ranks: Ranks) -> Snapshot:
    """This rank's files. What all ranks hold alike is divided among them; nothing is sent.

    The copies take as much host memory as the files: on one rank encoder, heads and teacher once and the optimiser's
    state (twice the weights with Adam); on R ranks about an R-th of the latter.
    """
    rank, world_size = ranks.rank, ranks.world_size
    files: Snapshot = {}
    if rank == 0:
        files[ENCODER] = TensorFile(tensors=_copies(learner.encoder.state_dict()))
    if rank == 1 % world_size:
        files[LEARNER] = TensorFile(tensors=_copies(learner_rest(learner)))
    if learner.teacher is not None and rank == 2 % world_size:
        files[TEACHER] = TensorFile(tensors=_copies(learner.teacher.encoder.state_dict()))
    if online_probe is not None and rank == 2 % world_size:
        state = optimizer_file(online_probe.optimizer, probe_fragments(online_probe))
        optimizer = {f"{PROBE_OPTIMIZER}/{key}": value for key, value in state.tensors.items()}
        weights = _copies(dict(online_probe.named_parameters()))
        files[ONLINE_PROBE] = TensorFile(tensors=weights | optimizer)
    fragments = engine.fragments()
    if not engine.zero_stage:
        fragments = share(fragments, rank=rank, world_size=world_size)
    files[optimizer_name(rank)] = optimizer_file(engine.torch_optimizer, fragments)
    files[rank_name(rank)] = TensorFile(tensors=_rank_state(learner, online_probe))
    return files


def learner_rest(learner: Learner) -> dict[str, Tensor]:
    """All weights and buffers of the learner beside the encoders', its own and the teacher's; not queues, of which each
    rank has its own rows."""
    queues = {name for name, _, rule in buffer_rules(learner) if isinstance(rule, ImageRows)}
    return {
        name: tensor
        for name, tensor in learner.state_dict().items()
        if not name.startswith((STUDENT_PREFIX, TEACHER_PREFIX)) and name not in queues
    }


def probe_fragments(online_probe: OnlineProbe) -> list[Fragment]:
    """The online probe's parameters as its own optimiser holds them: whole."""
    return [Fragment.whole(name, weight) for name, weight in online_probe.named_parameters()]


def count_parameters(learner: Learner) -> dict[str, int]:
    """Weights of encoder, objective (heads) and teacher, where there is one."""
    parts: dict[str, nn.Module | None] = {
        "encoder": learner.encoder, "objective": learner.objective, "teacher": learner.teacher,
    }  # fmt: skip
    return {
        name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items() if part is not None
    }


def _rank_state(learner: Learner, online_probe: OnlineProbe | None) -> dict[str, Tensor]:
    state = {f"{LEARNER_BUFFERS}/{name}": buffer for name, buffer in learner.named_buffers()}
    if online_probe is not None:
        state |= {f"{PROBE_BUFFERS}/{name}": buffer for name, buffer in online_probe.named_buffers()}
    state[CPU_RANDOM] = torch.get_rng_state()
    if torch.cuda.is_available():
        state[CUDA_RANDOM] = torch.cuda.get_rng_state()
    return _copies(state)


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """In host memory, in plain order whatever the memory format."""
    return {
        name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach()) for name, tensor in tensors.items()
    }
