"""The EMA teacher: a copy that trails, takes no gradient and leaves its source alone."""

import copy

import pytest
import torch
from torch import nn

from issl_engine.models.heads import MLPHead
from issl_engine.models.teacher import EmaTeacher


def student() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return encoder.double(), MLPHead(4, 5, hidden_dim=6).double()


def images() -> torch.Tensor:
    return torch.randn(7, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_it_starts_as_a_copy_without_gradients() -> None:
    encoder, projector = student()
    teacher = EmaTeacher(encoder, projector)
    output = teacher(images())
    torch.testing.assert_close(output, projector(encoder(images())))
    assert not output.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for module in (encoder, projector) for parameter in module.parameters())
    own = {parameter.data_ptr() for parameter in teacher.parameters()}
    assert own.isdisjoint(p.data_ptr() for module in (encoder, projector) for p in module.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_update_is_the_moving_average_of_every_weight(momentum: float) -> None:
    encoder, projector = student()
    teacher = EmaTeacher(encoder, projector)
    before = copy.deepcopy(teacher)
    for module in (encoder, projector):
        for parameter in module.parameters():
            parameter.data += torch.randn_like(parameter)
    theirs = [p.detach().clone() for module in (encoder, projector) for p in module.parameters()]
    teacher.update(encoder, projector, momentum)
    for new, old, their in zip(teacher.parameters(), before.parameters(), theirs, strict=True):
        torch.testing.assert_close(new, nn.Parameter(momentum * old + (1 - momentum) * their, requires_grad=False))
    after = [p.detach() for module in (encoder, projector) for p in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(after, theirs, strict=True)), "the student moved"


def test_update_copies_running_statistics() -> None:
    encoder, projector = student()
    teacher = EmaTeacher(encoder, projector)
    projector(encoder(images() + 3))
    assert not torch.allclose(teacher.encoder[1].running_mean, encoder[1].running_mean)
    teacher.update(encoder, projector, 0.9)
    for own, theirs in ((teacher.encoder, encoder), (teacher.projector, projector)):
        for (name, mine), (_, other) in zip(own.named_buffers(), theirs.named_buffers(), strict=True):
            assert torch.equal(mine, other), name


def test_it_normalises_by_its_own_batch_while_training_and_by_statistics_in_eval() -> None:
    encoder, projector = student()
    teacher = EmaTeacher(encoder, projector)
    assert teacher.training
    alone, beside_others = teacher(images()[:2]), teacher(images())[:2]
    assert not torch.allclose(alone, beside_others)
    teacher.eval()
    torch.testing.assert_close(teacher(images()[:2]), teacher(images())[:2])


def test_another_architecture_is_not_averaged() -> None:
    encoder, projector = student()
    teacher = EmaTeacher(encoder, projector)
    with pytest.raises(AssertionError, match="differ in their layers"):
        teacher.update(encoder, MLPHead(4, 5, hidden_dim=6, hidden_layers=2).double(), 0.9)
