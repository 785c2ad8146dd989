"""Joules a token: what a real meter showed of one model on this machine, for when it has no meter to read. An estimate, and called one.

Linear in the tokens read and the tokens written, the first terms of the models of Wilkins et al. (2024, arXiv:2407.04014); how far that was
off here stands in the file. The meter counts all that the machine did meanwhile, its idle draw included, as it does when it measures a
request. Knows nothing of models.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from leanto.clock import Clock
from leanto.errors import OutputError, UserError
from leanto.signals.energy import Meter
from leanto.state import state_folder

VERSION = 1

_log = logging.getLogger("leanto")


@dataclass(frozen=True, slots=True)
class Sample:
    """What some generations took together."""

    prompt_tokens: int
    answer_tokens: int
    joules: float


@dataclass(frozen=True, slots=True)
class TokenEnergy:
    """Of the edge build `build_hash`, fitted by the meter `source`; `error` is how far it was off its samples in the mean (0.1: 10 %)."""

    build_hash: str
    source: str
    prompt_token_j: float
    answer_token_j: float
    error: float

    def joules(self, prompt_tokens: int, answer_tokens: int) -> float:
        """For a prompt read and an answer written."""
        return prompt_tokens * self.prompt_token_j + answer_tokens * self.answer_token_j


def measure(meter: Meter, generate: Callable[[], tuple[int, int]], *, seconds: float, clock: Clock) -> Sample:
    """`generate`, which returns the tokens it read and wrote, again and again for so long. Raises UserError where the meter gives out."""
    generate()  # what only the first one does is not measured
    start_j, began = meter.read_j(), clock.monotonic()
    read = written = 0
    while clock.monotonic() - began < seconds:
        prompt, answer = generate()
        read, written = read + prompt, written + answer
        meter.read_j()  # a battery's power is added up from reading to reading
    spent_j = meter.since_j(start_j)
    if spent_j is None or not spent_j > 0:
        longer = f"give it longer, --seconds {4 * seconds:g}"
        raise UserError(f"the meter ({meter.source}) showed nothing: is the machine plugged in by now? else {longer}")
    return Sample(read, written, spent_j)


def fit(build_hash: str, source: str, samples: Sequence[Sample]) -> TokenEnergy:
    """Least squares of the relative errors, neither coefficient below zero. Raises UserError where the samples tell them apart no more than
    they agree."""
    rows = [(sample.prompt_tokens / sample.joules, sample.answer_tokens / sample.joules) for sample in samples]
    pp, pa, aa = (math.fsum(x[i] * x[j] for x in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    p, a = (math.fsum(x[i] for x in rows) for i in (0, 1))
    determinant = pp * aa - pa * pa
    if not determinant > 1e-9 * pp * aa:
        raise UserError("the prompts and the answers were all of one proportion: nothing tells the two apart")
    prompt_j, answer_j = (p * aa - a * pa) / determinant, (a * pp - p * pa) / determinant
    if prompt_j < 0:
        prompt_j, answer_j = 0.0, a / aa
    elif answer_j < 0:
        prompt_j, answer_j = p / pp, 0.0
    error = math.fsum(abs(x * prompt_j + y * answer_j - 1) for x, y in rows) / len(rows)
    return TokenEnergy(build_hash, source, prompt_j, answer_j, error)


def file_name(build_hash: str) -> str:
    """In the user's state folder."""
    return f"energy-{build_hash[:16]}.json"


def write(path: str | Path, found: TokenEnergy) -> None:
    """Raises OutputError."""
    try:
        Path(path).write_text(json.dumps({"version": VERSION, **asdict(found)}) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}", path=str(path)) from None


def own(build_hash: str) -> TokenEnergy | None:
    """The user's own, if there is one that can be used."""
    folder = state_folder()
    if folder is None or not (folder / file_name(build_hash)).is_file():
        return None
    try:
        return read(folder / file_name(build_hash), build_hash)
    except UserError as error:
        _log.warning("energy is estimated by CPU seconds: %s", error)
        return None


def read(path: str | Path, build_hash: str) -> TokenEnergy:
    """The file at `path`. Raises UserError for one that is no such file, or of another build."""
    again = "run `leanto bench energy`"
    try:
        written = json.loads(Path(path).read_bytes())
        found = TokenEnergy(**{field.name: written[field.name] for field in fields(TokenEnergy)})
        numbers = (found.prompt_token_j, found.answer_token_j, found.error)
        if written["version"] != VERSION or not all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers):
            raise ValueError
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}; {again}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: is no file of joules a token; {again}") from None
    if found.build_hash != build_hash:
        raise UserError(f"{path}: is of another model (build {str(found.build_hash)[:12]}); {again} for this one")
    return found
