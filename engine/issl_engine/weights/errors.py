"""What goes wrong with weights."""


class WeightsError(ValueError):
    """Weights that cannot be read, used or written: one sentence that names the file and says what to do."""
