"""Reads an answer of /chat with httpx-sse; prints, as JSON, the text and the names of events."""

import json
import sys

import httpx
from httpx_sse import connect_sse

_, url, body = sys.argv
names, texts = [], []
with (
    httpx.Client(timeout=60, trust_env=False) as client,
    connect_sse(client, "POST", url, content=body, headers={"Content-Type": "application/json"}) as source,
):
    for event in source.iter_sse():
        if event.event == "message":
            texts.append(event.data)
        else:
            names.append(event.event)
sys.stdout.write(json.dumps({"text": "".join(texts), "names": names}) + "\n")
