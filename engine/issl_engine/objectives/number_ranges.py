"""The ranges of numbers that keys of objectives have."""

from typing import Annotated

from pydantic import Field

PositiveInt = Annotated[int, Field(ge=1)]

PositiveFloat = Annotated[float, Field(gt=0)]

Weight = Annotated[float, Field(ge=0)]
"""Of a term of a loss; 0 leaves the term out."""

Momentum = Annotated[float, Field(ge=0, le=1)]
"""Share of an EMA teacher's weights that is kept at a step."""
