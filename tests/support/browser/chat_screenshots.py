"""The pictures in the docs: the real pages, with the simulator behind them. Run it with `scripts/pictures`."""

from __future__ import annotations

import json
import sqlite3
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from playwright.async_api import expect

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.browser.browser_sessions import browser_sessions, launch_chromium
from support.browser.page_server import page_server

if TYPE_CHECKING:
    from support.browser.browser_sessions import BrowserSessions
    from support.browser.page_server import PageServer

IMAGES = Path(__file__).parents[3] / "docs" / "images"
QUESTION = "Our SSE endpoint stalls behind nginx. What should I check, and how do I prove it is fixed?"
EARLIER_THREADS = [  # what was asked, of whom, how many days ago
    ("What does SELECT … FOR UPDATE lock?", "haiku", 9),
    ("Translate the release notes", "sonnet", 6),
    ("Cover letter for the security audit", "opus", 4),
    ("Regex for RFC 3339 dates", "haiku", 3),
    ("Summarise incident 2026-11-14", "opus", 1),
    ("Name three risks in the Q4 plan", "sonnet", 1),
    ("Migration plan: aiosqlite → psycopg 3", "opus", 0),
    ("Review of the retry budget", "fable", 0),
]
ANSWER = """\
The stall is almost always **buffering**, not the network. Work from the outside in, and prove each step.

### 1. See it with your own eyes

Time the bytes, not the request. If every line carries the same timestamp, something is holding them back:

```bash
curl -sN https://example.com/chat -d '{"message": "count to ten"}' \\
  | while IFS= read -r line; do printf '%s %s\\n' "$(date +%T.%3N)" "$line"; done
```

### 2. Turn buffering off where it happens

| Layer | What holds the bytes | Setting |
| :--- | :--- | ---: |
| nginx | `proxy_buffering` (on by default) | `off` |
| gzip | waits for a full block | `no-transform` |
| your app | a middleware that reads the body | remove it |

The server can say it per response, so that nobody has to edit a proxy:

```python
headers = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx obeys this
}
```

### 3. Keep it fixed

1. Add a test that reads through a real nginx and fails when two deltas arrive **within 1 ms** of each other.
2. Watch the time to the *first* chunk, at the 90th percentile; an average hides it.
3. Note the two limits that look like stalls but are not:
   - `proxy_read_timeout 60s` closes a quiet stream, hence the ping;
   - HTTP/1.1 browsers open at most six connections per host.

See the [nginx documentation](https://nginx.org/en/docs/http/ngx_http_proxy_module.html) for the exact rules.
"""
DEFAULTS = directive(text=ANSWER, pace=80, chars=9).removeprefix("[[sim: ").removesuffix("]]")


async def main() -> None:
    """Take every picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        async with (
            Simulator(pace=Pace(ttft_s=0.6), defaults=DEFAULTS) as upstream,
            page_server(folder, upstream, {"ada": "5/day"}) as site,
            launch_chromium() as chromium,
        ):
            if chromium is None:
                sys.exit("There is no Chromium here.")
            async with anyio.create_task_group() as tasks:
                for question, model, _ in EARLIER_THREADS:
                    tasks.start_soon(anyio.to_thread.run_sync, _ask, site, question, model)
            _backdate_threads(folder / "data" / "store.db")
            async with browser_sessions(chromium, site) as sessions:
                await _capture_desktop(sessions)
                await _capture_phone(sessions)
                await _capture_sign_in(sessions)


async def _capture_desktop(sessions: BrowserSessions) -> None:
    reader = await sessions.open_page(color_scheme="light")
    await reader.goto()
    await reader.page.get_by_label("Model").select_option(label="Opus 5.5")
    file = {"name": "nginx.conf", "mimeType": "text/plain", "buffer": b"proxy_buffering on;\n" * 90}
    await reader.page.set_input_files("#picker", [file])  # pyright: ignore[reportArgumentType] - a plain dict
    await reader.ask(QUESTION)
    await expect(reader.text.locator(".hl-string").first).to_be_visible()
    await reader.page.screenshot(path=IMAGES / "chat-streaming.png")
    await reader.wait_until_complete()
    await reader.page.screenshot(path=IMAGES / "chat.png")


async def _capture_phone(sessions: BrowserSessions) -> None:
    reader = await sessions.open_page(
        viewport={"width": 390, "height": 844},
        device_scale_factor=1.5,
        color_scheme="dark",
        is_mobile=True,
        has_touch=True,
    )
    await reader.goto()
    await reader.page.get_by_role("button", name="Threads").click()
    await reader.page.get_by_role("link", name="SSE endpoint").click()
    await expect(reader.text.locator(".hl-string").last).to_be_visible()
    await reader.page.screenshot(path=IMAGES / "chat-phone.png")


async def _capture_sign_in(sessions: BrowserSessions) -> None:
    reader = await sessions.open_page("", viewport={"width": 880, "height": 560})
    await reader.page.goto(f"{reader.url}/signin")
    await reader.page.screenshot(path=IMAGES / "signin.png")


def _ask(site: PageServer, question: str, model: str) -> None:
    """Ask, and wait for the end of the answer."""
    headers = {"Authorization": f"Bearer {site.tokens['ada']}", "Content-Type": "application/json"}
    body = json.dumps({"message": question, "model": model}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{site.url}/chat", body, headers)) as answer:  # noqa: S310 - ours
        answer.read()


def _backdate_threads(store: Path) -> None:
    """Let the earlier threads have been asked on earlier days."""
    with closing(sqlite3.connect(store)) as connection, connection:
        for n, (question, _, days) in enumerate(EARLIER_THREADS):
            ago = 86_400 * days + 600 * (len(EARLIER_THREADS) - n)
            connection.execute("update thread set touched_at = touched_at - ? where head = ?", (ago, question))


if __name__ == "__main__":
    anyio.run(main)
