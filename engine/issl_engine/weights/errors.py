"""What goes wrong with weights."""

from issl_engine.mistakes import Mistake


class WeightsError(Mistake):
    """Weights that cannot be read, used or written: one sentence that names the file and says what to do."""
