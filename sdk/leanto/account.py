"""What a client spends: each call of the cloud is reserved before it is made, at what it may cost at most, and settled once it is known.

Knows nothing of how an answer comes about.
"""

from __future__ import annotations

from leanto.decision import Spent
from leanto.errors import BudgetSpent
from leanto.ledger import Ledger, Spending
from leanto.policy import Policy
from leanto.policy.budgets import affords
from leanto.record import Situation, price

SEALED_BYTES = 1600  # a sealed request without its prompt, and the request for evidence: docs/wire.md, Frames


class Account:
    """Of one client. Belongs to one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self.bytes_sent = 0
        self.ledger = ledger

    def spent(self) -> Spent:
        """What was spent so far, what is only reserved included."""
        return Spent(self.bytes_sent, self.ledger.last_day())

    def reserve(self, policy: Policy, *, bytes_sent: int, usd: float) -> int | None:
        """One more call of the cloud, written down; the ledger's entry to settle. Raises BudgetSpent where a budget is used up by now."""

        def fits(day: Spending) -> bool:
            return affords(policy, Spent(self.bytes_sent, day))

        day, entry = self.ledger.reserve(fits, bytes_sent=bytes_sent, usd=usd)
        if not fits(day):
            raise BudgetSpent(Spent(self.bytes_sent, day))
        self.bytes_sent += bytes_sent
        return entry

    def settle(self, *, bytes_sent: int, usd: float, joules: float, entry: int | None) -> None:
        """What it was more, or less, than was reserved."""
        self.bytes_sent += bytes_sent
        self.ledger.add(bytes_sent=bytes_sent, usd=usd, entry=entry)
        self.ledger.add(joules=joules)


class Tab:
    """What one request costs: any number of calls, settled together."""

    def __init__(self, account: Account, seen: Situation) -> None:
        self._account = account
        self._policy = seen.policy
        self._bytes_sent = SEALED_BYTES + len(seen.request.prompt.encode())
        self._usd = price(seen.policy, seen.facts.prompt_tokens, seen.request.max_tokens)
        self._calls = 0
        self._entry: int | None = None

    def reserve(self) -> None:
        """Before a call. Raises BudgetSpent."""
        self._entry = self._account.reserve(self._policy, bytes_sent=self._bytes_sent, usd=self._usd)
        self._calls += 1

    def settle(self, bytes_sent: int, usd: float, joules: float = 0.0) -> None:
        """Once, with what all of it came to."""
        over_bytes, over_usd = bytes_sent - self._calls * self._bytes_sent, usd - self._calls * self._usd
        self._account.settle(bytes_sent=over_bytes, usd=over_usd, joules=joules, entry=self._entry)
