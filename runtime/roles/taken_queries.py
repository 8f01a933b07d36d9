"""The queries that a predictor has taken: none is taken twice, and what is remembered of them is bounded.

A request id begins with its asker's time, so that ids ascend. Of each asker the latest are remembered; an id
that is below all of those is refused, as it may be one that was forgotten. Whoever asks with strange times
only stands in their own way.

Of askers whom an opening names no longer, only the highest id is remembered, in case that a later one names
them again; and so of the latest of them only.
"""

import heapq
from collections.abc import Collection
from itertools import islice

from chiron.runtime.errors import QueryReplayed
from chiron.wire.encoding import Identifier

REMEMBERED = 4096
"""Queries of one asker that are told apart, however they overtake one another."""
FORMER = 65_536
"""Askers that may ask no longer of whom anything is remembered."""


class TakenQueries:
    """As long as a predictor's key lives, over all openings."""

    def __init__(self, remembered: int = REMEMBERED, former: int = FORMER) -> None:
        self._remembered = remembered
        self._at_most = former
        self._of: dict[Identifier, _Latest] = {}
        self._former: dict[Identifier, bytes] = {}
        """The highest id of each, who was forgotten last being the last."""

    def __len__(self) -> int:
        """Queries that are remembered, of all askers."""
        return sum(len(latest.known) for latest in self._of.values()) + len(self._former)

    def take(self, asker: Identifier, request_id: bytes) -> None:
        """Remember a query of one who may ask.

        Raises:
            QueryReplayed: it was taken before, or is older than all that is remembered.
        """
        latest = self._of.get(asker) or _Latest(self._former.get(asker, b""))
        if request_id in latest.known or request_id <= latest.forgotten:
            raise QueryReplayed("this query was taken before")
        self._of[asker] = latest
        self._former.pop(asker, None)
        latest.known.add(request_id)
        heapq.heappush(latest.ascending, request_id)
        if len(latest.ascending) > self._remembered:
            latest.forgotten = heapq.heappop(latest.ascending)
            latest.known.remove(latest.forgotten)

    def keep(self, askers: Collection[Identifier]) -> None:
        """Remember only the highest id of all but `askers`, who are those that may ask from now on."""
        for asker in self._of.keys() - set(askers):
            self._former[asker] = max(self._of.pop(asker).known)
        for oldest in list(islice(self._former, max(0, len(self._former) - self._at_most))):
            del self._former[oldest]


class _Latest:
    """Of one asker."""

    def __init__(self, forgotten: bytes) -> None:
        self.known: set[bytes] = set()
        self.ascending: list[bytes] = []
        """The same, as a heap."""
        self.forgotten = forgotten
        """The highest id that was forgotten."""
