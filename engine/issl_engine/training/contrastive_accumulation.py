"""Exact large batches by accumulation: a loss that compares all images, with the memory of one micro-batch's graph.

Plain accumulation averages the losses of micro-batches, each of which compares its own images only. Here the loss is
that of all of them together (the gradient cache of Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup", arXiv 2101.06983), for the price of a second forward pass:

1. embed every micro-batch without a graph: e_1 ... e_k, small tensors;
2. the loss L(e_1, ..., e_k) and g_i = ∂L/∂e_i;
3. embed each micro-batch again, now with a graph, and send g_i back through it: Σ_i g_i · ∂e_i/∂θ is ∂L/∂θ.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from issl_engine.mistakes import Mistake

MicroBatch = TypeVar("MicroBatch")
Embeddings = tuple[Tensor, ...]


class AccumulatedLoss(NamedTuple):
    """``loss``: scalar, detached, over all micro-batches; ``metrics``: as ``compare`` gave them; ``replay_error``:
    scalar, detached, the largest absolute difference between the embeddings of the two passes (0 where every
    operation is deterministic)."""

    loss: Tensor
    metrics: dict[str, Tensor]
    replay_error: Tensor


def contrastive_accumulation(
    micro_batches: Iterable[MicroBatch],
    embed: Callable[[MicroBatch], Embeddings],
    compare: Callable[[Embeddings], tuple[Tensor, dict[str, Tensor]]],
    *,
    module: nn.Module,
    dim: int = 0,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> AccumulatedLoss:
    """Adds to every parameter's ``grad`` what ``compare(embed(all images))[0].backward()`` would.

    ``embed``: one micro-batch → a tuple of tensors, each with the micro-batch's images along ``dim``; the micro-batches
    may differ in size. It is called twice for each, first without gradients, so what it does besides happens twice.
    ``compare``: the same tuple, of all images in the order of the micro-batches → (scalar loss, metrics); called once,
    outside any graph of ``embed``. Parameters that it uses itself (a learnable temperature) get their gradients too.
    ``module``: what ``embed`` runs; its buffers are put back after the first pass. ``backward``: called once for each
    micro-batch, with a scalar whose gradients are to be added up, not averaged; its value means nothing. Each of these
    scalars holds its share of the gradient of ``compare``'s own parameters, so that an engine that expects every
    parameter in every backward pass finds it.

    What equals what: where an image's embedding depends on that image alone (no batch-norm, or batch-norm in eval
    mode), loss and gradients are those of one pass over all images, up to rounding. Batch-norm in training mode
    normalises by each micro-batch's own rows, as in plain accumulation: the gradients are then exactly those of the
    loss of these embeddings, which are not the embeddings of one large pass. An image's views share their statistics
    with few others then, which gives the positives away: prefer few, large micro-batches. Running statistics and other
    buffers move once for each micro-batch, in order. Random numbers (CPU, current CUDA device) are replayed, so that
    both passes draw the same dropout masks; afterwards the generators stand where one pass and ``compare`` leave them.
    Both passes run under the caller's autocast. Kernels that are not deterministic, or that are chosen by whether a
    graph is wanted (torch.compile, attention), can make the passes differ: ``replay_error`` says by how much.

    Several ranks: ``embed`` takes this rank's images and ``compare`` gathers over its process group, in the convention
    of ``issl_kernels.collectives``; average gradients over ranks as ever. All ranks need as many micro-batches.

    Memory: the micro-batches themselves, all embeddings twice, the graph of ``compare``, and one micro-batch's graph.

    Raises Mistake for no micro-batches, embeddings that are not a tuple of tensors or do not fit together along
    ``dim``, an ``embed`` that gives other shapes the second time or tensors without gradient, and a loss that is no
    scalar or has no gradient.
    """
    batches = list(micro_batches)
    if not batches:
        raise Mistake("contrastive_accumulation got no micro-batches; give it at least one")
    states: list[_RandomState] = []
    first: list[Embeddings] = []
    with _buffers_put_back(module), torch.no_grad():
        for batch in batches:
            states.append(_RandomState.now())
            first.append(_as_embeddings(embed(batch)))
    # Autocast caches its casts of the weights; one made without a graph must not serve the pass that needs it.
    torch.clear_autocast_cache()

    loss, metrics, gradients, own = _loss_and_gradients(first, compare, dim)

    after = _RandomState.now()
    replay_error = torch.zeros((), device=loss.device)
    for batch, state, before, gradient in zip(batches, states, first, gradients, strict=True):
        partial = sum(((leaf * share).sum() for leaf, share in own), torch.zeros_like(loss)) / len(batches)
        state.restore()
        embeddings = _as_embeddings(embed(batch))
        _check_same_shapes(before, embeddings)
        for tensor, its_gradient in zip(embeddings, gradient, strict=True):
            if its_gradient is not None:
                partial = partial + (tensor * its_gradient).sum()
        if not partial.requires_grad:
            raise Mistake("embed gave tensors without gradient; let it use weights that require one, undetached")
        replay_error = torch.maximum(replay_error, _largest_difference(before, embeddings))
        backward(partial)
    after.restore()
    return AccumulatedLoss(loss, metrics, replay_error)


def _loss_and_gradients(
    parts: Sequence[Embeddings], compare: Callable[[Embeddings], tuple[Tensor, dict[str, Tensor]]], dim: int
) -> tuple[Tensor, dict[str, Tensor], list[tuple[Tensor | None, ...]], list[tuple[Tensor, Tensor]]]:
    """(detached loss, metrics, each micro-batch's gradients [as its embeddings], (parameter, gradient) of ``compare``'s
    own parameters)."""
    leaves = tuple(_joined(tensors, dim) for tensors in zip(*parts, strict=True))
    loss, metrics = compare(leaves)
    if loss.ndim != 0:
        raise Mistake(f"compare must give a scalar loss, not one of shape {list(loss.shape)}")
    if not loss.requires_grad:
        raise Mistake(
            "compare gave a loss without gradient; compute it from the embeddings, with gradients enabled and "
            "nothing detached"
        )
    mine = [leaf for leaf in leaves if leaf.requires_grad]
    others = [leaf for leaf in _graph_leaves(loss) if all(leaf is not embedding for embedding in mine)]
    found = torch.autograd.grad(loss, [*mine, *others], allow_unused=True)
    of_embedding = iter(found[: len(mine)])
    pieces: list[Sequence[Tensor | None]] = []
    for index, leaf in enumerate(leaves):
        whole = next(of_embedding) if leaf.requires_grad else None
        sizes = [part[index].shape[dim] for part in parts]
        pieces.append([None] * len(parts) if whole is None else torch.split(whole, sizes, dim))
    own = [(leaf, share) for leaf, share in zip(others, found[len(mine) :], strict=True) if share is not None]
    return loss.detach(), metrics, list(zip(*pieces, strict=True)), own


def _joined(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """One leaf with gradient (where the dtype has any) of the micro-batches' tensors."""
    try:
        whole = torch.cat(list(tensors), dim)
    except (RuntimeError, IndexError) as error:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        raise Mistake(
            f"the micro-batches' embeddings of shapes {shapes} cannot be joined along dim {dim}; give them the images "
            "along that dim and equal sizes along the others"
        ) from error
    return whole.requires_grad_(whole.is_floating_point())


def _graph_leaves(loss: Tensor) -> list[Tensor]:
    """Every tensor in whose ``grad`` ``loss.backward()`` would write."""
    if loss.grad_fn is None:
        return [loss]
    leaves: list[Tensor] = []
    nodes, seen = [loss.grad_fn], {loss.grad_fn}
    while nodes:
        node = nodes.pop()
        if node.name().endswith("AccumulateGrad"):
            leaves.append(node.variable)  # type: ignore[attr-defined]
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                nodes.append(following)
    return leaves


def _as_embeddings(output: Embeddings) -> Embeddings:
    if not isinstance(output, tuple) or not output or not all(isinstance(tensor, Tensor) for tensor in output):
        raise Mistake(f"embed must give a tuple of tensors, at least one, not {type(output).__name__}")
    return output


def _check_same_shapes(first: Embeddings, second: Embeddings) -> None:
    shapes = [[list(tensor.shape) for tensor in embeddings] for embeddings in (first, second)]
    if shapes[0] != shapes[1]:
        raise Mistake(
            f"embed gave tensors of shapes {shapes[0]} at first and {shapes[1]} for the same micro-batch later; it "
            "must do the same both times"
        )


@torch.no_grad()
def _largest_difference(first: Embeddings, second: Embeddings) -> Tensor:
    largest = torch.zeros((), device=first[0].device)
    for a, b in zip(first, second, strict=True):
        if a.is_floating_point():
            largest = torch.maximum(largest, (a - b).abs().max())
    return largest


@contextmanager
def _buffers_put_back(module: nn.Module) -> Iterator[None]:
    """Leaves the module's buffers (batch-norm's running statistics, counters) as they were."""
    saved = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(saved[name])


@dataclass(frozen=True)
class _RandomState:
    """Torch's generators: the CPU's, and the current CUDA device's once CUDA is in use."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls) -> "_RandomState":
        in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if in_use else None)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)
