"""When DISSL leaves two classes merged: the mechanism of its local optimum, to second order.

Let the teacher give some classes one prediction u, and try to part them by a little of a feature: t_i = u (1 + e f_i),
where f_i has the variance B between the classes and W among views of one class, r = B / W. The student, linear in what
it sees, then does best with s_j = u (1 + e f_j B / (B + W)). Neither changes the marginal, so lambda has no say:

    CE(t_i, s_j)       changes by e^2 / 2 times  -(B + W) + (B + W) - B^2 / (B + W)
    beta CE(t_i, t_i') changes by e^2 / 2 times  beta (-(B + W) + 2 W)

Together -B^2 / (B + W) + beta (W - B). So the merged classes part if r^2 / (1 + r) > beta (1 - r). With beta = 0 any
feature parts them. With beta > 0 one that is too noisy is driven out: being merged is a local optimum until the encoder
finds a better feature, and nothing rewards looking for it. A teacher's temperature only sets how fast e grows.
"""

import math


def least_signal(invariance_weight: float) -> float:
    """r, the variance between two merged classes over that among views of one class, above which a feature parts them
    under DISSL's loss with this beta."""
    # (1 + beta) r^2 = beta
    return math.sqrt(invariance_weight / (1 + invariance_weight))
