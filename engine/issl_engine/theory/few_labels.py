"""The accuracy that few labels buy on an ideal representation, in closed form.

An ideal representation gives each equivalence class one corner of a regular simplex. A probe that separates the
labelled images by the widest margin is right on every class that it saw. A class that it did not see lies as far from
all of them: there its answer is the sign of its bias, the side on which it saw more classes. (With p and q classes seen
on the two sides, the hulls' nearest points are their centres, whose squared lengths are (1/p - 1/C) and (1/q - 1/C)
times C / (C - 1): the shorter one, of more classes, is nearer to the origin.)

Letters: C equivalence classes, half of them on either side of the task; m images of each; n labelled ones.
"""

from fractions import Fraction
from math import comb


def expected_accuracy(num_classes: int, images_per_class: int, labelled: int) -> float:
    """Expected share of the images that are right on a task that parts an even number of classes in two halves, of
    ``labelled`` images drawn evenly without replacement from all C x ``images_per_class``. Exact but for rounding."""
    assert num_classes % 2 == 0
    half = num_classes // 2
    total = Fraction(0)
    for p in range(half + 1):
        for q in range(half + 1):
            if p + q == 0:
                continue
            share = Fraction(p + q, num_classes)
            unseen = {True: Fraction(half - p), False: Fraction(half - q)}
            guessed = unseen[p > q] if p != q else (unseen[True] + unseen[False]) / 2
            chance = comb(half, p) * comb(half, q) * _exactly(p + q, num_classes, images_per_class, labelled)
            total += chance * (share + guessed / num_classes)
    return float(total)


def _exactly(seen: int, num_classes: int, images_per_class: int, labelled: int) -> Fraction:
    """The probability that the classes with a labelled image are these ``seen`` ones and no others (inclusion and
    exclusion over those of them that were missed)."""
    every = comb(num_classes * images_per_class, labelled)
    count = sum(
        (-1) ** missed * comb(seen, missed) * comb((seen - missed) * images_per_class, labelled)
        for missed in range(seen + 1)
    )
    return Fraction(count, every)
