from __future__ import annotations

import base64
from typing import TYPE_CHECKING, cast

import pytest
from playwright.async_api import expect

from mcp_server_claude.simulator import directive

if TYPE_CHECKING:
    from support.browser.page_driver import PageDriver
    from support.browser.page_server import PageServer

pytestmark = pytest.mark.anyio

PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 3 3]>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""
CARRY = """
([name, type, data]) => {
  const carried = new DataTransfer()
  carried.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, { type }))
  return carried
}
"""
PICK_TOO_LARGE_FILE = """
picker => {
  const picked = new DataTransfer()
  picked.items.add(new File([new Uint8Array(30_000_001).fill(120)], 'huge.txt'))
  picker.files = picked.files
  picker.dispatchEvent(new Event('change', { bubbles: true }))
}
"""
PASTE = """
clipboardData => document.querySelector('#question').dispatchEvent(new ClipboardEvent('paste', { clipboardData }))
"""


async def carried(reader: PageDriver, name: str, data: bytes, media_type: str = "") -> object:
    """A file as a browser hands it over when it is dropped or pasted."""
    given = [name, media_type, base64.b64encode(data).decode()]
    return await reader.page.evaluate_handle(CARRY, given)


def last_content(site: PageServer) -> list[dict[str, object]]:
    """The content blocks of the last question that came to the upstream."""
    body = cast("dict[str, list[dict[str, object]]]", site.upstream_prompts()[-1].body)
    return cast("list[dict[str, object]]", body["messages"][-1]["content"])


async def test_a_dropped_pdf_is_sent_to_claude(ada: PageDriver, site: PageServer) -> None:
    file = await carried(ada, "contract.pdf", PDF, "application/pdf")
    await ada.page.dispatch_event("body", "dragenter", {"dataTransfer": file})
    await expect(ada.page.get_by_text("Drop to attach")).to_be_visible()
    await ada.page.dispatch_event("body", "drop", {"dataTransfer": file})
    await expect(ada.page.get_by_text("Drop to attach")).to_be_hidden()
    await expect(ada.page.locator("#files")).to_contain_text("contract.pdf")
    await ada.ask(f"Odd clauses? {directive(tokens=10)}")
    await ada.wait_until_complete()
    assert "contract.pdf" in str(last_content(site))
    documents = [block for block in last_content(site) if block["type"] == "document"]
    assert len(documents) == 1
    assert base64.b64encode(PDF).decode() in str(documents)
    await expect(ada.page.locator(".turn.user")).to_contain_text("contract.pdf")
    await ada.page.reload()
    await expect(ada.page.locator(".turn.user .file")).to_contain_text("contract.pdf")


@pytest.mark.slow
async def test_files_can_be_pasted_picked_and_removed(ada: PageDriver, site: PageServer) -> None:
    pasted = await carried(ada, "trace.weird", "Zeile ä\n".encode())
    await ada.page.evaluate(PASTE, pasted)
    await ada.attach(("b.py", b"print()"))
    await ada.attach(("c.txt", b"secret"))
    await ada.page.get_by_role("button", name="Remove c.txt").click()
    await expect(ada.page.locator("#files .file")).to_have_count(2)
    await expect(ada.question).to_be_focused()
    await ada.page.get_by_role("button", name="Send").click()
    await ada.wait_until_complete()
    assert "Zeile ä" in str(last_content(site))
    assert "print()" in str(last_content(site))
    assert "secret" not in str(last_content(site))
    await expect(ada.page.locator("#files .file")).to_have_count(0)


async def test_text_pasted_from_a_document_is_text_and_not_its_picture(ada: PageDriver) -> None:
    pasted = await carried(ada, "sheet.png", b"\x89PNG", "image/png")
    types = "carried => { for (const type of ['text/plain', 'text/html']) carried.setData(type, 'x') ; return carried }"
    await ada.page.evaluate(PASTE, await ada.page.evaluate_handle(types, pasted))
    await ada.attach(("after.txt", b"x"))
    await expect(ada.page.locator("#files .file")).to_have_count(1)


@pytest.mark.slow
async def test_a_file_that_is_still_being_read_is_sent_with_the_question(ada: PageDriver, site: PageServer) -> None:
    await ada.question.fill(f"Long? {directive(tokens=10)}")
    await ada.page.set_input_files("#picker", [{"name": "large.txt", "mimeType": "", "buffer": b"word " * 500_000}])
    await ada.question.press("Enter")
    await expect(ada.answers).to_have_count(1)
    await ada.wait_until_complete()
    await expect(ada.page.locator(".turn.user .file")).to_contain_text("large.txt")
    assert "large.txt" in str(last_content(site))


@pytest.mark.slow
async def test_unsupported_files_are_rejected_before_they_are_sent(ada: PageDriver) -> None:
    page, rejected = ada.page, ada.page.locator("#rejected")
    for name, data, reason in (
        ("doc.docx", b"PK\x03\x04" + bytes(40), "“doc.docx” cannot be sent: Claude reads text, PDF"),
        ("x.exe", b"MZ\0\xff\xfe", "“x.exe” cannot be sent"),
        ("nothing.txt", b"", "“nothing.txt” is empty."),
    ):
        await page.set_input_files("#picker", [{"name": name, "mimeType": "", "buffer": data}])
        await expect(rejected).to_contain_text(reason)
        await expect(page.locator("#files .file")).to_have_count(0)
    await page.locator("#picker").evaluate(PICK_TOO_LARGE_FILE)
    await expect(rejected).to_contain_text("“huge.txt” is 30 MB. At most 30 MB can be sent.")
    await expect(page.locator("#files .file")).to_have_count(0)
    await ada.attach(("utf16.txt", "Zeile ä".encode("utf-16")), ("latin.txt", "déjà vu à café".encode("cp1252")))
    await expect(rejected).to_be_hidden()


@pytest.mark.slow
async def test_no_more_files_are_attached_than_can_be_sent_and_their_list_scrolls(ada: PageDriver) -> None:
    page = ada.page
    files = [{"name": f"{n}.txt", "mimeType": "", "buffer": b"x"} for n in range(130)]
    await page.set_input_files("#picker", files)  # pyright: ignore[reportArgumentType] - plain dicts
    await expect(page.locator("#files .file")).to_have_count(100)
    await expect(page.locator("#rejected")).to_contain_text("a message can have 100 files at most")
    await expect(page.locator("#rejected")).to_contain_text("27 more files were not attached.")
    await expect(ada.question).to_be_in_viewport(ratio=1)
    await expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
    assert await page.evaluate("() => document.documentElement.scrollHeight <= innerHeight")


@pytest.mark.slow
async def test_a_file_that_the_server_rejects_is_restored_to_the_form(ada: PageDriver) -> None:
    ada.monitor.expect_message("400|415|422")
    await ada.attach(("noise.bin", bytes([0x81, 0x8D, 0x8F, 0x90, 0x9D]) * 50))
    await ada.ask("Run it.")
    await expect(ada.note).to_contain_text("noise.bin")
    await ada.note.get_by_role("button", name="Edit").click()
    await expect(ada.page.locator("#files")).to_contain_text("noise.bin")
    await expect(ada.question).to_have_value("Run it.")
