"""What has reached the simulator, for clients that receive nothing while a call runs."""

import asyncio
import json
import urllib.request


async def wait_for_request(simulator: str, mark: str) -> None:
    """Wait until a request whose body holds `mark` has reached the simulator."""

    def read() -> list[dict[str, object]]:
        with urllib.request.urlopen(f"{simulator}/_simulator/requests") as response:  # noqa: S310 - a loopback URL
            return json.load(response)

    while not any(mark in json.dumps(each["body"]) for each in await asyncio.to_thread(read)):
        await asyncio.sleep(0.1)
