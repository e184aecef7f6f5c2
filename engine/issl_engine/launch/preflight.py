"""Checks before training, on every rank: what would fail, or spoil the result, is said before time is spent.

Each rank gathers what it knows; all see the same facts, and so raise the same sentence.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from issl_engine.launch.checkpoint_size import checkpoint_bytes
from issl_engine.launch.facts import Facts, collect_facts
from issl_engine.launch.judge import Finding, judge_facts, judge_folders, judge_links, judge_space
from issl_engine.launch.link import LinkFacts, measure_link
from issl_engine.launch.run_folder_check import FolderFacts, check_run_folder
from issl_engine.mistakes import Mistake
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset
from issl_engine.training.plan import make_plan

_log = logging.getLogger("issl_engine")

Load = Callable[[Recipe], Dataset]


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """All that preflight knows of one rank; ``link`` is None where there is one rank alone."""

    facts: Facts
    folder: FolderFacts
    link: LinkFacts | None


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """``reports`` in the order of ranks; ``checkpoint_bytes`` of the largest arm, None where something else is wrong;
    ``seconds`` that the checks took, without reading the data."""

    reports: tuple[RankReport, ...]
    findings: tuple[Finding, ...]
    checkpoint_bytes: int | None
    seconds: float

    @property
    def errors(self) -> list[str]:
        return [finding.sentence for finding in self.findings if finding.is_error]


def check_before_training(recipes: Mapping[str, Recipe], out: Path, ranks: Ranks, load: Load) -> Preflight:
    """Logs what is noteworthy. Raises Mistake, alike on all ranks, with a line for each thing that must be mended.

    ``out`` must be there, and locked by this run.
    """
    done = look(recipes, out, ranks, load)
    if ranks.is_first:
        _log.info("%s", describe_ranks(done))
        if len(done.reports) > 1:
            _log.info("%s", describe_link(done))
        for finding in done.findings:
            if not finding.is_error:
                _log.warning("%s", finding.sentence)
    if done.errors:
        raise Mistake("\n".join(done.errors))
    return done


def look(recipes: Mapping[str, Recipe], out: Path, ranks: Ranks, load: Load) -> Preflight:
    """The checks themselves; every rank must call it."""
    own = collect_facts(recipes, ranks, load)
    began = time.perf_counter()
    facts = ranks.gather(own)
    folders = ranks.gather(check_run_folder(out, ranks))
    links: Sequence[LinkFacts | None] = [None]
    if ranks.group is not None:
        links = ranks.gather(measure_link(ranks))
    reports = tuple(
        RankReport(facts=fact, folder=folder, link=link)
        for fact, folder, link in zip(facts, folders, links, strict=True)
    )
    findings = [*judge_facts(facts), *judge_folders(facts, folders, out), *judge_links(facts, links)]
    needed = None
    if not any(finding.is_error for finding in findings):
        try:
            needed = _largest_checkpoint(recipes, ranks, load)
        except Mistake as error:  # the recipe does not fit the data
            findings.append(Finding(is_error=True, sentence=str(error)))
        else:
            findings += judge_space(facts, folders, out, needed, _bytes_of_checkpoints(out))
    return Preflight(
        reports=reports, findings=tuple(findings), checkpoint_bytes=needed, seconds=time.perf_counter() - began
    )


def describe_ranks(done: Preflight) -> str:
    """Such as "4 ranks on 2 hosts, CPU/gloo"."""
    facts = [report.facts for report in done.reports]
    hosts = len({fact.host for fact in facts})
    kind = "CPU" if facts[0].gpu is None else facts[0].gpu.name
    ranks = f"{len(facts)} ranks on {hosts} host{'s' if hosts > 1 else ''}" if len(facts) > 1 else "1 rank"
    backend = "" if len(facts) == 1 else "/gloo" if facts[0].gpu is None else "/nccl"
    return f"{ranks}, {kind}{backend}"


def describe_link(done: Preflight) -> str:
    """Rate of the all-reduce, by the slowest rank."""
    links = [report.link for report in done.reports if report.link is not None]
    slowest = min(links, key=lambda link: link.mb_per_second)
    return f"all-reduce of {slowest.bytes / 2**20:.0f} MiB: {slowest.mb_per_second:.0f} MB/s"


def _largest_checkpoint(recipes: Mapping[str, Recipe], ranks: Ranks, load: Load) -> int:
    """Of the arms that share the first one's source, so that nothing is read twice."""
    first = next(iter(recipes.values()))
    return max(
        checkpoint_bytes(recipe, make_plan(recipe, load(recipe), ranks), ranks.world_size)
        for recipe in recipes.values()
        if recipe.source == first.source
    )


def _bytes_of_checkpoints(out: Path) -> int:
    return sum(path.stat().st_size for path in out.glob("*/seed*/checkpoints/step_*/**/*") if path.is_file())
