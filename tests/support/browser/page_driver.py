"""A person at the chat page, and an eye on what must never happen there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from playwright.async_api import Locator, Page, expect

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, ConsoleMessage, Dialog, Request

LOG_CSP_VIOLATIONS = """
addEventListener('securitypolicyviolation', event =>
  console.error(`CSP ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`))
"""
EXPECT_TIMEOUT_MS = 60_000
"""A limit that nothing reaches, also where the machine is busy with other things."""
WAIT_FOR_CLIPBOARD = """
async text => {
  while (await navigator.clipboard.readText() !== text) await new Promise(done => setTimeout(done, 20))
}
"""


@dataclass
class PageMonitor:
    """What a page must not do: complain, break its policy, open dialogs, ask anybody but its own server."""

    expected: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    def expect_message(self, pattern: str) -> None:
        """A complaint that belongs to the test, e.g. that the server refuses something."""
        self.expected.append(pattern)

    def attach(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", self._request)

    def check(self) -> None:
        left = [fault for fault in self.problems if not any(re.search(pattern, fault) for pattern in self.expected)]
        assert not left

    def _console(self, message: ConsoleMessage) -> None:
        self.problems.append(f"console {message.type}: {message.text}")

    async def _dialog(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).hostname != "127.0.0.1":
            self.problems.append(f"request: {request.url}")


@dataclass
class PageDriver:
    """A page, and where things are on it."""

    page: Page
    url: str
    monitor: PageMonitor

    @classmethod
    async def open(cls, context: BrowserContext, url: str, watch: PageMonitor) -> PageDriver:
        await context.add_init_script(LOG_CSP_VIOLATIONS)
        page = await context.new_page()
        page.set_default_timeout(EXPECT_TIMEOUT_MS)
        watch.attach(page)
        return cls(page, url, watch)

    @property
    def answers(self) -> Locator:
        return self.page.locator(".turn.answer")

    @property
    def answer(self) -> Locator:
        return self.answers.last

    @property
    def text(self) -> Locator:
        return self.answer.locator(".read")

    @property
    def account(self) -> Locator:
        return self.answer.locator(".account")

    @property
    def note(self) -> Locator:
        return self.answer.locator(".note")

    @property
    def question(self) -> Locator:
        return self.page.get_by_role("textbox", name="Question")

    async def goto(self, path: str = "/") -> None:
        """Go there, and wait until the page is itself."""
        await self.page.goto(self.url + path)
        await expect(self.page.locator("#model option").first).to_be_attached()
        await expect(self.page.locator("#who")).not_to_be_empty()

    async def ask(self, text: str) -> None:
        await self.question.fill(text)
        await self.question.press("Enter")

    async def attach(self, *files: tuple[str, bytes]) -> None:
        """Choose files, by name and content, and wait until they have been read."""
        await self.page.set_input_files(
            "#picker", [{"name": name, "mimeType": "", "buffer": data} for name, data in files]
        )
        for name, _ in files:
            await expect(self.page.locator("#files .file", has_text=name)).to_be_visible()

    async def wait_for_clipboard(self, text: str) -> None:
        """Wait until the clipboard holds exactly this."""
        with anyio.fail_after(EXPECT_TIMEOUT_MS / 1000):
            await self.page.evaluate(WAIT_FOR_CLIPBOARD, text)

    async def wait_until_complete(self) -> None:
        """Wait until no answer grows any more, and the last has its account."""
        await expect(self.account).to_be_visible()
        await expect(self.page.locator("[aria-busy]")).to_have_count(0)

    async def wait_for_chars(self, chars: int = 20) -> None:
        """Wait until so much of the answer is there."""
        await expect(self.text).to_have_text(re.compile(rf"\S[\s\S]{{{chars},}}"))
