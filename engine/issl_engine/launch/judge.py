"""What the facts of all ranks mean: one sentence for each thing that is wrong, naming hosts and ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from issl_engine.launch.facts import Facts
from issl_engine.launch.link import LinkFacts
from issl_engine.launch.run_folder_check import FolderFacts

LARGEST_CLOCK_DIFFERENCE_SECONDS = 1.0
LARGEST_SHARE_TAKEN = 0.1
CHECKPOINTS_TO_HOLD = 2
"""Of one arm: a new one is complete before the one before it is deleted."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An error stops the run; anything else is a warning."""

    is_error: bool
    sentence: str


def judge_facts(facts: Sequence[Facts]) -> list[Finding]:
    """Versions, recipe, data and GPUs."""
    errors: list[str] = []
    for name in facts[0].versions:
        found = [fact.versions.get(name, "none") for fact in facts]
        errors += _differences(facts, found, f"{name} differs between ranks", "install the same version on every host")
    digests = [f"digest {fact.recipe_digest[:12]}" for fact in facts]
    errors += _differences(
        facts, digests, "the recipe differs between ranks", "start every rank with the same file and overrides"
    )
    errors += _unreadable_data(facts)
    seen = [fact for fact in facts if fact.data is not None]
    data = [f"{fact.data.num_images} images (digest {fact.data.digest[:12]})" for fact in seen if fact.data]
    errors += _differences(seen, data, "the data differs between ranks", "give every host the same images")
    errors += _shared_gpus(facts)
    return [
        *(Finding(is_error=True, sentence=sentence) for sentence in errors),
        *(Finding(is_error=False, sentence=sentence) for sentence in _taken_gpus(facts)),
    ]


def judge_folders(facts: Sequence[Facts], folders: Sequence[FolderFacts], out: Path) -> list[Finding]:
    """Whether all write to the same run folder."""
    errors: dict[str, list[Facts]] = {}
    for fact, folder in zip(facts, folders, strict=True):
        if folder.error is not None:
            errors.setdefault(folder.error, []).append(fact)
    return [
        Finding(
            is_error=True,
            sentence=f"{ranks_on_hosts(who)}: the run folder {out} is of no use there, as {error}; choose an --out "
            "that all hosts share and may write to",
        )
        for error, who in errors.items()
    ]


def judge_links(facts: Sequence[Facts], links: Sequence[LinkFacts | None]) -> list[Finding]:
    """The all-reduce's sum and the clocks."""
    findings: list[Finding] = []
    pairs = [(fact, link) for fact, link in zip(facts, links, strict=True) if link is not None]
    wrong = [fact for fact, link in pairs if not link.sum_is_right]
    if wrong:
        findings.append(
            Finding(
                is_error=True,
                sentence=f"{ranks_on_hosts(wrong)}: an all-reduce gave a wrong sum; look for faulty network or GPU "
                "hardware there",
            )
        )
    hosts: dict[str, LinkFacts] = {}
    for fact, link in pairs:
        hosts.setdefault(fact.host, link)
    for host, link in hosts.items():
        surely = abs(link.clock_ahead_seconds) - link.clock_error_seconds
        if surely > LARGEST_CLOCK_DIFFERENCE_SECONDS:
            word = "ahead of" if link.clock_ahead_seconds > 0 else "behind"
            findings.append(
                Finding(
                    is_error=False,
                    sentence=f"{host}: the clock is {abs(link.clock_ahead_seconds):.1f} s {word} that of "
                    f"{facts[0].host}, so the times in logs do not compare; let a time service (NTP) set it",
                )
            )
    return findings


def judge_space(
    facts: Sequence[Facts], folders: Sequence[FolderFacts], out: Path, checkpoint_bytes: int, held_bytes: int
) -> list[Finding]:
    """Room for two checkpoints; those that are there already, ``held_bytes`` of them, make way for new ones."""
    needed = max(checkpoint_bytes, CHECKPOINTS_TO_HOLD * checkpoint_bytes - held_bytes)
    least, where = min((folder.free_bytes, fact.rank) for fact, folder in zip(facts, folders, strict=True))
    if least >= needed:
        return []
    place = f"{ranks_on_hosts([facts[where]])}: " if len({fact.host for fact in facts}) > 1 else ""
    return [
        Finding(
            is_error=True,
            sentence=f"{place}{out} has {least / 2**20:.0f} MiB free, and checkpoints of this recipe will take "
            f"{needed / 2**20:.0f} MiB; free space or choose another --out",
        )
    ]


def ranks_on_hosts(facts: Sequence[Facts]) -> str:
    """Such as "node1 (ranks 0, 1), node2 (rank 2)"."""
    ranks: dict[str, list[int]] = {}
    for fact in facts:
        ranks.setdefault(fact.host, []).append(fact.rank)
    return ", ".join(
        f"{host} (rank{'s' if len(own) > 1 else ''} {', '.join(map(str, own))})" for host, own in ranks.items()
    )


def _differences(facts: Sequence[Facts], values: Sequence[str], what: str, advice: str) -> list[str]:
    """One sentence that says which ranks have which of the ``values``, one per rank; none where all have the same."""
    who: dict[str, list[Facts]] = {}
    for fact, value in zip(facts, values, strict=True):
        who.setdefault(value, []).append(fact)
    if len(who) <= 1:
        return []
    return [f"{what}: {', '.join(f'{value} on {ranks_on_hosts(own)}' for value, own in who.items())}; {advice}"]


def _unreadable_data(facts: Sequence[Facts]) -> list[str]:
    who: dict[str, list[Facts]] = {}
    for fact in facts:
        if fact.data_error is not None:
            who.setdefault(fact.data_error, []).append(fact)
    return [error if len(own) == len(facts) else f"{ranks_on_hosts(own)}: {error}" for error, own in who.items()]


def _shared_gpus(facts: Sequence[Facts]) -> list[str]:
    users: dict[tuple[str, str], list[Facts]] = {}
    for fact in facts:
        if fact.gpu is not None:
            users.setdefault((fact.host, fact.gpu.uuid), []).append(fact)
    return [
        f"{ranks_on_hosts(own)}: these ranks use the same GPU; start one rank per GPU"
        for own in users.values()
        if len(own) > 1
    ]


def _taken_gpus(facts: Sequence[Facts]) -> list[str]:
    sentences: list[str] = []
    for fact in facts:
        share = fact.gpu.taken_by_others_bytes / fact.gpu.total_bytes if fact.gpu else 0.0
        if share > LARGEST_SHARE_TAKEN:
            sentences.append(
                f"{ranks_on_hosts([fact])}: other processes hold {share:.0%} of the GPU's memory; end them, or expect "
                "to run out of it"
            )
    return sentences
