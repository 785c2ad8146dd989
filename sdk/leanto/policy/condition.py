"""The condition of a rule: one CEL expression over a few documented variables, checked when the policy is read, without side effects.

A condition always ends, and soon: CEL has no loops, its comprehensions and regular expressions are not taken, and nothing is long or deep.
A signal that no source could tell is left out of the evaluation, not passed as null: then CEL's own `&&`, `||` and `?:` find what does not
depend on it, and all else has no value. Knows nothing of rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leanto.decision import Value

if TYPE_CHECKING:
    from cel import Program

MAX_CHARS = 500
VARIABLES: Mapping[str, tuple[Value, str]] = {  # name → (an example, what it is)
    "task": ("text", '"call" or "text"'),
    "privacy": ("personal", "the class of the request"),
    "prompt_tokens": (100, "counted by the edge's tokenizer"),
    "context_length": (512, "of the edge model"),
    "edge_fit": (True, "whether the edge model survived its compression"),
    "battery_percent": (80.0, "charge"),
    "plugged": (True, "whether the device draws from the mains"),
    "cpu_load": (0.5, "run queue per CPU"),
    "memory_available_bytes": (2**30, "free memory"),
    "temperature_c": (50.0, "the hottest sensor"),
    "link": ("up", '"up", "down" or "unknown"'),
    "battery_power_w": (5.0, "watts drawn from the battery"),
    "memory_pressure": (0.0, "share of the last ten seconds in which something waited for memory"),
    "throttled": (False, "whether a part is so hot that the machine slows down"),
    "metered": (False, "whether bytes cost money on this link, where the application says so"),
    "rtt_ms": (40.0, "time to the cloud and back, as seen lately"),
    "bytes_sent": (0, "sealed bytes sent by this client"),
}
FUNCTIONS = {"contains", "endsWith", "size", "startsWith"}
_WORDS = {*VARIABLES, *FUNCTIONS, "true", "false", "null", "in"}
_LOOPS = {"all", "exists", "exists_one", "existsOne", "map", "filter"}
_UNKNOWN = "unknown"  # the names of the signals that no source could tell; what stands for `plugged == null`. Not a word of the language
_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
    |(?P<odd>'''|\"\"\"|\b[rRbB]{1,2}(?=['"]))
    |'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"
    |(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)[uU]?
    |\w+|&&|\|\||[=!<>]=|.""",
    re.VERBOSE | re.DOTALL,
)
_OPENS, _CLOSES = {"", "(", "[", ",", "&&", "||", "?", ":"}, {"", ")", "]", ",", "&&", "||", "?", ":"}


def compiled(condition: str) -> Program:
    """The condition, parsed. Raises ValueError saying what is wrong and what is allowed."""
    if len(condition) > MAX_CHARS:
        raise ValueError(f"is longer than {MAX_CHARS} characters; split it into several rules")
    program, written = _parsed(condition), tokens(condition)
    for word in written:
        if word in _LOOPS:
            raise ValueError(f"uses {word!r}, a comprehension; conditions compare values, they do not loop")
        if word.isidentifier() and word not in _WORDS:
            raise ValueError(f"does not know {word!r}; allowed: {', '.join([*VARIABLES, *sorted(FUNCTIONS)])}")
    if (asked := _asked(written)) != written:
        program = _parsed(" ".join(asked))
    try:
        example = program.execute(context({name: value for name, (value, _) in VARIABLES.items()}))
    except Exception as error:  # CEL's errors are many
        raise ValueError(f"cannot be evaluated: {str(error).splitlines()[0].split('. ')[0]}") from None
    if not isinstance(example, bool):
        raise ValueError("is not true or false")
    return program


def context(values: Mapping[str, Value]) -> Any:
    """The variables of one decision, ready for any number of conditions; None is what no source could tell."""
    from cel import Context

    known: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    known[_UNKNOWN] = [name for name in values if name not in known]
    return Context(variables=known)


def evaluate(program: Program, values: Any) -> bool | None:
    """The condition's value in a context made by `context`; None where it has none. Never raises."""
    try:
        found = program.execute(values)
    except Exception:  # whatever it is, there is no value
        return None
    return found if isinstance(found, bool) else None


def variables(condition: str) -> set[str]:
    """Those that a checked condition names."""
    return {word for word in tokens(condition) if word in VARIABLES}


def tokens(condition: str) -> list[str]:
    """The words, texts and signs of a condition that CEL can parse, without blanks and comments. Raises ValueError."""
    found = []
    for match in _TOKEN.finditer(condition):
        if match["odd"]:
            raise ValueError("writes a text with a prefix or three quotes; write 'text' or \"text\"")
        if not match["skip"]:
            found.append(match[0])
    return found


def _asked(written: list[str]) -> list[str]:
    """The same with `NAME == null` and `NAME != null` as questions about what is unknown. Raises ValueError for any other null."""
    found: list[str] = []
    at, padded = 0, [*written, "", "", ""]
    while at < len(written):
        three = padded[at : at + 3]
        name = next((word for word in (three[0], three[2]) if word in VARIABLES), None)
        alone = (found[-1] if found else "") in _OPENS and padded[at + 3] in _CLOSES
        if name and alone and "null" in three and three[1] in ("==", "!="):
            found += [*(["!"] if three[1] == "!=" else []), "(", f"'{name}'", "in", _UNKNOWN, ")"]
            at += 3
        else:
            found.append(written[at])
            at += 1
    if "null" in found:
        raise ValueError("compares null with something else than a variable alone; write (battery_percent == null)")
    return found


def _parsed(condition: str) -> Program:
    from cel import compile as parse

    try:
        return parse(condition)
    except ValueError as error:
        said = str(error).partition("ERROR: ")[2] or str(error)
        why = "it is nested too deeply" if "Recursion limit" in said else said.splitlines()[0]
        raise ValueError(f"is not CEL: {why}") from None
