"""The shell's door: `mcp-server-claude demo`, `doctor`, `config`, `simulate`. Each command only reads its arguments."""

from __future__ import annotations

import asyncio
import io
import logging
import shutil
import sys
import textwrap
from typing import Annotated

import anyio
import typer

from mcp_server_claude import __version__
from mcp_server_claude.cli import backup_and_forget, client_config, doctor, serve, usage, users

app = typer.Typer(
    name="mcp-server-claude",
    help="An MCP server that gives any MCP client a Claude to delegate to.\n\n"
    "Without arguments it serves MCP over stdio: that is what a client's configuration starts.",
    epilog="Settings: environment variables MCP_CLAUDE_…, MCP_CLAUDE_API_KEY before all.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FINDING_MARKS = {True: ("✓", "green"), None: ("!", "yellow"), False: ("✗", "red")}
LABEL_WIDTH = 9
"""The width of a finding's name."""


def _show_version(requested: bool) -> None:  # noqa: FBT001 - typer's signature
    if requested:
        typer.echo(f"mcp-server-claude {__version__}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Runs before every command."""
    del version
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ✓ and … shall not be a crash


@app.command("demo")
def run_demo(
    prompt: Annotated[str, typer.Option(help="Ask this instead.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the pages are; 0 takes a free port.")] = 8000,
    *,
    live: Annotated[bool, typer.Option("--live", help="Ask the real API, with your key. Costs about a cent.")] = False,
    http: Annotated[bool, typer.Option("--http", help="Serve the chat page instead, for your browser.")] = False,
) -> None:
    """Watch an answer stream through MCP. No key, no network."""
    from mcp_server_claude.cli import demo

    if http and (live or prompt):
        raise typer.BadParameter("the pages ask the simulated API, and you ask there.", param_hint="--http")
    raise typer.Exit(demo.run_in_browser(port) if http else demo.run_in_terminal(prompt, live=live))


@app.command("doctor")
def run_doctor(
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the network alone.")] = False,
) -> None:
    """Check the key, the API, the ledger and more; hints for what is wrong."""
    logging.disable()  # whatever it would say is among the findings
    findings = anyio.run(doctor.run_checks, offline)
    for finding in findings:
        _print_finding(finding)
    raise typer.Exit(1 if doctor.has_failures(findings) else 0)


@app.command("config")
def print_config(
    client: Annotated[client_config.Client | None, typer.Argument(help="Only this client's.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON of the client's file.")] = False,
) -> None:
    """Print your MCP client's configuration, ready to paste."""
    command = client_config.server_command()
    if as_json:
        if client is None:
            raise typer.BadParameter(f"name one client: {', '.join(client_config.CLIENTS)}.", param_hint="--json")
        typer.echo(client_config.config_json(client, command))
        return
    for name in client_config.CLIENTS if client is None else (client,):
        typer.secho(f"{client_config.CLIENT_NAMES[name]}\n", bold=True)
        for passage in client_config.config_snippets(name, command):
            typer.secho(f"{passage.location}:\n", dim=True)
            typer.echo(passage.text + "\n")
    typer.secho(client_config.KEY_VARIABLE_NOTE, dim=True)


@app.command("simulate")
def run_simulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 8765,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    key: Annotated[str, typer.Option(help="The only key to accept. Without it any will do.")] = "",
    ttft: Annotated[float, typer.Option(min=0, help="Seconds to the first byte of an answer.")] = 0.05,
    tokens_per_s: Annotated[float, typer.Option(min=0, help="Pace of the answers; 0 is full speed.")] = 60.0,
) -> None:
    """Serve an offline Messages API, for trying things out. Ctrl-C ends it."""
    from mcp_server_claude.simulator import Pace, Simulator
    from mcp_server_claude.simulator import run_until_signal as serve_simulator

    simulator = Simulator(port=port, host=host, key=key or None, pace=Pace(ttft_s=ttft, tokens_per_s=tokens_per_s))
    try:
        asyncio.run(serve_simulator(simulator, announce=_announce_simulator))
    except OSError as error:
        typer.secho(f"Cannot listen on {host}:{port}: {error.strerror or error}.", fg="red", err=True)
        raise typer.Exit(1) from None


app.add_typer(users.app, name="user")
app.command("serve")(serve.run_server)
app.command("usage")(usage.show_usage)
app.command("backup")(backup_and_forget.back_up)
app.command("forget")(backup_and_forget.forget_text)


def _announce_simulator(url: str) -> None:
    print(f"A simulated Messages API listens on {url}  (Ctrl-C ends it)", flush=True)
    print(f"To use it: MCP_CLAUDE_BASE_URL={url} MCP_CLAUDE_API_KEY=any-key mcp-server-claude", flush=True)


def _print_finding(finding: doctor.Finding) -> None:
    mark, color = FINDING_MARKS[finding.ok]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    typer.secho(mark, fg=color, nl=False)
    typer.echo(_with_hanging_indent(f" {finding.name:<{LABEL_WIDTH}} ", finding.text, width - 1))
    if finding.hint:
        typer.secho(_with_hanging_indent(" " * (LABEL_WIDTH + 3) + "→ ", finding.hint, width), fg=color)


def _with_hanging_indent(label: str, text: str, width: int) -> str:
    """A label and a text beside it, its further lines under its first."""
    return textwrap.fill(
        text,
        width=max(width, 40),
        initial_indent=label,
        subsequent_indent=" " * (LABEL_WIDTH + 3),
        break_long_words=False,
        break_on_hyphens=False,
    )
