"""Memory of batches is used again, but never while anything refers to it."""

import gc

import pytest
import torch
from torch import nn

from issl_engine.loading.batch_buffers import BatchBuffers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_that_nothing_refers_to_is_used_again(dtype: torch.dtype) -> None:
    buffers = BatchBuffers()
    first = buffers.take((2, 3), dtype)
    assert first.dtype == dtype
    place = first.data_ptr()
    del first
    assert buffers.take((3, 2), dtype).data_ptr() == place


def test_a_view_keeps_its_memory() -> None:
    buffers = BatchBuffers()
    part = buffers.take((2, 3), torch.float32)[0]
    part.fill_(7)
    buffers.take((2, 3), torch.float32).fill_(1)
    assert (part == 7).all()


def test_what_autograd_has_saved_keeps_its_memory() -> None:
    buffers = BatchBuffers()
    x = buffers.take((4, 3), torch.float32).fill_(2)
    place = x.data_ptr()
    layer = nn.Linear(3, 1)
    loss = layer(x).sum()
    del x
    assert buffers.take((4, 3), torch.float32).data_ptr() != place
    loss.backward()
    assert layer.weight.grad is not None
    assert (layer.weight.grad == 8).all()
    del loss
    gc.collect()
    assert place in {buffers.take((4, 3), torch.float32).data_ptr(), buffers.take((4, 3), torch.float32).data_ptr()}


def test_types_and_sizes_do_not_share_memory() -> None:
    buffers = BatchBuffers()
    place = buffers.take((8,), torch.float32).data_ptr()
    assert buffers.take((8,), torch.bfloat16).data_ptr() != place
    assert buffers.take((4,), torch.float32).data_ptr() != place
