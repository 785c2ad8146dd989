"""A conversation: each turn of the story sees the ones before it.

python examples/chat.py
"""

from __future__ import annotations

import asyncio

from leanto import AsyncClient, TextEvent


async def main() -> None:
    async with AsyncClient() as client:
        chat = client.chat(task="text")
        for prompt in ("Once upon a time there was a shy dragon.", "One day the dragon met a girl.", "In the end"):
            print(f"\n> {prompt}")
            async for event in chat.stream(prompt, max_tokens=40):
                if isinstance(event, TextEvent):
                    print(event.text, end="", flush=True)
        print(f"\n{len(chat.turns)} turns")


if __name__ == "__main__":
    asyncio.run(main())
