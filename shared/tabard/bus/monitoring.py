"""Asking servers' monitoring endpoints, where each speaks for itself alone.

The request is spoken on the event loop, so that it is made in the network namespace that the loop's
thread is in: an embedded server is monitored on the loopback of its own.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from tabard.bus.replicas import Server, server

TIMEOUT_S = 3.0
ANSWER_BYTES_MAX = 16 << 20
COUNTS = "/jsz?accounts=1&streams=1&config=1"


class _NoAnswer(Exception):
    """Why an endpoint gave none."""


async def ask(urls: Sequence[str], timeout_s: float = TIMEOUT_S) -> tuple[Server, ...]:
    """What the server at each of `urls` (http://HOST:PORT, or https) says of its streams.

    In the order of `urls`. One that gives no answer in time has `failure` and no name.
    """
    return tuple(await asyncio.gather(*(_ask(url, timeout_s) for url in urls)))


async def _ask(url: str, timeout_s: float) -> Server:
    base = url.rstrip("/")
    try:
        async with asyncio.timeout(timeout_s):
            return server(url, await _get(base, "/varz"), await _get(base, COUNTS))
    except TimeoutError:
        failure = f"nothing within {timeout_s:g} s"
    except (_NoAnswer, OSError) as error:
        failure = str(error)
    except (KeyError, TypeError, ValueError) as error:
        failure = f"no answer of a nats-server ({type(error).__name__}: {error})"
    return Server(url, failure=f"{url}: {failure}")


async def _get(base: str, path: str) -> Any:
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _NoAnswer("a monitoring URL is http://HOST:PORT")
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=secure, limit=ANSWER_BYTES_MAX
    )
    try:
        # HTTP/1.0: the answer comes in one piece, and ends with the connection.
        request = f"GET {parts.path}{path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n"
        writer.write(request.encode())
        answer = await reader.read(ANSWER_BYTES_MAX)
        while more := await reader.read(ANSWER_BYTES_MAX):
            answer += more
            if len(answer) > ANSWER_BYTES_MAX:
                raise _NoAnswer(f"{path} answers with more than {ANSWER_BYTES_MAX} bytes")
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise _NoAnswer(f"{path} answers {head.splitlines()[:1]!r}")
    return json.loads(body)
