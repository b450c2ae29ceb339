"""Prompts of the server: ready-made ways to delegate, which clients show as slash commands.

A prompt is a message to the client's own agent: it says what to hand over with `claude_ask`, since only that agent
knows the conversation. No argument is required, and each is one word, because clients split arguments at spaces.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import PromptArgument
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, Completion, PromptReference, ResourceTemplateReference

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.server.tool_dependencies import open_current_request
from mcp_server_claude.server.validation_messages import printable_name

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer
    from mcp.types import CompletionArgument, CompletionContext

    from mcp_server_claude.services.service_access import ServiceAccess

FAMILIES = ("opus", "sonnet", "haiku", "fable")
MAX_ARGUMENT_CHARS = 500
MAX_COMPLETIONS = 100
"""Completions of one answer (https://modelcontextprotocol.io/specification/2025-11-25/server/utilities/completion)."""

MODEL = PromptArgument(name="model", description="opus, sonnet, haiku, fable or an exact id. Default: opus.")
THREAD = PromptArgument(name="thread", description="The id (t_…) of an earlier answer, to continue it.")


@frozen_dataclass(kw_only=True)
class PromptTemplate:
    """A prompt: its text has `{subject}`, which is `default_subject` where the argument of that name is empty."""

    name: str
    title: str
    description: str
    subject: PromptArgument
    default_subject: str
    text: str

    @property
    def arguments(self) -> list[PromptArgument]:
        """The arguments, the one that is given most often first."""
        return [self.subject, MODEL, THREAD]


TEMPLATES = (
    PromptTemplate(
        name="second_opinion",
        title="Second opinion",
        description="Ask another Claude what it thinks of the question, plan or answer at hand.",
        subject=PromptArgument(name="topic", description="The topic, in a word. Default: the question at hand."),
        default_subject="the question, plan or answer that we have just discussed",
        text="Get a second opinion on {subject} from another Claude. It sees nothing of this conversation, so put "
        "into `prompt` the goal, the constraints, the relevant facts and the options, and attach the relevant"
        " files with `files`. State the problem neutrally: do not say which answer you prefer. Ask for a "
        "recommendation, its reasons, and what would change it. Then tell me where it agrees and disagrees "
        "with you, and what you conclude.",
    ),
    PromptTemplate(
        name="review_diff",
        title="Review a diff",
        description="Have another Claude review the changes, with fresh eyes.",
        subject=PromptArgument(name="range", description="A git range such as main.. or HEAD~1. Default: uncommitted."),
        default_subject="the uncommitted changes (`git diff HEAD`)",
        text="Have another Claude review this diff: {subject}. Produce the diff, put it into `prompt` with one "
        "paragraph on what the change is for, and attach the changed files with `files`, so that it sees "
        "their context. Ask for bugs, missed cases, security problems and missing tests, each with file, "
        "line, severity and a concrete failing example, and for nothing on style. Check each finding against "
        "the code before you report it to me, and say which ones you could not confirm.",
    ),
    PromptTemplate(
        name="red_team",
        title="Red team",
        description="Have another Claude attack a plan, a design or code.",
        subject=PromptArgument(name="target", description="A path or a word. Default: the plan or code at hand."),
        default_subject="the plan or code that we are working on",
        text="Have another Claude attack {subject}. Put into `prompt` a complete description and what must hold, "
        "and attach the files with `files`. Ask it to play an adversary: to find inputs, sequences, failures "
        "and misuse that break it, ordered by damage times likelihood, each with the steps and with the "
        "smallest change that prevents it. Then tell me which attacks really work here, and what you propose.",
    ),
    PromptTemplate(
        name="explain",
        title="Explain",
        description="Have another Claude read files and explain them, without filling this context.",
        subject=PromptArgument(name="path", description="A path or a glob. Default: the code at hand."),
        default_subject="the files that this conversation is about",
        text="Have another Claude read and explain {subject}. Name the files in `files` (paths and globs; do not "
        "read them yourself) and ask in `prompt` for: the purpose in two sentences, the parts and how data "
        "flows between them, the invariants, and what surprises a newcomer, with file and line. Give me its "
        "explanation, shortened to what I need.",
    ),
)


def register_prompts(server: MCPServer[ServiceAccess]) -> None:
    """Add the prompts, and the completion of their arguments and of the ids in resource addresses."""
    for template in TEMPLATES:
        server.add_prompt(
            Prompt(
                name=template.name,
                title=template.title,
                description=template.description,
                arguments=template.arguments,
                fn=partial(render_prompt, template),
                context_kwarg=None,
            )
        )
    server.completion()(complete_argument)


def render_prompt(template: PromptTemplate, **arguments: object) -> str:
    """The message of a prompt.

    Raises:
        MCPError: There is no such argument, or its value is no text of a reasonable length.
    """
    names = [argument.name for argument in template.arguments]
    for name, value in arguments.items():
        if name not in names:
            known = ", ".join(names)
            raise MCPError(INVALID_PARAMS, f"There is no argument {printable_name(name)!r}. There are: {known}.")
        if not isinstance(value, str) or len(value) > MAX_ARGUMENT_CHARS or not value.isprintable():
            raise MCPError(INVALID_PARAMS, f"{name} must be one line of at most {MAX_ARGUMENT_CHARS} characters.")
    values = {name: str(arguments.get(name) or "").strip() for name in names}
    subject = f"`{values[template.subject.name]}`" if values[template.subject.name] else template.default_subject
    thread = f', thread="{values["thread"]}"' if values["thread"] else ""
    call = f'claude_ask(prompt=…, model="{values["model"] or "opus"}"{thread})'
    return f"{template.text.format(subject=subject)}\n\nThe call: {call}."


async def complete_argument(
    ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument, context: CompletionContext | None
) -> Completion | None:
    """The values that begin with what is typed: models and threads of prompts, ids of resources."""
    del context
    if isinstance(ref, PromptReference):
        kind = argument.name
    else:
        kind = {"claude://threads/": "thread", "claude://calls/": "call"}.get(ref.uri.partition("{")[0], "")
    typed = argument.value.strip().lower()
    values = [value for value in await _values_of(kind) if value.lower().startswith(typed)]
    return Completion(values=values[:MAX_COMPLETIONS], total=len(values), has_more=len(values) > MAX_COMPLETIONS)


async def _values_of(kind: str) -> list[str]:
    if kind not in {"model", "thread", "call"}:
        return []
    request = await open_current_request()
    match kind:
        case "model":
            catalog = await request.services.model_catalog()
            return [*FAMILIES, *catalog.callable_ids()]
        case "thread":
            return [thread.id for thread in await request.services.threads.latest_threads(request.user.name)]
        case _:
            return [call.id for call in await request.services.calls.latest_calls(request.user.name)]
