"""Other libraries: called as they want to be called, their value compared, their absence reported.

Stand-ins with the libraries' signatures compute the same losses in their own words.
"""

import sys
import types
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from issl_kernels.case import Case
from issl_kernels.distillation.cases import DistillationCase
from issl_kernels.info_nce.cases import InfoNCECase
from issl_kernels.soft_cross_entropy.cases import SoftCrossEntropyCase
from issl_profiling.kernels.choose_providers import choose_providers, make_providers
from issl_profiling.kernels.compare_values import compare_values
from issl_profiling.kernels.operations import discover_operations
from issl_profiling.kernels.peer_providers import PEERS
from issl_profiling.kernels.provider import Provider

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SIMCLR = InfoNCECase(name="simclr", V=2, G=2, B=9, D=16, temperature=0.2, keep_self=False)
CISSL = InfoNCECase(name="cissl", V=2, G=2, B=9, D=16, temperature=0.2, keep_self=True)
SOFT = SoftCrossEntropyCase(name="soft", V=4, G=2, B=9, C=13, temperature=0.2)
DISSL = DistillationCase(name="dissl", V=4, G=2, B=9, C=13)


class NTXentLoss:
    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, out0: Tensor, out1: Tensor) -> Tensor:
        z = torch.nn.functional.normalize(torch.cat([out0, out1]), dim=1)
        logits = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
        partner = torch.arange(len(z)).roll(len(out0))
        return torch.nn.functional.cross_entropy(logits, partner)


class DINOLoss(torch.nn.Module):
    def __init__(self, output_dim: int, teacher_temp: float, student_temp: float, center_momentum: float) -> None:
        super().__init__()
        assert (output_dim, teacher_temp, center_momentum) == (13, 1.0, 1.0)
        self.student_temp = student_temp

    def forward(self, teacher_out: list[Tensor], student_out: list[Tensor]) -> Tensor:
        log_s = [(x / self.student_temp).log_softmax(-1) for x in student_out]
        t = [x.softmax(-1) for x in teacher_out]
        pairs = [-(t[i] * log_s[j]).sum(-1).mean() for i in range(len(t)) for j in range(len(log_s)) if i != j]
        return torch.stack(pairs).mean()


def cal_inf_loss(q: Tensor, k: Tensor, labels: None = None, scale: None = None, head_dim: int = 256) -> Tensor:
    assert q.shape[1] % head_dim == 0
    return torch.nn.functional.cross_entropy(q @ k.T, torch.arange(len(q)))


class LigerJSD:
    def __init__(self, beta: float) -> None:
        self.beta = beta

    def __call__(self, log_q: Tensor, log_p: Tensor) -> Tensor:
        assert log_q.shape == log_p.shape
        assert all(torch.allclose(x.exp().sum(-1), torch.ones(len(x)), atol=1e-5) for x in (log_q, log_p))
        middle = (self.beta * log_p.exp() + (1 - self.beta) * log_q.exp()).log()
        divergence = self.beta * log_p.exp() * (log_p - middle) + (1 - self.beta) * log_q.exp() * (log_q - middle)
        return divergence.sum() / len(log_q)


class LigerFusedLinearJSD:
    def __init__(self, jsd_beta: float) -> None:
        self.divergence = LigerJSD(jsd_beta)

    def __call__(
        self, student_input: Tensor, student_weight: Tensor, teacher_input: Tensor, teacher_weight: Tensor,
        shift_labels: None,
    ) -> Tensor:  # fmt: skip
        logits = (student_input @ student_weight.T, teacher_input @ teacher_weight.T)
        return self.divergence(*(x.log_softmax(-1) for x in logits))


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    places: dict[str, dict[str, object]] = {
        "lightly": {}, "lightly.loss": {"NTXentLoss": NTXentLoss, "DINOLoss": DINOLoss},
        "inf_cl": {"cal_inf_loss": cal_inf_loss},
        "liger_kernel": {},
        "liger_kernel.transformers": {"LigerJSD": LigerJSD, "LigerFusedLinearJSD": LigerFusedLinearJSD},
    }  # fmt: skip
    for place, names in places.items():
        module = types.ModuleType(place)
        module.__dict__.update(names)
        monkeypatch.setitem(sys.modules, place, module)


def make(peer_name: str, case: Case) -> Provider:
    """As on a GPU; the stand-ins run here all the same."""
    operation = next(peer.operation for peer in PEERS if peer.name == peer_name and _takes(peer.operation, case))
    providers, left_out = make_providers(discover_operations()[operation], case, [peer_name], GPU)
    assert left_out == []
    (provider,) = providers
    return provider


def _takes(operation: str, case: Case) -> bool:
    return type(case).__module__ == f"issl_kernels.{operation}.cases"


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("peer_name", "case"), [("lightly-ntxent", SIMCLR), ("inf-cl", CISSL), ("lightly-dino", SOFT)], ids=lambda x: str(x)
)
def test_a_peer_of_the_same_loss_agrees(peer_name: str, case: Case) -> None:
    provider = make(peer_name, case)
    operation = discover_operations()[type(case).__module__.split(".")[1]]
    assert compare_values(operation, case, [provider], CPU) == {peer_name: "agrees"}


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("case", [SOFT, DISSL], ids=lambda case: case.name)
def test_a_peer_of_another_loss_is_called_rightly_and_not_compared(case: Case) -> None:
    provider = make("liger-jsd", case)
    inputs = provider.prepare(case.inputs(torch.float32))
    student = inputs[0].requires_grad_()
    provider.call((student, *inputs[1:])).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.isfinite().all()
    operation = discover_operations()[type(case).__module__.split(".")[1]]
    assert compare_values(operation, case, [provider], CPU) == {"liger-jsd": "other loss"}


@pytest.mark.usefixtures("libraries")
def test_a_peer_from_features_gets_rows_and_weights_in_their_dtype() -> None:
    peer = next(peer for peer in PEERS if peer.name == "liger-linear-jsd")
    provider = peer.build(DISSL, peer.name)
    V, G, B, H, C = 4, 2, 3, 5, 7
    teacher, student = (torch.randn(views, B, H).bfloat16() for views in (G, V))
    prepared = provider.prepare(
        (teacher, torch.randn(C, H), torch.randn(C), student, torch.randn(C, H), torch.randn(C))
    )
    assert [tuple(x.shape) for x in prepared] == [(V * B, H), (C, H), (V * B, H), (C, H)]
    assert {x.dtype for x in prepared} == {torch.bfloat16}
    assert torch.equal(prepared[2][:B], teacher[1])  # the first view's target is not its own
    provider.call(tuple(x.float() for x in prepared))
    assert not provider.same_loss


def broken(call: Callable[[tuple[Tensor, ...]], Tensor]) -> Callable[[tuple[Tensor, ...]], Tensor]:
    return lambda inputs: 1.01 * call(inputs)


@pytest.mark.usefixtures("libraries")
def test_a_wrong_value_is_reported() -> None:
    provider = make("lightly-dino", SOFT)
    wrong = Provider(
        name="wrong", call=broken(provider.call), prepare=provider.prepare, differentiable_inputs=1, other_library=True
    )
    assert compare_values(discover_operations()["soft_cross_entropy"], SOFT, [wrong], CPU) == {"wrong": "differs"}


def test_absent_libraries_are_reported_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("lightly.loss", "lightly", "inf_cl", "liger_kernel.transformers", "liger_kernel"):
        monkeypatch.setitem(sys.modules, place, None)
    operation = discover_operations()["info_nce"]
    for case, absent in ((SIMCLR, "lightly"), (CISSL, "inf_cl")):
        providers, left_out = make_providers(operation, case, choose_providers((), gpu=False), GPU)
        assert [provider.name for provider in providers] == ["ours", "eager"]
        assert len(left_out) == 2
        assert any(absent in line.reason for line in left_out)
    _, left_out = make_providers(operation, CISSL, ["inf-cl"], CPU)
    assert [str(line) for line in left_out] == ["inf-cl on info_nce cissl: needs an NVIDIA GPU"]


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("peer_name", "case", "reason"),
    [
        ("lightly-ntxent", CISSL, "drops the own row"),
        ("inf-cl", SIMCLR, "keeps the own row"),
        ("inf-cl", InfoNCECase(name="odd", V=2, G=2, B=9, D=7, temperature=1, keep_self=True), "a width of 16"),
        ("lightly-dino", SoftCrossEntropyCase(name="all", V=3, G=2, B=9, C=13, temperature=1, skip_same_view=False),
         "pairs of the same view"),
    ],
    ids=lambda x: x if isinstance(x, str) else x.name,
)  # fmt: skip
def test_a_case_that_a_peer_does_not_compute_is_left_out_with_the_reason(
    peer_name: str, case: Case, reason: str
) -> None:
    operation = discover_operations()[type(case).__module__.split(".")[1]]
    providers, left_out = make_providers(operation, case, [peer_name], GPU)
    assert providers == []
    assert reason in left_out[0].reason
