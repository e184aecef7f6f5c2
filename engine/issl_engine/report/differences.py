"""Differences between arms, paired: the same seeds, and the same judged images.

With several seeds the interval is Student's t over the differences of the seeds: it covers other seeds of training, on
these judged images. With one seed it is a bootstrap over the judged images, each with both arms' answers: it covers
other images, for these two encoders. Neither is corrected for the number of pairs.

Letters: R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from issl_engine.probing.judging.bootstrap import percentiles
from issl_engine.probing.judging.metric_limits import limits_of
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.report.answers_file import Answers
from issl_engine.report.columns import Column
from issl_engine.report.run_folder import ArmRuns, Run
from issl_engine.report.statistics import Summary, summarise

RESAMPLES = 10_000
IMAGE_METRICS = frozenset({"top1", "top5"})
"""Metrics that are a mean over images of right or wrong."""
MOST_ARMS_IN_PAIRS = 6
"""On the terminal; of more arms, all stand against the best."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm's number at one seed."""

    result: ProbeResult
    answers: Answers | None
    column: Column

    def is_judged_as(self, other: "Side") -> bool:
        """Whether the judged images are the same, as far as the run folders know."""
        if (self.result.split, self.result.num_split_images) != (other.result.split, other.result.num_split_images):
            return False
        return self.answers is None or other.answers is None or self.answers.judged == other.answers.judged


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``first`` - ``second`` in one column, or why there is none."""

    first: str
    second: str
    column: Column
    summary: Summary | None
    seeds: tuple[int, ...] = ()
    """Those that are paired."""
    why_none: str = ""

    @property
    def covers(self) -> str:
        """What the interval is over: seeds, images, or empty for no interval."""
        if self.summary is None or self.summary.ends is None:
            return ""
        return "images" if self.summary.half_width is None else "seeds"

    @property
    def text(self) -> str:
        """Such as "+1.2 [0.3, 2.1]"."""
        return "–" if self.summary is None else self.summary.text(self.column.digits, signed=True)


def difference(first: ArmRuns, second: ArmRuns, column: Column) -> Difference:
    """Over the seeds that both have."""
    of_first, of_second = _sides(first, column), _sides(second, column)
    shared = [seed for seed in of_first if seed in of_second]
    return _of_pairs(
        first.name, second.name, column, {seed: (of_first[seed], of_second[seed]) for seed in shared},
        "no seed has both" if of_first and of_second else "not probed",
    )  # fmt: skip


def gain_over_untrained(row: ArmRuns, column: Column) -> Difference:
    """The arm against its own untrained encoder, seed by seed."""
    pairs = {}
    for seed in row.seeds:
        control = seed.untrained
        mine = _side(seed.probes, seed.answers, column)
        floor = _side(control.probes, control.answers, column.of_control) if control else None
        if mine is not None and floor is not None:
            pairs[seed.seed] = (mine, floor)
    return _of_pairs(row.name, "untrained encoder", column, pairs, "no seed has both")


def all_differences(run: Run, columns: Sequence[Column] | None = None) -> list[Difference]:
    """Every pair of arms once, in every plain column; the arm that is better in the first column comes first."""
    columns = run.plain_columns if columns is None else columns
    return [difference(a, b, column) for a, b in combinations(best_first(run), 2) for column in columns]


def differences_to_show(run: Run) -> list[Difference]:
    """All, or those to the best arm where there are many arms."""
    found = all_differences(run)
    if len(run.arms) <= MOST_ARMS_IN_PAIRS:
        return found
    best = best_first(run)[0].name
    return [one for one in found if one.first == best]


def best_first(run: Run) -> list[ArmRuns]:
    """The arms by their mean in the first plain column; those that have none come last."""
    columns = run.plain_columns
    if not columns:
        return list(run.arms)
    sign = 1 if columns[0].lower_is_better else -1

    def place(arm: ArmRuns) -> tuple[bool, float]:
        score = arm.score(columns[0])
        return score is None, 0.0 if score is None else sign * score.mean

    return sorted(run.arms, key=place)


def meaning_of_differences(found: Sequence[Difference]) -> list[str]:
    """One line for each thing that is to be known of them."""
    lines = []
    by_seeds = [one for one in found if one.covers == "seeds"]
    if by_seeds:
        degrees = sorted({len(one.seeds) - 1 for one in by_seeds})
        lines.append(
            "differences are paired by seed: ± is half of the 95 % t-interval over the seeds' differences "
            f"({'/'.join(map(str, degrees))} degrees of freedom); it covers other seeds, not other judged images"
        )
    if any(one.covers == "images" for one in found):
        lines.append(
            "differences of one seed are paired by image: brackets are the 95 % bootstrap interval over the judged "
            "images; it covers other images, not other seeds"
        )
    if any(one.covers for one in found):
        lines.append("intervals of differences are of one pair each, not corrected for the number of pairs")
    apart: dict[str, list[str]] = {}
    for one in found:
        if one.why_none:
            apart.setdefault(one.why_none, []).append(f"{one.first} - {one.second}")
    return lines + [f"not paired, {why}: {', '.join(dict.fromkeys(pairs))}" for why, pairs in apart.items()]


def _sides(row: ArmRuns, column: Column) -> dict[int, Side]:
    sides = ((seed.seed, _side(seed.probes, seed.answers, column)) for seed in row.seeds)
    return {seed: side for seed, side in sides if side is not None}


def _side(probes: Sequence[ProbeResult], answers: Answers | None, column: Column) -> Side | None:
    result = next((one for one in probes if column.holds(one)), None)
    return None if result is None else Side(result=result, answers=answers, column=column)


def _of_pairs(
    first: str, second: str, column: Column, pairs: dict[int, tuple[Side, Side]], why_none: str
) -> Difference:
    same = {seed: (a, b) for seed, (a, b) in pairs.items() if a.is_judged_as(b)}
    if not same:
        why = "judged on other images" if pairs else why_none
        return Difference(first=first, second=second, column=column, summary=None, why_none=why)
    values = [a.result.value - b.result.value for a, b in same.values()]
    limits = limits_of(column.metric)
    summary = summarise(values, None if limits is None else (limits[0] - limits[1], limits[1] - limits[0]))
    if len(values) == 1:
        (pair,) = same.values()
        summary = Summary(mean=values[0], half_width=None, count=1, interval=_over_images(*pair))
    return Difference(first=first, second=second, column=column, summary=summary, seeds=tuple(same))


def _over_images(first: Side, second: Side) -> tuple[float, float] | None:
    """Percent; None where the run folders do not say which images were told right.

    Of the images drawn with replacement, the numbers of those that only the first tells right, only the second, and
    both or neither, are multinomial.
    """
    if first.answers is None or second.answers is None or first.column.metric not in IMAGE_METRICS:
        return None
    one_N, other_N = first.answers.right_N(first.column.key), second.answers.right_N(second.column.key)
    if one_N is None or other_N is None:
        return None
    count = len(one_N)
    won, lost = int((one_N & ~other_N).sum()), int((other_N & ~one_N).sum())
    shares = np.array([won, lost, count - won - lost]) / count
    drawn_R3 = np.random.default_rng(first.result.seed).multinomial(count, shares, size=RESAMPLES)
    return percentiles(100 * (drawn_R3[:, 0] - drawn_R3[:, 1]) / count)
