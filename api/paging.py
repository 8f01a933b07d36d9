"""Lists in pages: `?limit=` says how many, `?cursor=` where to go on, which is the `next` of the page before.

A cursor names the last item that was shown. What is added meanwhile moves nothing: no item is shown twice
or left out.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.orm import InstrumentedAttribute

from chiron.api.errors import RequestInvalid
from chiron.api.settings import Limits
from chiron.wire.public_api import MAX_CURSOR_CHARACTERS, Page

_Item = TypeVar("_Item", bound=BaseModel)
_Row = TypeVar("_Row")
_SEPARATOR = "\n"
USUAL = 100
"""Items of a page, unless the caller wants another number."""


@dataclass(frozen=True)
class PageRequest:
    """Which part of a list is wanted."""

    limit: int = USUAL
    after: tuple[str, ...] = ()
    """What names the last item of the page before; empty at the beginning."""

    def key(self, parts: int) -> tuple[str, ...]:
        """`after`, if it names an item by so many parts; empty at the beginning.

        Raises:
            RequestInvalid: it is of another list.
        """
        if len(self.after) not in (0, parts):
            raise RequestInvalid(_UNKNOWN)
        return self.after

    def page(
        self,
        kind: type[Page[_Item]],
        rows: Sequence[_Row],
        key: Callable[[_Row], Iterable[object]],
        show: Callable[[_Row], _Item],
    ) -> Page[_Item]:
        """A page of `rows`, which are `limit` and one more if there are more."""
        shown = rows[: self.limit]
        more = len(rows) > self.limit
        return kind(items=tuple(map(show, shown)), next=cursor(key(shown[-1])) if more else None)


_UNKNOWN = "cursor: the `next` of an earlier page of this list"


def page_request(request: web.Request, limits: Limits) -> PageRequest:
    """What the URL's query asks for.

    Raises:
        RequestInvalid: `limit` is no number of ours, or `cursor` was never a `next`.
    """
    limit = request.query.get("limit", str(USUAL))
    if not re.fullmatch(r"[1-9]\d{0,8}", limit, re.ASCII):
        raise RequestInvalid("limit: how many items a page has at most, from 1")
    return PageRequest(min(int(limit), limits.listed), _opened(request.query.get("cursor", "")))


def cursor(key: Iterable[object]) -> str:
    """What names an item, as text for a URL."""
    return urlsafe_b64encode(_SEPARATOR.join(map(str, key)).encode()).decode()


def _opened(given: str) -> tuple[str, ...]:
    if not given:
        return ()
    if len(given) > MAX_CURSOR_CHARACTERS:
        raise RequestInvalid(_UNKNOWN)
    try:
        return tuple(urlsafe_b64decode(given.encode("ascii")).decode().split(_SEPARATOR))
    except (NotBase64, UnicodeError) as error:
        raise RequestInvalid(_UNKNOWN) from error


def newest_first(
    query: Select[Any],
    wanted: PageRequest,
    created_at: InstrumentedAttribute[str],
    unique: ColumnElement[str] | InstrumentedAttribute[str],
) -> Select[Any]:
    """`query` in its stable order, from where the page begins; with one row more than it holds."""
    query = query.order_by(created_at.desc(), unique).limit(wanted.limit + 1)
    if not wanted.key(2):
        return query
    at, name = wanted.key(2)
    return query.where(or_(created_at < at, and_(created_at == at, unique > name)))
