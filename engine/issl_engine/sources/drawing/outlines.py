"""The outlines of the shapes data's kinds of shapes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Corners [n, 2] in order, (x, y)."""


def _regular(corners: int, turn: float = 0.0) -> Points:
    angle = 2 * np.pi * (np.arange(corners) / corners) + turn
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _disc() -> Points:
    return 0.85 * _regular(40)


def _ring() -> Points:
    circle = np.concatenate([_regular(40), _regular(40)[:1]])
    return np.concatenate([0.95 * circle, 0.55 * circle[::-1]])


def _triangle() -> Points:
    return 1.1 * _regular(3)


def _square() -> Points:
    return 1.1 * _regular(4)


def _plus() -> Points:
    a, b = 0.3, 1.0
    return np.array(
        [
            (a, b),
            (a, a),
            (b, a),
            (b, -a),
            (a, -a),
            (a, -b),
            (-a, -b),
            (-a, -a),
            (-b, -a),
            (-b, a),
            (-a, a),
            (-a, b),
        ]
    )


def _star() -> Points:
    points = 1.15 * _regular(10)
    points[1::2] *= 0.4
    return points


def _crescent() -> Points:
    outer = np.linspace(0.25 * np.pi, 1.75 * np.pi, 30)
    start, end = (np.array([np.cos(a), np.sin(a)]) for a in (outer[0], outer[-1]))
    centre = np.array([0.55, 0.0])
    first, last = (np.arctan2(*(p - centre)[::-1]) for p in (end, start))
    radius = np.linalg.norm(start - centre)
    inner = np.linspace(first + 2 * np.pi, last, 30)
    inner_arc = centre + radius * np.stack([np.cos(inner), np.sin(inner)], axis=1)
    return np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), inner_arc])


def _bar() -> Points:
    return np.array([(1.15, 0.28), (1.15, -0.28), (-1.15, -0.28), (-1.15, 0.28)])


def _bowtie() -> Points:
    return np.array([(-1.05, -0.8), (0.0, -0.12), (1.05, -0.8), (1.05, 0.8), (0.0, 0.12), (-1.05, 0.8)])


def _zigzag() -> Points:
    half = np.array([(-0.9, 1.0), (0.9, 1.0), (0.9, 0.62), (-0.2, -0.62), (0.9, -0.62)])
    return np.concatenate([half, -half])


KINDS: dict[str, Callable[[], Points]] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "plus": _plus,
    "star": _star,
    "crescent": _crescent,
    "bar": _bar,
    "bowtie": _bowtie,
    "zigzag": _zigzag,
}
"""Class name → outline around the origin, radius about one."""
