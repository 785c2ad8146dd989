"""A back end of an app, as plain ASGI: POST a command, get the answer, and in the headers why it came from where it came from.

python examples/backend.py asks it once; any ASGI server serves it: uvicorn --app-dir examples backend:app
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from leanto import AsyncClient, LeantoError
from leanto.trace import headers

client = AsyncClient(log=None)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more and len(body) < 1 << 16:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    private = (b"x-private", b"yes") in scope["headers"]
    try:
        reply = await client.ask(body.decode("utf-8", "replace"), private=private)
        status, text, decision = 200, reply.text, reply.decision
    except LeantoError as error:
        status, text, decision = 422 if error.decision is None else 503, json.dumps({"error": str(error)}), error.decision
    told = [(name.encode(), value.encode()) for name, value in (headers(decision) if decision else {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json"), *told]})
    await send({"type": "http.response.body", "body": text.encode()})


async def main() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"wake me at half past six on weekdays"}

    async def send(message: dict[str, Any]) -> None:
        for name, value in message.get("headers", []):
            print(f"{name.decode()}: {value.decode()}")
        print(message.get("body", b"").decode())

    await app({"type": "http", "headers": [(b"x-private", b"yes")]}, receive, send)
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
