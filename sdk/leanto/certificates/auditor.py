"""Asks a consented sample of certified local answers again in the cloud, and writes down whether the two disagree: see `audit`.

It works beside the request, after its answer. An audit that fails says nothing, and costs the caller nothing but what was sent.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from leanto.certificates.agreement import DISAGREEMENT, same
from leanto.decision import Check, Promise, Target
from leanto.errors import LeantoError
from leanto.ledger import Ledger
from leanto.policy.schema import SECRET, CloudTarget
from leanto.policy.verdict import CLOUD, LOCAL
from leanto.record import Situation, price
from leanto.remote import remote_request

if TYPE_CHECKING:
    from leanto.cascade import Cascade
    from leanto.remote.leg import CloudLeg

PATIENCE_S = 5.0  # for what is still under way when the client closes

_log = logging.getLogger("leanto")


def never(seen: Situation, allowed: tuple[Target, ...]) -> Check | None:
    """What speaks against an audit before there is an answer; None: it depends on that."""
    audit, privacy = seen.policy.audit, seen.request.privacy
    if not audit.share:
        return Check("audit", "share", 0.0, None, "skipped", allowed, "the policy has nothing asked again", "> 0")
    if privacy not in audit.classes or privacy == SECRET:
        consented = ", ".join(audit.classes)
        return Check("audit", "class", privacy, consented, "skipped", allowed, "nobody consented", "a class whose users did")
    return None


def foreseen(seen: Situation, allowed: tuple[Target, ...]) -> Check:
    """Stage 7 before there is an answer."""
    later = Check("audit", "draw", None, seen.policy.audit.share, "pending", allowed, "drawn for a certified answer that stays on the edge")
    return never(seen, allowed) or later


class Auditor:
    """Of one client. `chance` draws from [0, 1)."""

    def __init__(self, ledger: Ledger, *, chance: Callable[[], float] = random.random) -> None:
        self._ledger = ledger
        self._chance = chance
        self._running: set[asyncio.Task[None]] = set()

    def chooses(self, seen: Situation, run: Cascade) -> Check:
        """Stage 7: "pass" where this answer is asked again. It must be consented to, the cloud allowed all along, and the promise one that
        can be watched: of disagreement. An audit that took every disagreement for a worse answer would soon refute a promise that holds.
        """
        allowed, share, event = run.verdict.allowed, seen.policy.audit.share, run.promise.event
        closed = never(seen, allowed)
        if closed is not None:
            return closed
        may_leave = CLOUD in run.verdict.constrained and not run.verdict.offline
        if not (may_leave and run.route == LOCAL and "certified" in run.verdict.labels):
            reason = "only certified answers of the edge are asked again, and where the cloud may see them"
            return Check("audit", "certified", False, True, "skipped", allowed, reason, "such an answer")
        if event != DISAGREEMENT:
            reason = "an audit sees disagreement only"
            return Check("audit", "promise", event, DISAGREEMENT, "skipped", allowed, reason, "a promise of that")
        drawn = self._chance()
        if drawn < share:
            return Check("audit", "draw", drawn, share, "pass", allowed, "asked again in the cloud", f">= {share!r}")
        return Check("audit", "draw", drawn, share, "skipped", allowed, "not in the sample", f"< {share!r}")

    def start(
        self, seen: Situation, answer: str, promise: Promise, open_leg: Callable[[], CloudLeg], spent: Callable[[int, float], None]
    ) -> None:
        """Ask again in the background; `spent` hears of the bytes and US dollars that it took."""
        task = asyncio.get_running_loop().create_task(self._audit(seen, answer, promise, open_leg, spent))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Let what is under way end in a few seconds, then give it up."""
        running = list(self._running)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=PATIENCE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _audit(
        self, seen: Situation, answer: str, promise: Promise, open_leg: Callable[[], CloudLeg], spent: Callable[[int, float], None]
    ) -> None:
        timeout_s = (seen.policy.cloud or CloudTarget()).timeout_ms / 1000
        parts: list[str] = []
        tokens, finished = 0, False
        try:
            call = open_leg().generate(remote_request(seen.request, timeout_s))
            try:
                async with asyncio.timeout(timeout_s), aclosing(call):
                    async for chunk in call:
                        parts.append(chunk.text)
                        tokens += len(chunk.token_ids)
                        finished = chunk.finish_reason is not None
            finally:
                spent(call.bytes_sent, price(seen.policy, seen.facts.prompt_tokens, tokens))
        except (LeantoError, TimeoutError) as error:
            _log.info("an audit failed: %s", type(error).__name__)
            return
        if finished:
            self._write_down(not same(answer, "".join(parts)), promise)

    def _write_down(self, differs: bool, promise: Promise) -> None:
        after = self._ledger.observe(promise.audit, differs, alpha=promise.alpha, delta=promise.delta)
        if after is None:
            _log.warning("audit %s could not be written down: it counts as alarmed from here on", promise.audit)
        elif after.alarmed and differs:
            _log.warning(
                "audit %s: %d of %d answers were other than the cloud's, where at most %.3g was promised; a stricter threshold applies",
                *(promise.audit, after.worse, after.audited, promise.alpha),
            )
