"""Pairs of views that a symmetric two-view loss compares."""

from issl_engine.mistakes import Mistake


def view_pairs(num_views: int, num_global_views: int, objective: str) -> list[tuple[int, int]]:
    """Each pair (global view i, other view j) once. Raises Mistake when there is none."""
    pairs = [(i, j) for i in range(num_global_views) for j in range(num_views) if j > i or j >= num_global_views]
    if not pairs:
        raise Mistake(f"objective {objective} compares views: views.groups must give at least 2 crops per image")
    return pairs
