"""Error bodies of every HTTP interface (RFC 9457)."""

from pydantic import Field

from chiron.wire.encoding import WireModel

PROBLEM_CONTENT_TYPE = "application/problem+json"


class Problem(WireModel):
    """application/problem+json with a stable `code`."""

    type: str = "about:blank"
    title: str = Field(max_length=200)
    status: int = Field(ge=400, le=599)
    detail: str = Field(default="", max_length=2000)
    code: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")
    missing: tuple[int, ...] | None = Field(default=None, max_length=1000)
    """`dataset-incomplete`: numbers of the first chunks that were not received."""
