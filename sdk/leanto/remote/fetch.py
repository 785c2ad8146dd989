"""One exchange over HTTP with a limit on all of it: bytes, time and place. Knows nothing of what is fetched, or why.

It is httpx's transport alone: no redirects, cookies, user agent or proxies of the environment, and nothing is unpacked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import cache

import httpx


class Unfetched(Exception):
    """No answer that could be used; the message says why, in our words."""


async def fetch(
    transport: httpx.AsyncBaseTransport,
    method: str,
    url: str,
    *,
    most_bytes: int,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    content: bytes = b"",
) -> tuple[int, bytes]:
    """Status and body; the body of any other status than 200 is not read. Raises Unfetched.

    `timeout_s` is for everything from the look-up of the name to the last byte, however slowly they come.
    """
    try:
        async with asyncio.timeout(timeout_s):
            request = httpx.Request(method, url, headers={"Accept-Encoding": "identity", **(headers or {})}, content=content)
            return await _exchange(transport, request, most_bytes)
    except TimeoutError:
        raise Unfetched(f"nothing whole came within {timeout_s:.3g} s") from None
    except (httpx.TransportError, httpx.InvalidURL, OSError) as error:  # OSError: TLS that breaks in mid-stream
        raise Unfetched(type(error).__name__) from None


def open_transport() -> httpx.AsyncHTTPTransport:
    """One for some exchanges, to be used as a context manager."""
    return httpx.AsyncHTTPTransport(verify=_roots(), trust_env=False)


@cache
def _roots() -> ssl.SSLContext:
    """Read once: it takes as long as several exchanges."""
    return httpx.create_ssl_context(trust_env=False)


async def _exchange(transport: httpx.AsyncBaseTransport, request: httpx.Request, most_bytes: int) -> tuple[int, bytes]:
    response = await transport.handle_async_request(request)
    try:
        if response.status_code != 200:
            return response.status_code, b""
        if "content-encoding" in response.headers:
            raise Unfetched("it came packed, though unpacked was asked for")
        body = bytearray()
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        async for part in stream:
            body += part
            if len(body) > most_bytes:
                raise Unfetched(f"more than {most_bytes} bytes came")
        return 200, bytes(body)
    finally:
        await response.aclose()
