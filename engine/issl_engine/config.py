"""The base of every component's configuration."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen, keyword-only record, checked when it is made.

    Values are coerced to the declared type (YAML reads ``1e-3`` as a string), unknown keys are errors, and the
    docstring under each field is its help text (``issl-engine show``).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )
