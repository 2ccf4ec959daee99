"""Tasks and threads of a supervisor, so that what is being made is made before it is cleaned up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def minding() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group out of which the body's own error comes as it is, not as a group of one.

    Its tasks must end by themselves before it does.
    """
    raised: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        try:
            yield tasks
        except Exception as error:  # raised again below
            raised = error
    if raised is not None:
        raise raised


async def wholly(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """A blocking call on a thread, awaited to its end even when cancelled.

    Clean-up begins after a cancellation, and must not race with what is still being made.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments, **named))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
