"""The bill of the simulator, against amounts computed by hand from the documented prices."""

from __future__ import annotations

from decimal import Decimal

import pytest

from mcp_server_claude.simulator import LoggedRequest
from mcp_server_claude.simulator.billing import bill_requests


def logged(model: str = "claude-sonnet-5-5", **fields: object) -> LoggedRequest:
    request = LoggedRequest(
        sequence=1,
        request_id="req_1",
        method="POST",
        path="/v1/messages",
        credential_header="bearer",
        headers={},
        arrived_at=0.0,
        status=200,
        model=model,
        stop_reason="end_turn",
    )
    for name, value in fields.items():
        setattr(request, name, value)
    return request


@pytest.mark.parametrize(
    ("request_log", "usd"),
    [
        (logged(input_tokens=1_000_000, visible_chars=4_000_000), "12"),
        (logged(input_tokens=1_000_000, inference_geo="us"), "2.2"),
        (logged(cache_read_input_tokens=1_000_000), "0.10"),
        (logged(cache_creation_input_tokens=1_000_000), "2.5"),
        (logged(cache_creation_input_tokens=1_000_000, cache_creation_1h_input_tokens=1_000_000), "4"),
        (logged(web_searches=3), "0.03"),
        (logged("claude-haiku-5-5", input_tokens=100_000), "0.01"),
        (logged("claude-haiku-5-5", input_tokens=200_000), "0.1"),
        (logged(input_tokens=1_000_000, stop_reason="refusal"), "0"),
        (logged(input_tokens=1_000_000, stop_reason="refusal", refusal_category="cyber"), "0"),
        (logged(input_tokens=1_000_000, stop_reason="refusal", refusal_category="bio"), "2"),
        (logged(input_tokens=1_000_000, stop_reason="refusal", thinking_chars=4_000_000), "12"),
    ],
)
def test_a_request_costs_what_the_documented_rules_state(request_log: LoggedRequest, usd: str) -> None:
    (billed,) = bill_requests([request_log])

    assert billed.usd == Decimal(usd)


def test_requests_that_were_not_answered_cost_nothing() -> None:
    assert bill_requests([logged(status=529), logged(path="/v1/messages/count_tokens")]) == []
