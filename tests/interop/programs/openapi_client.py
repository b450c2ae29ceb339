"""A client that openapi-python-client has generated: asks, and reads usage and models; prints JSON."""

import json
import sys

from generated import Client
from generated.api.chat import post_chat_chat_post
from generated.api.page import list_models_models_json_get
from generated.api.usage import get_usage_json_usage_json_get
from generated.models import ChatRequest

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
answer = post_chat_chat_post.sync_detailed(client=client, body=ChatRequest(message="Hello"))
report = {
    "status": answer.status_code,
    "answer": answer.content.decode(),
    "models": [model.id for model in list_models_models_json_get.sync(client=client)],
    "usage": get_usage_json_usage_json_get.sync(client=client).to_dict(),
}
sys.stdout.write(json.dumps(report) + "\n")
