"""How long the chat page takes to draw: answers that stream in, and texts that are slow on purpose. Needs Chromium.

    python benchmarks/rendering.py

A stream is a hundred characters a frame; `script` and `layout` are the CPU seconds that Chromium itself counts, `wall`
is bound by the frame rate. A text that is slow on purpose is drawn at once, and again in pieces.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict, cast

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import sync_playwright

from mcp_server_claude.web.middleware import security
from mcp_server_claude.web.routes import pages

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Browser, CDPSession, Page

CHROMIUM = "/usr/bin/chromium"
MIXED_MARKDOWN = """\
## A heading

A paragraph with **bold**, *slanted*, `code` and a [link](https://example.org/), long enough to be broken into lines.

- a list
- of three
  - and one below

| a | b |
| --- | --- |
| 1 | 2 |

```python
def f(x: int) -> str:  # a comment
    return f"{x}" + str(None)
```

"""
STREAMS = {
    "100 kB, mixed": MIXED_MARKDOWN * (100_000 // len(MIXED_MARKDOWN)),
    "60 kB in one fence": "```python\n" + "print('x' * 3)  # again\n" * 2500 + "```\n",
    "50 kB in one list": "- a point with **weight** and `code`\n" * 1400,
    "50 kB in one paragraph": "words and *more* words, " * 2100,
}
HOSTILE_MARKDOWN = {
    "_a* x 10,000": "_a*" * 10_000,
    "> x 5,000": ">" * 5_000,
    "* x 10,000 a * x 10,000": "*" * 10_000 + "a" + "*" * 10_000,
    "[ x 10,000": "[" * 10_000,
    "bullets 400 deep": "\n".join(" " * 2 * n + "- a" for n in range(400)),
    "` of every length": "".join("a" + "`" * n for n in range(300)),
    "a table of 300 columns": "|" + "a|" * 300 + "\n|" + "-|" * 300 + "\n" + ("|" + "b|" * 300 + "\n") * 30,
    "2,000 half links": "[a](b" * 2_000,
}
PREPARE_SCRIPT = """
async () => {
  const scripts = document.querySelector('script[type=module]').src
  Object.assign(globalThis, await import(scripts.replace('chat.js', 'markdown.js')))
}
"""
STREAM_SCRIPT = """
async text => {
  const root = document.createElement('div')
  root.className = 'read'
  document.querySelector('#trouble').replaceChildren(root)
  const growing = new StreamingMarkdown(root)
  for (let at = 0; at < text.length; at += 100) {
    growing.write(text.slice(at, at + 100))
    await new Promise(requestAnimationFrame)
  }
  growing.end()
}
"""
RENDER_SCRIPT = """
([text, pieces]) => {
  const root = document.createElement('div')
  document.querySelector('#trouble').replaceChildren(root)
  const growing = new StreamingMarkdown(root), began = performance.now(), each = Math.ceil(text.length / pieces)
  let longest = 0
  for (let at = 0; at < text.length; at += each) {
    const before = performance.now()
    growing.write(text.slice(at, at + each))
    growing.draw()
    longest = Math.max(longest, performance.now() - before)
  }
  growing.end()
  return [performance.now() - began, longest]
}
"""


class Metric(TypedDict):
    """One of Chromium's counters; durations are in seconds."""

    name: str
    value: float


def main() -> None:
    """Measure and print."""
    with serve_pages() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        print(f"{'streamed':26}{'wall s':>8}{'script':>8}{'layout':>8}")
        for name, text in STREAMS.items():
            with open_page(browser, url) as page:
                print(f"{name:26}" + "".join(f"{value:8.2f}" for value in measure_streaming(page, text)))
        print(f"\n{'slow on purpose':26}{'once ms':>8}{'in 20':>8}{'longest':>8}")
        for name, text in HOSTILE_MARKDOWN.items():
            with open_page(browser, url) as page:
                whole, _ = measure_rendering(page, text, 1)
                total, longest = measure_rendering(page, text, 20)
                print(f"{name:26}{whole:8.0f}{total:8.0f}{longest:8.0f}")
        browser.close()


@contextmanager
def open_page(browser: Browser, url: str) -> Generator[Page]:
    """A page of its own, with the modules at hand."""
    page = browser.new_page()
    page.goto(url)
    page.evaluate(PREPARE_SCRIPT)
    yield page
    page.close()


def measure_streaming(page: Page, text: str) -> tuple[float, float, float]:
    """Seconds of wall time, script, and layout with styles."""
    session = page.context.new_cdp_session(page)
    _send(session, "Performance.enable")
    before = read_counters(session)
    page.evaluate(STREAM_SCRIPT, text)
    spent = {name: value - before[name] for name, value in read_counters(session).items()}
    return spent["Timestamp"], spent["ScriptDuration"], spent["LayoutDuration"] + spent["RecalcStyleDuration"]


def measure_rendering(page: Page, text: str, pieces: int) -> tuple[float, float]:
    """Milliseconds for all of a text in so many pieces, and for the longest of them."""
    total, longest = cast("tuple[float, float]", page.evaluate(RENDER_SCRIPT, [text, pieces]))
    return total, longest


def read_counters(session: CDPSession) -> dict[str, float]:
    """Chromium's counters."""
    return {metric["name"]: metric["value"] for metric in _send(session, "Performance.getMetrics")["metrics"]}


def _send(session: CDPSession, method: str) -> dict[str, list[Metric]]:
    return cast("dict[str, list[Metric]]", session.send(method))  # pyright: ignore[reportUnknownMemberType] - a bare dict


@contextmanager
def serve_pages() -> Generator[str]:
    """The pages alone, under their policy; what they ask the server for is not there."""
    app = FastAPI()
    app.include_router(pages.router)
    app.add_middleware(
        security.SecurityMiddleware, allowed=security.AllowedHosts.for_server("127.0.0.1"), max_body_bytes=1
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        threading.Event().wait(0.02)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}/"
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
