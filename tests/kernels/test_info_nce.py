"""InfoNCE's options, on the torch path and in Triton: labels, learnable temperature, lengths, terms, joining rows."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from issl_kernels import info_nce, info_nce_with_terms, kernel_path
from issl_kernels.info_nce.reference import info_nce_reference, info_nce_with_terms_reference
from issl_kernels.info_nce.statistics import RowStatistics

from .conftest import DEVICE

V, G, B, D = 3, 2, 7, 5


@pytest.fixture(params=["chunked", "triton"])
def path(request: pytest.FixtureRequest, small_triton_blocks: None) -> Iterator[str]:
    with kernel_path(request.param):
        yield request.param


def rows(views: int, images: int = B, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(views, images, D, dtype=torch.float64, generator=generator).to(DEVICE, dtype)


def gradients(function: Any, *leaves: Tensor, **settings: Any) -> list[Tensor]:
    copies = [x.clone().requires_grad_() for x in leaves]
    anchors, targets, temperature = copies
    value = function(anchors, targets, temperature=temperature, **settings)
    (value * -1.3).backward()
    assert all(x.grad is not None for x in copies)
    return [value.detach(), *(x.grad for x in copies if x.grad is not None)]


@pytest.mark.parametrize("keep_self", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_gradients_reach_anchors_targets_and_temperature(path: str, keep_self: bool, labelled: bool) -> None:
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3], device=DEVICE) if labelled else None
    temperature = torch.tensor(0.3, dtype=torch.float64, device=DEVICE)
    settings = {"keep_self": keep_self, "labels_B": labels}
    found = gradients(info_nce, rows(V), rows(G, seed=1), temperature, **settings)
    expected = gradients(info_nce_reference, rows(V), rows(G, seed=1), temperature, **settings)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_positives_by_label_are_found_far_from_the_diagonal(path: str) -> None:
    """The kernels spare tiles without an anchor's own image the comparing: not where there are labels."""
    images = 3 * B
    temperature = torch.tensor(0.3, dtype=torch.float64, device=DEVICE)
    settings = {"keep_self": False, "labels_B": torch.arange(images, device=DEVICE) % 4}
    x = rows(1, images)
    found = gradients(info_nce, x, rows(1, images, seed=1), temperature, **settings)
    expected = gradients(info_nce_reference, x, rows(1, images, seed=1), temperature, **settings)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_positives_by_label_are_supcons_formula(path: str) -> None:
    """Equation 2 of Khosla et al. 2020, in loops; an image whose label is its own, in one view, has no positive."""
    anchors, labels = rows(1), torch.tensor([0, 1, 0, 2, 1, 0, 3], device=DEVICE)
    losses = []
    for i in range(B):
        others = [j for j in range(B) if j != i]
        logits = torch.stack([anchors[0, i] @ anchors[0, j] / 0.3 for j in others])
        positives = [logit for logit, j in zip(logits, others, strict=True) if labels[j] == labels[i]]
        if positives:
            losses.append(logits.logsumexp(0) - torch.stack(positives).mean())
    found = info_nce(anchors, anchors, temperature=0.3, keep_self=False, labels_B=labels)
    assert float(found) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-10)


@pytest.mark.parametrize("keep_self", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_terms_are_those_of_the_reference(path: str, keep_self: bool, labelled: bool) -> None:
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3], device=DEVICE) if labelled else None
    settings: dict[str, Any] = {"temperature": 0.3, "keep_self": keep_self, "labels_B": labels}
    anchors = rows(V).requires_grad_()
    _, found = info_nce_with_terms(anchors, rows(G, seed=1), **settings)
    _, expected = info_nce_with_terms_reference(rows(V), rows(G, seed=1), **settings)
    assert not any(term.requires_grad for term in found)
    assert torch.allclose(torch.stack(tuple(found)), torch.stack(tuple(expected)).to(found[0]), rtol=1e-9, atol=1e-12)


def test_terms_of_rows_that_find_their_image(path: str) -> None:
    """Anchors are their own targets: every one is nearest to itself, and cosines are one."""
    same = torch.eye(D, dtype=torch.float64, device=DEVICE).expand(2, D, D)
    _, terms = info_nce_with_terms(same, same, temperature=0.5, keep_self=True)
    assert float(terms.retrieval_accuracy) == 1
    assert float(terms.positive_similarity) == pytest.approx(1)
    assert float(terms.negative_similarity) == pytest.approx(0, abs=1e-12)
    _, terms = info_nce_with_terms(same, same.flip(1), temperature=0.5, keep_self=True)
    assert float(terms.retrieval_accuracy) == pytest.approx(1 / D)  # the middle one


def test_rows_are_divided_by_their_length_on_request(path: str) -> None:
    anchors, targets = rows(V), rows(G, seed=1)
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in (anchors, targets)]
    found = info_nce(anchors * 7, targets / 3, temperature=0.3, keep_self=True, normalize=True)
    assert float(found) == pytest.approx(float(info_nce(*unit, temperature=0.3, keep_self=True)), rel=1e-10)


def test_the_temperature_keeps_its_dtype_and_shape(path: str) -> None:
    temperature = torch.tensor([0.3], dtype=torch.float32, device=DEVICE, requires_grad=True)
    info_nce(
        rows(V, dtype=torch.float32), rows(G, dtype=torch.float32), temperature=temperature, keep_self=True
    ).backward()
    assert temperature.grad is not None
    assert temperature.grad.shape == (1,)
    assert temperature.grad.dtype == torch.float32


def test_rows_seen_in_parts_are_joined_as_if_seen_at_once() -> None:
    logits = torch.randn(6, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5
    logits[2, 10:] = -torch.inf  # nothing allowed in the second part
    positive = torch.rand(6, 20, generator=torch.Generator().manual_seed(1)) < 0.3
    positive[2, 10:] = False
    positive[3] = False

    def statistics(part: slice) -> RowStatistics:
        x, p = logits[:, part], positive[:, part]
        m = x.amax(1)
        level = m.masked_fill(m == -torch.inf, 0)
        gaps = torch.where(p, level[:, None] - x, 0)
        least = torch.where(p, gaps, torch.inf).amin(1)
        return RowStatistics(m, (x - level[:, None]).exp().sum(1), p.sum(1).double(), gaps.sum(1), least)

    whole = statistics(slice(0, 20))
    for joined in (
        statistics(slice(0, 10)).join(statistics(slice(10, 20))),
        statistics(slice(10, 20)).join(statistics(slice(0, 10))),
    ):
        assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(joined, whole, strict=True))
        assert torch.allclose(joined.losses(), whole.losses())


X = torch.randn


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": torch.ones(2)}, r"temperature must be a number or .* not one of shape \(2,\)"),
        ({"temperature": torch.ones((), dtype=torch.int64)}, "temperature must be a number"),
        (
            {"temperature": 0.1, "labels_B": torch.zeros(4, dtype=torch.int64)},
            r"labels_B .* shape \(3,\), not .*\(4,\)",
        ),
        ({"temperature": 0.1, "labels_B": torch.zeros(3)}, "labels_B must be an integer for each image"),
        ({"temperature": 0.1, "exchange": "tree"}, "exchange is 'tree'; it must be gather or ring"),
    ],
)
def test_the_argument_is_named(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        info_nce(X(2, 3, 4), X(2, 3, 4), keep_self=True, **settings)


def test_a_bad_row_is_named_under_the_debug_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    anchors, targets = X(2, 3, 4), X(2, 3, 4)
    targets[1, 2, 3] = torch.nan
    info_nce(anchors, targets, temperature=0.1, keep_self=True)
    monkeypatch.setenv("ISSL_KERNELS_CHECK", "1")
    with pytest.raises(
        ValueError, match=r"targets_GBD holds 1 values .* nan in targets_GBD\[1, 2\], at position 3 of 4"
    ):
        info_nce(anchors, targets, temperature=0.1, keep_self=True)
