"""The base of every component's configuration."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen, keyword-only record, checked when it is made.

    Values are coerced to the declared type (YAML reads ``1e-3`` as a string), unknown keys are errors, and the
    docstring under each field is its help text (``issl-engine show``).
    """

    gone_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions → what is said of them now."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )
