"""Attacks on a client by an address: a relay's, an issuer's or a log's URL that is not of the host that it seems to be of."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto.clock import Clock
from leanto.errors import TargetError
from leanto.remote import Relay, ReleaseLog, RemoteTarget, Tls, TokenSource
from leanto.remote.target import checked_url, dial_target, is_loopback
from leanto.remote.wallet import Wallet
from mint import VARIABLE, running_issuer, source

TARGET = RemoteTarget("node.example:443", "root", Tls())
NAMED = {
    "relay": lambda url: replace(TARGET, relay=Relay(url, "AQAg")),
    "issuer": lambda url: replace(TARGET, tokens=TokenSource(url, "node.example", "wallet")),
    "release log": lambda url: replace(TARGET, log=ReleaseLog("log+1+x", "checkpoint", tiles=url)),
}
PLAINTEXT = (
    "http://relay.example/",
    "http://localhost.example/",
    "http://localhost./",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://[::ffff:192.0.2.1]/",
    "http://10.0.0.1/",
)
NO_URL = (
    "",
    "relay.example",
    "ftp://relay.example/",
    "file:///etc/passwd",
    "https://",
    "https:///relay",
    "https://127.0.0.1@relay.example/",
    "https://relay.example:443@evil.example/",
    "https://relay.example\\@evil.example/",
    "https://relay.example/?to=evil.example",
    "https://relay.example/#",
    "https://relay.example:0/",
    "https://relay.example:65536/",
    "https://relay.example:٨٠/",
    "https://rеlay.example/",  # a letter that looks like another
    "https://[fe80::1%25eth0]/",
    "https://[::x]/",
    "https://[1.2]/",
    "https://relay.example/ x",
    "https://relay.exa\nmple/",
    "https://relay.example/\0",
    " https://relay.example/",
)


@pytest.mark.parametrize("what", NAMED)
@pytest.mark.parametrize("url", PLAINTEXT)
def test_plaintext_goes_to_no_relay_issuer_or_log_beyond_this_machine(url: str, what: str) -> None:
    with pytest.raises(TargetError, match=f"the {what} .* plaintext only goes to a loopback address"):
        dial_target(NAMED[what](url))


@pytest.mark.parametrize("what", NAMED)
@pytest.mark.parametrize("url", NO_URL, ids=repr)
def test_an_address_that_is_no_plain_url_is_refused(url: str, what: str) -> None:
    with pytest.raises(TargetError, match=f"the {what} .* is not https"):
        dial_target(NAMED[what](url))


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://localhost.example.com/x", "https://localhost.example.com/x"),
        ("https://localhosting.example/", "https://localhosting.example/"),
        ("http://localhost:80/", "http://127.0.0.1:80/"),
        ("http://LOCALHOST:80", "http://127.0.0.1:80"),
        ("HTTPS://Node.Example:8443/A", "https://node.example:8443/A"),
        ("http://[::1]:80/", "http://[::1]:80/"),
    ],
)
def test_the_host_that_is_asked_is_the_one_that_was_named_and_localhost_is_this_machine(url: str, asked: str) -> None:
    assert checked_url(url, "relay") == asked


hosts = st.sampled_from(["localhost", "LocalHost", "127.0.0.1", "[::1]", "localhost.example", "relay.example", "127.0.0.1.example", "::1"])
texts = st.text(st.sampled_from("abc:/.@?#[]%\\ \n0189-_е") | st.characters(), max_size=20)


@given(st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https", "HTTP", "ws"]), texts | hosts, texts | st.just(":80"), texts))
def test_whatever_is_taken_leads_where_every_reader_of_urls_says_it_leads(url: str) -> None:
    try:
        asked = checked_url(url, "relay")
    except TargetError:
        return
    parts, other = urlsplit(asked), httpx.URL(asked)
    assert (parts.scheme, parts.hostname, parts.port) == (other.scheme, other.host, other.port or parts.port)
    assert parts.hostname == ("127.0.0.1" if (urlsplit(url).hostname or "") == "localhost" else urlsplit(url).hostname)
    assert parts.scheme == "https" or is_loopback(parts.hostname or "")


def test_an_accounts_key_goes_to_this_machine_whatever_a_resolver_says_of_localhost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def liar(_: object, host: Any, *__: Any, **___: Any) -> Any:
        asked.append(host)
        raise OSError

    async def take(url: str) -> bytes:
        monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", liar)
        wallet = Wallet(source(tmp_path, url), Clock())
        try:
            return await wallet.take()
        finally:
            await wallet.close()

    with running_issuer(tmp_path) as (seen, url, account):
        monkeypatch.setenv(VARIABLE, account)
        assert asyncio.run(take(url.replace("127.0.0.1", "LOCALHOST")))
        assert seen.issued
    assert asked == []
