"""solo-learn, another library of the field: why it has no number here."""

from issl_profiling.train.candidate import LeftOut

SOLO_LEARN = LeftOut(
    name="solo-learn",
    reason="cannot be installed beside ours: 1.0.2, the newest on PyPI, requires torch 1.9.1, torchvision 0.10.1 and "
    "pytorch-lightning 1.4.7",
)
