"""A few pieces of work at a time: so many are in memory, and the first failure ends the rest."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")


async def each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]], *, at_once: int) -> None:
    """Do `work` for each item, `at_once` at a time, begun in order.

    Raises:
        Exception: the first that `work` raised; what else was under way is cancelled.
    """
    upcoming = iter(items)

    async def worker() -> None:
        for item in upcoming:
            await work(item)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(at_once):
                workers.create_task(worker())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
