"""The relay: carries sealed bytes to one target and back. What it sends on holds nothing of who asked; it keeps nothing at all.

It speaks to the target through httpx's transport alone: no redirects, cookies, user agent, or proxies of the environment.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from leanto_cloud.errors import ConfigurationError
from leanto_cloud.http_server import asgi
from leanto_cloud.http_server.asgi import Gone, Receive, Rejected, Scope, Send
from leanto_cloud.relay.exchange import MAX_BODY_BYTES, check
from leanto_wire.ohttp import REQUEST_TYPE, RESPONSE_TYPE

LIMIT_S = 360.0  # for an exchange as a whole
TIMEOUTS = {"connect": 5.0, "read": 60.0, "write": 30.0, "pool": 5.0}
PASSED_ON = (400, 413, 415, 429, 503)
CONNECTIONS = 256


class Relay:
    """An ASGI application in front of one `target`. Raises ConfigurationError for a target that cannot be used."""

    def __init__(self, target: str, roots: Path | None = None) -> None:
        self._target = checked_target(target)
        try:
            verify = ssl.create_default_context(cafile=roots)
        except OSError as error:
            raise ConfigurationError(f"{roots}: cannot be read as root certificates: {error.strerror}") from None
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        self._transport = httpx.AsyncHTTPTransport(verify=verify, trust_env=False, http2=False, limits=limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one exchange."""
        started = False

        async def sending(event: dict[str, object]) -> None:
            nonlocal started
            started = True
            await send(event)

        try:
            async with asyncio.timeout(LIMIT_S):
                await self._carry(scope, receive, sending)
        except Gone:
            return
        except Rejected as error:
            await self._fail(send, error, started)
        except (httpx.TransportError, TimeoutError):
            await self._fail(send, Rejected(502), started)

    async def close(self) -> None:
        """Close the connections to the target."""
        await self._transport.aclose()

    async def _carry(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = check(scope, REQUEST_TYPE)
        headers = {"Host": self._target.netloc.decode(), "Content-Type": REQUEST_TYPE}
        headers |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        content = asgi.body(receive, MAX_BODY_BYTES)
        request = httpx.Request("POST", self._target, headers=headers, content=content, extensions={"timeout": TIMEOUTS})
        response = await self._transport.handle_async_request(request)
        try:
            if response.status_code != 200:
                raise Rejected(response.status_code if response.status_code in PASSED_ON else 502)
            if response.headers.get("content-type") != RESPONSE_TYPE or "content-encoding" in response.headers:
                raise Rejected(502)
            await asgi.while_connected(receive, _pass_on(response, send))
        finally:
            await response.aclose()

    async def _fail(self, send: Send, error: Rejected, started: bool) -> None:
        """Say so, or, in mid-answer, break the connection off: an end of its own would look whole."""
        if started:
            raise ConnectionAbortedError
        await asgi.reject(send, error)


async def _pass_on(response: httpx.Response, send: Send) -> None:
    await asgi.start(send, 200, RESPONSE_TYPE)
    stream = response.stream
    assert isinstance(stream, AsyncIterator | httpx.AsyncByteStream)
    async for data in stream:
        await asgi.part(send, data, more=True)
    await asgi.part(send, b"", more=False)


def checked_target(text: str) -> httpx.URL:
    """The one address that is ever asked. Raises ConfigurationError for other than https, or http on this machine."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ConfigurationError(f"{text!r} is not a URL") from None
    if url.scheme not in ("https", "http") or not url.host or url.userinfo or url.query or url.fragment:
        raise ConfigurationError(f"{text!r}: name a target as https://HOST[:PORT]/")
    if url.scheme == "http" and not _is_loopback(url.host):
        raise ConfigurationError(f"{text!r}: plaintext only goes to a loopback address; use https")
    return url.copy_with(host="127.0.0.1") if url.host == "localhost" else url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
