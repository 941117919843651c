"""The base of what does not change once it is made."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Compared by what it holds; a new state is a copy."""

    model_config = ConfigDict(frozen=True)
