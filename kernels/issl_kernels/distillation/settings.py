"""The numbers that define one DISSL loss, as its paths hand them on."""

from typing import NamedTuple

from issl_kernels.view_pairs import num_pairs


class Settings(NamedTuple):
    teacher_temperature: float
    student_temperature: float
    entropy_weight: float
    invariance_weight: float

    def teacher_pair_weight(self, V: int, G: int) -> float:
        """Weight of a pair of teacher views, in weights of a pair of a teacher and a student view."""
        return self.invariance_weight * num_pairs(V, G, True) / max(1, G * (G - 1))
