"""What preflight makes of the ranks' facts: each finding is one sentence that names hosts and ranks."""

from dataclasses import replace
from pathlib import Path

import pytest

from issl_engine.launch.facts import DataFacts, Facts, GpuFacts
from issl_engine.launch.judge import Finding, judge_facts, judge_folders, judge_links, judge_space
from issl_engine.launch.link import LinkFacts
from issl_engine.launch.run_folder_check import FolderFacts

OUT = Path("runs/x")
GIB = 2**30
GOOD = Facts(
    rank=0, host="a", device="cpu", versions={"torch": "2.13.0", "DALI": "2.4.0"}, recipe_digest="1" * 64,
    data=DataFacts(num_images=100, digest="2" * 64), data_error=None, gpu=None,
)  # fmt: skip
FACTS = [GOOD, replace(GOOD, rank=1), replace(GOOD, rank=2, host="b"), replace(GOOD, rank=3, host="b")]
FOLDER = FolderFacts(error=None, free_bytes=100 * GIB)
LINK = LinkFacts(sum_is_right=True, bytes=2**20, mb_per_second=900, clock_ahead_seconds=0, clock_error_seconds=0.001)


def gpu(uuid: str, taken: float = 0.02) -> GpuFacts:
    return GpuFacts(name="GPU", uuid=uuid, total_bytes=80 * GIB, taken_by_others_bytes=int(taken * 80 * GIB))


def only(findings: list[Finding], *, is_error: bool = True) -> str:
    (finding,) = findings
    assert finding.is_error == is_error
    assert "\n" not in finding.sentence
    return finding.sentence


def test_ranks_that_agree_give_no_finding() -> None:
    assert judge_facts(FACTS) == []
    assert judge_folders(FACTS, [FOLDER] * 4, OUT) == []
    assert judge_links(FACTS, [LINK] * 4) == []
    assert judge_space(FACTS, [FOLDER] * 4, OUT, GIB, 0) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"versions": {"torch": "2.12.0", "DALI": "2.4.0"}}, "torch differs between ranks: 2.13.0 on a (ranks 0, 1), b "
         "(rank 2), 2.12.0 on b (rank 3); install the same version on every host"),
        ({"recipe_digest": "3" * 64}, "the recipe differs between ranks: digest 111111111111 on a (ranks 0, 1), b "
         "(rank 2), digest 333333333333 on b (rank 3); start every rank with the same file and overrides"),
        ({"data": DataFacts(num_images=99, digest="2" * 64)}, "the data differs between ranks: 100 images (digest "
         "222222222222) on a (ranks 0, 1), b (rank 2), 99 images (digest 222222222222) on b (rank 3); give every host "
         "the same images"),
        ({"data": None, "data_error": "/data: no such folder"}, "b (rank 3): /data: no such folder"),
    ],
)  # fmt: skip
def test_the_rank_that_differs_is_named(change: dict[str, object], sentence: str) -> None:
    assert only(judge_facts([*FACTS[:3], replace(FACTS[3], **change)])) == sentence


def test_what_is_wrong_everywhere_is_said_once() -> None:
    facts = [replace(fact, data=None, data_error="/data: no such folder") for fact in FACTS]
    assert only(judge_facts(facts)) == "/data: no such folder"


def test_ranks_that_share_a_gpu() -> None:
    facts = [replace(fact, gpu=gpu(uuid)) for fact, uuid in zip(FACTS, ("x", "x", "x", "y"), strict=True)]
    assert only(judge_facts(facts)) == "a (ranks 0, 1): these ranks use the same GPU; start one rank per GPU"


def test_a_gpu_that_others_use_is_warned_of() -> None:
    facts = [replace(GOOD, gpu=gpu("x", 0.02)), replace(GOOD, rank=1, gpu=gpu("y", 0.3))]
    assert only(judge_facts(facts), is_error=False).startswith("a (rank 1): other processes hold 30% of the GPU's mem")


def test_a_run_folder_that_is_another_on_one_host() -> None:
    other = FolderFacts(error="it is not the folder that rank 0 writes to", free_bytes=0)
    assert only(judge_folders(FACTS, [FOLDER, FOLDER, other, other], OUT)) == (
        "b (ranks 2, 3): the run folder runs/x is of no use there, as it is not the folder that rank 0 writes to; "
        "choose an --out that all hosts share and may write to"
    )


def test_a_wrong_sum() -> None:
    wrong = replace(LINK, sum_is_right=False)
    assert only(judge_links(FACTS, [LINK, LINK, wrong, LINK])).startswith("b (rank 2): an all-reduce gave a wrong sum")


@pytest.mark.parametrize(
    ("ahead", "sentence"), [(3.0, "b: the clock is 3.0 s ahead of that of a"), (-2.0, "2.0 s behind")]
)
def test_clocks_that_are_apart_are_warned_of_once_per_host(ahead: float, sentence: str) -> None:
    late = replace(LINK, clock_ahead_seconds=ahead)
    assert sentence in only(judge_links(FACTS, [LINK, LINK, late, late]), is_error=False)


def test_a_difference_that_may_be_the_way_of_the_message_is_none() -> None:
    slow = replace(LINK, clock_ahead_seconds=1.5, clock_error_seconds=0.8)
    assert judge_links(FACTS, [LINK, LINK, slow, slow]) == []


def test_room_for_two_checkpoints_less_those_that_are_there() -> None:
    folders = [FOLDER, FOLDER, FolderFacts(error=None, free_bytes=15 * GIB), FOLDER]
    assert judge_space(FACTS, folders, OUT, 7 * GIB, 0) == []
    assert judge_space(FACTS, folders, OUT, 10 * GIB, 5 * GIB) == []
    assert only(judge_space(FACTS, folders, OUT, 10 * GIB, 0)) == (
        "b (rank 2): runs/x has 15360 MiB free, and checkpoints of this recipe will take 20480 MiB; free space or "
        "choose another --out"
    )
    assert only(judge_space(FACTS, folders, OUT, 16 * GIB, 64 * GIB))  # a new one comes before an old one goes
