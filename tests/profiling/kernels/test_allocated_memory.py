"""Peak memory: exactly what operations allocate, backward included, and no longer than it lives."""

import torch

from issl_profiling.kernels.allocated_memory import AllocationTracker, peak_bytes

CPU = torch.device("cpu")


def test_an_allocation_is_seen_exactly_and_forgotten_when_it_dies() -> None:
    with AllocationTracker() as tracker:
        x = torch.empty(1000)
        assert (tracker.live, tracker.peak) == (4000, 4000)
        y = torch.empty(500)
        del x
        assert (tracker.live, tracker.peak) == (2000, 6000)
        tracker.reset_peak()
        assert tracker.peak == 2000
        z = torch.empty(10, dtype=torch.float64)
        assert tracker.peak == 2080
        del y, z
        assert tracker.live == 0


def test_views_and_what_was_there_before_count_nothing() -> None:
    before = torch.ones(1000)
    with AllocationTracker() as tracker:
        before.add_(1)
        half = before[:500].view(5, 100)
        half.mul_(2)
        assert tracker.peak == 0
        assert torch.empty(10).view(2, 5).t().untyped_storage().nbytes() == tracker.peak == 40


def test_what_is_saved_for_the_backward_pass_counts_while_it_is_kept() -> None:
    x = torch.ones(1000, requires_grad=True)
    with AllocationTracker() as tracker:
        y = x.exp().sum()  # exp saves its result
        assert tracker.live == 4000 + 4
        y.backward()
        del y
        assert tracker.live == 4000  # the gradient


def test_backward_alone_counts_what_its_forward_pass_left() -> None:
    x = torch.ones(1000, requires_grad=True)
    peak = peak_bytes(lambda: x.exp().sum(), lambda loss: torch.autograd.grad(loss, x), CPU)
    assert 8000 <= peak <= 8000 + 12  # exp's result and the gradient; the sum and the gradient from above


def test_the_profiler_counts_the_same() -> None:
    x = torch.randn(64, 500, requires_grad=True)

    def loss() -> torch.Tensor:
        return (x.log_softmax(-1).exp() * x).sum(-1).logsumexp(0)

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        torch.autograd.grad(loss(), x)
    now, peak = 0, 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    assert peak_bytes(lambda: None, lambda _: torch.autograd.grad(loss(), x), CPU) == peak
