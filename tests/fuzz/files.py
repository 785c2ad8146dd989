"""Other files of the SDK's, certificates, ready files, routers and ledgers, and the JSON that a model writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from random import Random
from typing import Any

import numpy as np

import promises
from fuzz.changes import changed, changed_json, fixed, json_of, text
from fuzz.target import Target, written
from leanto.certificates.audit import Audit
from leanto.certificates.certificate import _LABEL, _canonical, iso_time, verify
from leanto.demo.local_node import read_ready
from leanto.errors import CertificateError, CloudUnavailable, ModelError, OutputError
from leanto.ledger import Ledger
from leanto.local.json_prefix import JsonPrefix
from leanto.request import parse_call
from leanto.router.model import _NUMBERS, _SHAPES, Router
from leanto.router.trees import Trees


def signed(raw: bytes) -> None:
    """Whatever it says, the pinned key has signed it, if it can be signed at all. What is accepted can be asked."""
    try:
        body = json.loads(raw)
        said = _canonical({**body, "signature": _signature(body)})
    except (ValueError, TypeError, RecursionError):
        said = text(raw)
    found = verify(said, promises.PUBLIC)
    for now in (0.0, found.issued_at, found.expires_at, float("nan"), 1e300):
        found.valid_for(found.build, found.cloud_model, found.task, now, score=found.score)
    assert iso_time(found.issued_at)


def _signature(body: Mapping[str, Any]) -> str:
    return base64.b64encode(promises.KEY.sign(_LABEL + _canonical(body).encode())).decode()


def _body() -> bytes:
    body = json.loads(promises.PROMISE)
    del body["signature"]
    return json_of(body)


def audit_state(raw: bytes) -> None:
    """In the ledger: whatever it says, a request goes on, and an audit that cannot be read counts as alarmed."""
    with closing(Ledger()) as found:
        found._database.execute("INSERT INTO audit VALUES ('fuzzed', ?)", (text(raw),))
        _asked(found)


def _asked(found: Ledger) -> None:
    found.reserve(lambda day: not day.known or day.calls >= 0)
    found.add(usd=0.5)
    assert isinstance(found.last_day().known, bool)
    assert found.alarmed("fuzzed") in (True, False)
    found.observe("fuzzed", True, alpha=0.05, delta=0.05)
    found.audits()


@cache
def ledger_file() -> bytes:
    """One with a call and an audit."""
    path = written("ledger", b"")
    with closing(Ledger(path)) as made:
        made.add(calls=1, bytes_sent=100)
        made.observe("fuzzed", False, alpha=0.05, delta=0.05)
    return path.read_bytes()


def ledger(raw: bytes) -> None:
    """The whole file."""
    with closing(Ledger(written("ledger", raw))) as found:
        _asked(found)


@cache
def router() -> bytes:
    """A router that has learnt nothing."""
    tensors: dict[str, Any] = {name: np.zeros(shape, np.int32 if name == "tree_feature" else np.float32) for name, shape in _SHAPES.items()}
    tensors["structure_scale"] += 1
    trees = Trees(*(tensors.pop(name) for name in ("tree_feature", "tree_threshold", "tree_value")))
    Router(**tensors, **dict.fromkeys(_NUMBERS, 0.0), trees=trees, report={}).save(path := written("router", b""))
    return path.read_bytes()


def changed_router(random: Random, raw: bytes) -> bytes:
    """Its header or its numbers."""
    size = 8 + int.from_bytes(raw[:8], "little")
    if random.random() < 0.4:
        header = changed_json(random, raw[8:size])
        return len(header).to_bytes(8, "little") + header + raw[size:]
    return changed(random, raw[:size]) + raw[size:] if random.random() < 0.3 else raw[:size] + changed(random, raw[size:])


def route(raw: bytes) -> None:
    """A router that is read scores every prompt."""
    score = Router.load(written("router", raw)).gain("Light on at six, please?")
    assert np.isfinite(score)


class Dead(Exception):
    """The text cannot become an object any more."""


def json_so_far(raw: bytes) -> None:
    """Whatever Python reads as an object never seemed dead."""
    said = text(raw)
    alive = JsonPrefix().feed(said)
    parse_call(said)
    try:
        whole = isinstance(json.loads(said), dict)
    except (ValueError, RecursionError):
        whole = False
    assert alive or not whole
    if not alive:
        raise Dead


def _ready() -> bytes:
    return json_of({"address": "127.0.0.1:4000", "development_root": promises.PUBLIC, "model_id": "m@1", "pid": 1})


def _call() -> bytes:
    return b'{"intent": "light_on", "slots": {"room": [1e5, null, "\\u00e9"]}}'


def _promise() -> bytes:
    return promises.PROMISE.encode()


def _audit() -> bytes:
    return json_of(Audit(0.05, 0.05).to_dict())


TARGETS = (
    Target("certificate.signed", fixed(_body, changed_json), signed, (CertificateError,)),
    Target("certificate.text", fixed(_promise), lambda raw: verify(text(raw), promises.PUBLIC), (CertificateError,)),
    Target("ready_file", fixed(_ready, changed_json), lambda raw: read_ready(written("ready", raw)), (CloudUnavailable,)),
    Target("router", fixed(router, changed_router), route, (ModelError,)),
    Target("ledger.audit", fixed(_audit, changed_json), audit_state, (OutputError,), quotes=True),
    Target("ledger.file", fixed(ledger_file), ledger, (OutputError,)),
    Target("json_so_far", fixed(_call, changed_json), json_so_far, (Dead,)),
)
