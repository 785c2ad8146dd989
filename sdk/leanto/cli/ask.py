"""`leanto ask` answers one prompt; `leanto explain` says what would be decided and spends no token."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from leanto.cli.options import add_client, add_request, open_client, read_prompt, request_arguments
from leanto.client import Client
from leanto.events import FinalEvent, HandoffEvent, Reply, RestartEvent, TextEvent


def add(commands: Any) -> None:
    """Add both commands."""
    ask = commands.add_parser("ask", help="answer one prompt", description="The answer on stdout, how it came on stderr.")
    add_request(ask)
    add_client(ask)
    ask.add_argument("--stream", action="store_true", help="show text as it comes")
    ask.add_argument("--explain", action="store_true", help="show every check of the decision (stderr)")
    ask.add_argument("--json", action="store_true", help="one JSON object; with --stream one a line for each event")
    ask.add_argument("--max-tokens", type=int, default=128, metavar="N", help="longest answer (default: 128)")
    ask.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (default: 0)")
    ask.add_argument("--seed", type=int, metavar="N", help="of the sampling, for T > 0")
    ask.set_defaults(run=run_ask)
    explain = commands.add_parser("explain", help="what would be decided now", description="Every check, before a token is spent.")
    add_request(explain)
    add_client(explain)
    explain.add_argument("--json", action="store_true", help="the record as JSON")
    explain.set_defaults(run=run_explain)


def run_ask(options: argparse.Namespace) -> int:
    """Exit code 0 once answered."""
    prompt = read_prompt(options)
    with open_client(options) as client:
        sampling = {"max_tokens": options.max_tokens, "temperature": options.temperature, "seed": options.seed}
        arguments = {**request_arguments(options), **sampling}
        reply = _stream(client, prompt, options, arguments) if options.stream else client.ask(prompt, **arguments)
    if options.json and not options.stream:
        print(json.dumps(reply.to_dict(), ensure_ascii=False))
    elif not options.json:
        print("" if options.stream else reply.text)
        sys.stdout.flush()
        print(reply.decision.explain() if options.explain else status(reply), file=sys.stderr)
    return 0


def run_explain(options: argparse.Namespace) -> int:
    """Exit code 0; a request without any route is explained too."""
    prompt = read_prompt(options)
    with open_client(options) as client:
        decision = client.explain(prompt, **request_arguments(options))
    print(json.dumps(decision.to_dict(), ensure_ascii=False) if options.json else decision.explain())
    return 0


def status(reply: Reply) -> str:
    """How the answer came about, in one line."""
    confidence = "" if reply.confidence is None else f" · confidence {reply.confidence:.2f}"
    energy = "n/a" if reply.energy_j is None else f"{reply.energy_j:.2f} J ({reply.decision.energy_source})"
    return f"[{reply.route} · {reply.decision.label or 'answered'}{confidence} · {reply.latency_ms:.0f} ms · energy {energy}]"


def _stream(client: Client, prompt: str, options: argparse.Namespace, arguments: dict[str, Any]) -> Reply:
    reply: Reply | None = None
    events = client.stream(prompt, **arguments)
    try:
        for event in events:
            if options.json:
                print(json.dumps(_event_record(event), ensure_ascii=False), flush=True)
            elif isinstance(event, TextEvent):
                print(event.text, end="", flush=True)
            elif isinstance(event, RestartEvent):
                print("\n[the cloud begins the answer anew]", file=sys.stderr)
            if isinstance(event, FinalEvent):
                reply = event.reply
    except BaseException:
        print(flush=True)  # what follows, an error or a prompt, gets a line of its own
        raise
    finally:
        events.close()
    assert reply is not None  # a stream ends in FinalEvent or raises
    return reply


def _event_record(event: object) -> dict[str, Any]:
    match event:
        case TextEvent():
            return {"event": "text", "text": event.text, "source": event.source}
        case HandoffEvent():
            names = {"reason": event.reason, "from": event.source, "to": event.target}
            return {"event": "handoff", **names, "visible_chars": event.visible_chars}
        case RestartEvent():
            return {"event": "restart", "dropped_chars": event.dropped_chars}
        case FinalEvent():
            return {"event": "final", **event.reply.to_dict()}
        case _:
            raise AssertionError(f"unknown event {event!r}")
