"""The queries that a predictor has taken: none is taken twice, and what is remembered of them is bounded.

A request id begins with its asker's time, so that ids ascend. Of each asker the latest are remembered; an id
that is below all of those is refused, as it may be one that was forgotten. Whoever asks with strange times
only stands in their own way.
"""

import heapq

from chiron.runtime.errors import QueryReplayed
from chiron.wire.encoding import Identifier

REMEMBERED = 4096
"""Queries of one asker that are told apart, however they overtake one another."""


class TakenQueries:
    """As long as a predictor's key lives, over all openings."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._of: dict[Identifier, _Latest] = {}

    def __len__(self) -> int:
        """Queries that are remembered, of all askers."""
        return sum(len(latest.known) for latest in self._of.values())

    def take(self, asker: Identifier, request_id: bytes) -> None:
        """Remember a query of one who may ask.

        Raises:
            QueryReplayed: it was taken before, or is older than all that is remembered.
        """
        latest = self._of.setdefault(asker, _Latest())
        if request_id in latest.known or request_id <= latest.forgotten:
            raise QueryReplayed("this query was taken before")
        latest.known.add(request_id)
        heapq.heappush(latest.ascending, request_id)
        if len(latest.ascending) > self._remembered:
            latest.forgotten = heapq.heappop(latest.ascending)
            latest.known.remove(latest.forgotten)


class _Latest:
    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.ascending: list[bytes] = []
        """The same, as a heap."""
        self.forgotten = b""
        """The highest id that was forgotten."""
