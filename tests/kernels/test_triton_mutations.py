# ruff: noqa: E501 - a line of source and what it becomes, side by side
"""Every Triton kernel broken on purpose, at least five times each: the comparison with the specification sees it."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from issl_kernels import kernel_path
from issl_kernels.distillation import cases as distillation_cases
from issl_kernels.distillation import triton_ops as distillation_ops
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.info_nce import cases as nce_cases
from issl_kernels.info_nce import triton_ops as nce_ops
from issl_kernels.info_nce.reference import info_nce_reference
from issl_kernels.sigmoid_contrastive import cases as sigmoid_cases
from issl_kernels.sigmoid_contrastive import triton_ops as sigmoid_ops
from issl_kernels.sigmoid_contrastive.reference import sigmoid_contrastive_reference
from issl_kernels.sinkhorn import cases as sinkhorn_cases
from issl_kernels.sinkhorn import triton_ops as sinkhorn_ops
from issl_kernels.sinkhorn.reference import sinkhorn_reference
from issl_kernels.soft_cross_entropy import cases as soft_cases
from issl_kernels.soft_cross_entropy import triton_ops as soft_ops
from issl_kernels.soft_cross_entropy.reference import soft_cross_entropy_reference

from .conftest import DEVICE, Operation, value_and_gradients

pytestmark = pytest.mark.skipif(DEVICE == "cuda", reason="mutations are tried in the interpreter")

DISTILLATION = [
    Operation(
        "distillation",
        distillation_reference,
        distillation_cases.DistillationCase(name="mutation", V=3, G=2, B=9, C=21, spread=3.0, student_temperature=0.8),
    )
]
SOFT = [
    Operation(
        "soft_cross_entropy",
        soft_cross_entropy_reference,
        soft_cases.SoftCrossEntropyCase(name="mutation", V=3, G=2, B=3, C=21, temperature=0.4, spread=2.0),
    )
]
SINKHORN = [
    Operation(
        "sinkhorn",
        sinkhorn_reference,
        sinkhorn_cases.SinkhornCase(name="mutation", N=11, K=21, epsilon=0.3, spread=1.0),
    ),
]
NCE = [
    Operation(
        "info_nce",
        info_nce_reference,
        nce_cases.InfoNCECase(name=name, V=2, G=2, B=17, D=11, temperature=0.3, keep_self=keep_self),
    )
    for name, keep_self in (("simclr", False), ("cissl", True))
]
SIGMOID = [
    Operation(
        "sigmoid_contrastive",
        sigmoid_contrastive_reference,
        sigmoid_cases.SigmoidContrastiveCase(
            name="mutation", V=2, G=2, B=17, D=11, keep_self=False, scale=9.0, bias=-3.0
        ),
    )
]
PLACES = {
    "distillation": (distillation_ops, DISTILLATION),
    "soft_cross_entropy": (soft_ops, SOFT),
    "sinkhorn": (sinkhorn_ops, SINKHORN),
    "info_nce": (nce_ops, NCE),
    "sigmoid_contrastive": (sigmoid_ops, SIGMOID),
    "sigmoid_contrastive gradients": (nce_ops, SIGMOID),
}

MUTATIONS = [
    # statistics
    ("distillation", "tl.sum(tl.where(mask, tl.exp(below), 0), 0))", "tl.sum(tl.exp(below), 0))"),
    ("distillation", "tl.store(out + (5 * i + 2) * step, tl.sum(weight * below_rows[i], 0))",
     "tl.store(out + (5 * i + 2) * step, tl.sum(below_rows[i], 0))"),
    ("distillation", "tl.sum(weight * teachers[i], 0))", "tl.sum(weight * below_rows[i], 0))"),
    ("distillation", "tl.sum(weight * students[i], 0))", "tl.sum(weight * students[0], 0))"),
    ("distillation", "== maximum, column, C - 1)", "== maximum, C - 1, column)"),
    ("distillation", "students = add_except(students, below, j, G)\n        tl.store",
     "students = add_except(students, below, G, G)\n        tl.store"),
    # join_blocks
    ("distillation", "weight = tl.where(mask, tl.exp(shift), 0)\n        weighted", "weight = mask * 1.0\n        weighted"),
    ("distillation", "+ weighted * shift", ""),
    ("distillation", "invariance += (G - 1) * tl.log(total)", "invariance += G * tl.log(total)"),
    ("distillation", "distillation += (G - 1) * tl.log(total)", "distillation += G * tl.log(total)"),
    ("distillation", "cross + teacher_sums[i] * students", "cross"),
    ("distillation", "dot_students + pair_weight * dot_teachers", "dot_students - pair_weight * dot_teachers"),
    ("distillation", "block, NUM_BLOCKS - 1), 0)\n        tl.store(used", "0, NUM_BLOCKS - 1), 0)\n        tl.store(used"),
    # probabilities and mass
    ("distillation", "tl.exp(below) * inverse_sum[:, None]", "tl.exp(below)"),
    ("distillation", "image_mask[:, None] & (column < C)[None, :]", "(image_mask[:, None] | True) & (column < C)[None, :]"),
    ("distillation", "last = tl.minimum(first + images_per_chunk, B)", "last = tl.minimum(first + images_per_chunk - 1, B)"),
    ("distillation", "out = partials + (chunk.to(tl.int64) * G + i) * C + column", "out = partials + (chunk.to(tl.int64) * G) * C + column"),
    ("distillation", "mass += probabilities(", "mass = probabilities("),
    # finish
    ("distillation", "entropies -= marginal * log_marginal_c", "entropies -= log_marginal_c"),
    ("distillation", "entropy = tl.sum(entropies, 0) / G", "entropy = tl.sum(entropies, 0)"),
    ("distillation", "> 0, 1, 0)", "> 1, 1, 0)"),
    ("distillation", "conditional = tl.load(crosses + 2)", "conditional = tl.load(crosses + 1)"),
    ("distillation", "tl.load(crosses) / (images * PAIRS)", "tl.load(crosses) / images"),
    # marginal_dots
    ("distillation", "dots += t * tl.load(log_marginal + i * C", "dots += t * tl.load(log_marginal"),
    ("distillation", "dots += t * tl.load", "dots = t * tl.load"),
    ("distillation", "tl.store(marginal_dots + i * B + image, tl.sum(dots, 1)", "tl.store(marginal_dots + i * B + image, 2 * tl.sum(dots, 1)"),
    ("distillation", "image = (tl.program_id(0) // G * IMAGES", "image = (tl.program_id(0) % G * IMAGES"),
    ("distillation", "i = tl.program_id(0) % G\n    image", "i = tl.program_id(0) % G * 0\n    image"),
    # gradients
    ("distillation", "(G - 1) * s - targets[j]", "(G - 1) * s - all_targets"),
    ("distillation", "G * s - all_targets", "(G - 1) * s - all_targets"),
    ("distillation", "slope -= teachers[i] * teacher_pair + students[i] * pair", "slope -= students[i] * pair"),
    ("distillation", "((G - 1) * t_rows[i] - targets[i]) * teacher_pair", "((G - 1) * t_rows[i] + targets[i]) * teacher_pair"),
    ("distillation", "t_rows[i] * (slope - dot)", "t_rows[i] * slope"),
    ("distillation", "d * (gradient * inverse_t)", "d * gradient"),
    ("distillation", "gradient * pair * inverse_s", "gradient * pair"),
    # soft cross-entropy: statistics
    ("soft_cross_entropy", "tl.sum(below * targets_of(sums, j, ALONE), 0)", "tl.sum(below * sums[ALONE], 0)"),
    ("soft_cross_entropy", "tl.sum(tl.where(mask, tl.exp(below), 0), 0)", "tl.sum(tl.exp(below), 0)"),
    ("soft_cross_entropy", "tl.sum(sums[i], 0))", "tl.sum(sums[0], 0))"),
    ("soft_cross_entropy", "i if i < ALONE else ALONE + 1, ALONE + 1)", "ALONE + 1, ALONE + 1)"),
    ("soft_cross_entropy", "tl.store(out + (3 * j) * step, maximum)", "tl.store(out + (3 * j) * step, maximum + 1)"),
    # join_blocks
    ("soft_cross_entropy", "+ mass * shift, 0)", ", 0)"),
    ("soft_cross_entropy", "tl.where(mask, tl.exp(shift), 0) * exponential", "exponential"),
    ("soft_cross_entropy", "tl.sum(mass, 0) * tl.log(total) - dot", "tl.log(total) - dot + mass * 0 if False else tl.log(total) + dot"),
    ("soft_cross_entropy", "loss += tl.sum(mass, 0)", "loss = tl.sum(mass, 0)"),
    ("soft_cross_entropy", "tl.store(masses + i * B + image, tl.sum(mass, 0))", "tl.store(masses + i * B + image, tl.max(mass, 0))"),
    # gradients
    ("soft_cross_entropy", "inverse_sum = mass / tl.load(", "inverse_sum = 1 / tl.load("),
    ("soft_cross_entropy", "tl.exp(below) * inverse_sum - targets_of(sums, j, ALONE)", "tl.exp(below) * inverse_sum - sums[ALONE]"),
    ("soft_cross_entropy", "tl.full((), scale, ACC) * inverse", "tl.full((), scale, ACC)"),
    ("soft_cross_entropy", "tl.load(maxima + j * B + image)", "tl.load(maxima + image)"),
    ("soft_cross_entropy", "gradient = tl.load(upstream).to(ACC) *", "gradient ="),
    # Sinkhorn: row_normalisers
    ("sinkhorn", "total = total * tl.exp((maximum - higher).to(ACC)) + tl.sum(tl.exp((y", "total = total + tl.sum(tl.exp((y"),
    ("sinkhorn", "y = (x - h[None, :]) * inverse_epsilon + v[None, :]", "y = (x - h[None, :]) * inverse_epsilon"),
    ("sinkhorn", "maximum = higher\n    return", "maximum = higher + 1\n    return"),
    ("sinkhorn", "y = (x - h[None, :]) * inverse_epsilon + v", "y = x * inverse_epsilon + v"),
    ("sinkhorn", "return maximum, tl.where(row_mask, total, 1)", "return maximum, tl.where(row_mask, total * 0 + 1, 1)"),
    # column_shares
    ("sinkhorn", "* inverse - r[:, None]", "* inverse"),
    ("sinkhorn", "r += maximum + tl.log(total)", "r += maximum"),
    ("sinkhorn", "y = (x - tl.where(mask, top, 0)[None, :]) * inverse\n", "y = x - tl.where(mask, top, 0)[None, :]\n"),
    ("sinkhorn", "share = tl.sum(tl.exp((y - tl.where(mask, top, 0)[None, :]).to(ACC)), 0)", "share = tl.sum(tl.exp(y.to(ACC)), 0)"),
    ("sinkhorn", "out = program * K\n", "out = program * 0\n"),
    # join_shares
    ("sinkhorn", "total = total * tl.exp(((maximum - higher) * inverse).to(ACC))", "total = total * 1.0"),
    ("sinkhorn", "share * tl.exp(((top - higher[None, :]) * inverse).to(ACC))", "share"),
    ("sinkhorn", "for start in range(0, PROGRAMS, ROWS):", "for start in range(0, PROGRAMS - ROWS + 1, ROWS):"),
    ("sinkhorn", "-tl.log(total), mask", "tl.log(total), mask"),
    ("sinkhorn", "top = tl.load(tops + offset", "top = tl.load(tops + column[None, :]"),
    # assign
    ("sinkhorn", "(y - maximum[:, None]).to(ACC)) * inverse_total", "(y - maximum[:, None]).to(ACC)) * 0.5 * inverse_total"),
    ("sinkhorn", "inverse + v[None, :]\n        out", "inverse\n        out"),
    ("sinkhorn", "inverse_total = 1 / total", "inverse_total = total"),
    ("sinkhorn", "out = assignments + row[:, None] * K", "out = assignments + row[:, None] * (K - 1)"),
    ("sinkhorn", "tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)\n    row_mask = row < N\n    maximum", "tl.program_id(0).to(tl.int64) + tl.arange(0, ROWS)\n    row_mask = row < N\n    maximum"),
    # InfoNCE: tile_of_logits, positives_and_own
    ("info_nce", "for first in range(0, D, STEP):", "for first in range(0, D - STEP + 1, STEP):"),
    ("info_nce", "return product * scale", "return product"),
    ("info_nce", "product = tl.dot(a_part, tl.trans(b_part), product,", "product = tl.dot(a_part, tl.trans(b_part), product * 0,"),
    ("info_nce", "own = inside & same_image & is_same_view", "own = inside & same_image"),
    ("info_nce", "return positive & (own == 0), own", "return positive, own"),
    # statistics
    ("info_nce", "total = total * tl.exp(-rise) + ", "total = total + "),
    ("info_nce", "gap += count * rise", "gap += rise"),
    ("info_nce", "tl.where(target_mask[None, :] & (own == 0), logits, -float(\"inf\"))", "tl.where(target_mask[None, :], logits, -float(\"inf\"))"),
    ("info_nce", "nearest = tl.where(positive, level[:, None] - logits, 0)", "nearest = tl.where(positive, logits, 0)"),
    ("info_nce", "count += tl.sum", "count = tl.sum"),
    # needs_masks
    ("info_nce", "first < first_other + TARGETS", "first > first_other + TARGETS"),
    ("info_nce", "first_other < first + ANCHORS", "first_other > first + ANCHORS"),
    ("info_nce", "(target_block + 1) * TARGETS > N", "target_block * TARGETS > N"),
    ("info_nce", "            allowed = logits\n", "            allowed = -logits\n"),
    # slopes and anchor_gradients
    ("info_nce", "inverse_sum[:, None]\n\n", "inverse_sum[:, None] * 2\n\n"),
    ("info_nce", "return tl.where(allowed, p, 0)", "return tl.where(target_mask[None, :], p, 0)"),
    ("info_nce", "- tl.where(positive, inverse_count[:, None], 0)", ""),
    ("info_nce", "gradient = tl.dot(d.to(b_tile.dtype), b_tile, gradient,", "gradient = tl.dot(d.to(b_tile.dtype), b_tile, gradient * 0,"),
    ("info_nce", "b_tile = load_rows(targets, target_row, target_mask, first_column, D, WIDTH)", "b_tile = load_rows(targets, target_row, target_mask, 0, D, WIDTH)"),
    ("info_nce", "out = partials + (tl.program_id(1).to(tl.int64) * V * B + anchor_row)[:, None]", "out = partials + anchor_row[:, None]"),
    # target_gradients
    ("info_nce", "tl.trans(d).to(a_tile.dtype), a_tile, gradient,", "tl.trans(d).to(a_tile.dtype), a_tile, gradient * 0,"),
    ("info_nce", "a_tile = load_rows(anchors, anchor_row, anchor_mask, first_column, D, WIDTH)", "a_tile = load_rows(anchors, anchor_row, anchor_mask, 0, D, WIDTH)"),
    ("info_nce", "v, anchor_block = tile // anchor_blocks, tile % anchor_blocks", "v, anchor_block = tile // anchor_blocks, 0 * tile"),
    ("info_nce", "last_tile = tl.minimum(first_tile + tiles_per_split, V * anchor_blocks)", "last_tile = tl.minimum(first_tile + tiles_per_split, V * anchor_blocks - 1)"),
    ("info_nce", "out = partials + (tl.program_id(1).to(tl.int64) * G * N + target_row)[:, None]", "out = partials + target_row[:, None]"),
    # sigmoid contrast: softplus and losses
    ("sigmoid_contrastive", "return tl.maximum(x, 0) + tl.where", "return tl.where"),
    ("sigmoid_contrastive", "tl.where(small < 0.01, series,", "tl.where(small < 0.9, series,"),
    ("sigmoid_contrastive", "series = small * (1 - small *", "series = small * (1 + small *"),
    ("sigmoid_contrastive", "logits = shift + tile_of_logits(", "logits = tile_of_logits("),
    ("sigmoid_contrastive", "allowed = target_mask[None, :] & (own == 0)", "allowed = target_mask[None, :]"),
    ("sigmoid_contrastive", "tl.where(positive, -logits, logits)", "logits"),
    ("sigmoid_contrastive", "loss += tl.sum", "loss = tl.sum"),
    ("sigmoid_contrastive", "slope += tl.sum", "slope = tl.sum"),
    ("sigmoid_contrastive", "masked_sigmoid_slopes(logits, positive, allowed)", "sigmoid(logits)"),
    ("sigmoid_contrastive", "tl.sum(softplus(logits), 1)", "tl.sum(logits, 1)"),
    ("sigmoid_contrastive", "tl.sum(sigmoid(logits), 1)", "tl.sum(logits, 1)"),
    ("sigmoid_contrastive", "out = partials + tl.program_id(1).to(tl.int64) * V * B + anchor_row", "out = partials + anchor_row"),
    # its slopes in InfoNCE's kernels
    ("sigmoid_contrastive gradients", "tl.where(positive, -p, p), 0)", "p, 0)"),
    ("sigmoid_contrastive gradients", "tl.where(x >= 0, 1, small)", "tl.where(x >= 0, small, 1)"),
    ("sigmoid_contrastive gradients", "p = sigmoid(tl.where(positive, -logits, logits))", "p = sigmoid(logits)"),
    ("sigmoid_contrastive gradients", "logits += shift", "logits += 0 * shift"),
    ("sigmoid_contrastive gradients", "return sigmoid(logits)", "return logits"),
    ("sigmoid_contrastive gradients", "allowed = target_mask[None, :] & (own == 0)", "allowed = target_mask[None, :]"),
]  # fmt: skip


def source_of(operation: str) -> str:
    path = PLACES[operation][0].kernels.__file__
    assert path is not None
    return Path(path).read_text(encoding="utf-8")


def load(source: str, folder: Path) -> ModuleType:
    """From a file, as Triton reads a kernel's source there."""
    path = folder / "mutated_kernels.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"mutated_{abs(hash(source))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def agrees(operation: Operation) -> bool:
    """Value, terms and gradients as the specification's, in fp64."""
    inputs = operation.case.inputs(torch.float64, DEVICE)
    found, expected = (everything(operation, function, inputs) for function in (operation.ours, operation.reference))
    return all(
        torch.allclose(a, b, rtol=1e-7, atol=1e-9 * max(1.0, float(b.abs().max())))
        for a, b in zip(found, expected, strict=True)
    )


def everything(operation: Operation, function: object, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    terms: list[torch.Tensor] = []

    def keeping(*tensors: torch.Tensor, **settings: object) -> object:
        assert callable(function)
        result = function(*tensors, **settings)
        if isinstance(result, tuple):
            terms.extend(term.detach().double() for term in result[1])
        return result

    return value_and_gradients(operation, keeping, inputs, -1.3) + terms


@pytest.fixture(autouse=True)
def small_blocks(small_triton_blocks: None) -> None: ...


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan() -> Iterator[None]:
    """New tensors often lie where an earlier test's right result was: a kernel that does not write its own would
    pass. torch fills them with NaN in this mode."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", PLACES)
def test_the_kernels_as_they_are_agree(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, operations = PLACES[name]
    monkeypatch.setattr(module, "kernels", load(source_of(name), tmp_path))
    with kernel_path("triton"):
        assert all(agrees(operation) for operation in operations)


@pytest.mark.parametrize(("name", "found", "changed"), MUTATIONS, ids=range(len(MUTATIONS)))
def test_a_broken_kernel_is_noticed(
    name: str, found: str, changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(name)
    assert found in source, "the kernel has changed: mend this mutation"
    module, operations = PLACES[name]
    monkeypatch.setattr(module, "kernels", load(source.replace(found, changed), tmp_path))
    with kernel_path("triton"):
        assert not all(agrees(operation) for operation in operations)
