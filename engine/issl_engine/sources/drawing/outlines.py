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


def _semicircle() -> Points:
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 24)
    return np.stack([1.1 * np.cos(angle) - 0.45, 1.1 * np.sin(angle)], axis=1)


def _arrow() -> Points:
    return np.array([(1.15, 0), (0.3, 0.8), (0.3, 0.3), (-1.1, 0.3), (-1.1, -0.3), (0.3, -0.3), (0.3, -0.8)])


def _tee() -> Points:
    return np.array([(-1, 1), (1, 1), (1, 0.45), (0.28, 0.45), (0.28, -1), (-0.28, -1), (-0.28, 0.45), (-1, 0.45)])


def _ell() -> Points:
    return np.array([(-0.35, 1.05), (0.2, 1.05), (0.2, -0.25), (1.0, -0.25), (1.0, -0.8), (-0.35, -0.8)])


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, y + 2], axis=1) / 15


def _gear() -> Points:
    points = 1.05 * _regular(32)
    points[np.arange(32) % 4 >= 2] *= 0.62
    return points


def _teardrop() -> Points:
    angle = np.linspace(0.3 * np.pi, 1.7 * np.pi, 30)
    tail = np.array([(1.15, 0.0)])
    return np.concatenate([tail, np.stack([0.7 * np.cos(angle) - 0.4, 0.7 * np.sin(angle)], axis=1)])


def _kite() -> Points:
    return np.array([(0.0, 1.0), (0.65, 0.3), (0.0, -1.15), (-0.65, 0.3)])


def _stairs() -> Points:
    return np.array([(-1, -1), (1, -1), (1, 1), (0.33, 1), (0.33, 0.33), (-0.33, 0.33), (-0.33, -0.33), (-1, -0.33)])


def _chevron() -> Points:
    return np.array([(-1, 0.85), (-0.35, 0.85), (0.4, 0), (-0.35, -0.85), (-1, -0.85), (-0.28, 0)])


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
    "semicircle": _semicircle,
    "arrow": _arrow,
    "tee": _tee,
    "ell": _ell,
    "heart": _heart,
    "gear": _gear,
    "teardrop": _teardrop,
    "kite": _kite,
    "stairs": _stairs,
    "chevron": _chevron,
}
"""Class name → outline around the origin, radius about one. The first k are the classes of a source with k of them, so
new ones go to the end."""
