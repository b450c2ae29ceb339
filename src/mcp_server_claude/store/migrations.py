"""The schema, as numbered steps that are only ever appended. Each says why it is there.

A step that has been released is never edited; later ones add, so that an older process that is still running keeps
working on a file which a newer one has migrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.store.transaction import StoreError, scalar

if TYPE_CHECKING:
    from mcp_server_claude.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: its number, why it exists, and the statements that take it."""

    number: int
    reason: str
    statements: tuple[str, ...]


CREATE_ENTRY = """
create table entry (
    id text primary key,
    call_id text not null,
    attempt bigint not null,
    worker text not null,
    "user" text not null,
    client text not null,
    source text not null,
    tool text not null,
    thread text,
    model text not null,
    host text not null,
    day text not null,
    started_at double precision not null,
    ended_at double precision,
    state text not null check (state in ('open', 'closed')),
    "end" text check ("end" in ('complete', 'incomplete', 'failed', 'cancelled', 'interrupted')),
    status bigint,
    failure text,
    request_id text,
    stop_reason text,
    input_tokens bigint not null,
    cache_read_input_tokens bigint not null,
    cache_creation_input_tokens bigint not null,
    output_tokens bigint not null,
    thinking_tokens bigint not null,
    web_searches bigint not null,
    cost_micros bigint,
    pricing_as_of text,
    estimated bigint not null,
    ttft_ms double precision,
    duration_ms double precision,
    trace_id text not null,
    held_micros bigint not null,
    check ((state = 'closed') = ("end" is not null))
)
"""

CREATE_CALL = """
create table call (
    id text primary key,
    "user" text not null,
    client text not null,
    tool text not null,
    source text not null,
    thread text,
    model text not null,
    worker text not null,
    prompt_head text not null,
    state text not null check (state in ('open', 'closed')),
    "end" text check ("end" in ('complete', 'incomplete', 'failed', 'cancelled', 'interrupted')),
    incomplete text not null,
    usage text,
    started_at double precision not null,
    ended_at double precision,
    chars bigint not null,
    check ((state = 'closed') = ("end" is not null))
)
"""

CREATE_CHUNK = """
create table chunk (
    call_id text not null references call (id) on delete cascade,
    off bigint not null,
    text text not null,
    primary key (call_id, off)
)
"""

CREATE_BUDGET = """
create table budget (
    scope text not null,
    day text not null,
    spent bigint not null,
    held bigint not null check (held >= 0),
    primary key (scope, day)
)
"""

CREATE_HOLD = """
create table hold (
    entry_id text not null,
    scope text not null,
    day text not null,
    micros bigint not null,
    primary key (entry_id, scope, day)
)
"""

CREATE_THREAD = """
create table thread (
    id text primary key,
    "user" text not null,
    head text not null,
    system text not null,
    model text not null,
    started_at double precision not null,
    touched_at double precision not null,
    holder text,
    worker text not null
)
"""

CREATE_TURN = """
create table turn (
    thread_id text not null references thread (id) on delete cascade,
    seq bigint not null,
    role text not null check (role in ('user', 'assistant')),
    content text not null,
    model text not null,
    call_id text not null,
    primary key (thread_id, seq)
)
"""

CREATE_MEMBER = """
create table member (
    name text primary key,
    role text not null check (role in ('user', 'operator')),
    token_hash text unique,
    issuer text,
    subject text,
    usd_per_day double precision,
    calls_per_minute bigint,
    concurrent bigint,
    created_at double precision not null,
    removed_at double precision,
    unique (issuer, subject)
)
"""

CREATE_SESSION = """
create table session (
    hash text primary key,
    member text not null references member (name) on delete cascade,
    created_at double precision not null,
    expires_at double precision not null
)
"""

CREATE_PRODUCED = """
create table produced (
    id text primary key,
    call_id text not null,
    "user" text not null,
    file_id text not null,
    name text not null,
    mime_type text not null,
    bytes bigint,
    created_at double precision not null
)
"""

SPEND_COLUMNS = """
attempt, "end", input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens, cost_micros
"""
CREATE_FAILED_INDEX = """
create index entry_failed on entry (day, model, tool, "user", call_id, attempt, "end")
where "end" in ('failed', 'interrupted')
"""

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        "One line for each upstream request, and leases, so that a dead process's open lines can be told apart.",
        (
            CREATE_ENTRY,
            "create index entry_started on entry (started_at)",
            'create index entry_user on entry ("user", started_at)',
            "create index entry_model on entry (model, started_at)",
            "create index entry_call on entry (call_id)",
            "create index entry_open on entry (worker) where state = 'open'",
            "create table worker (id text primary key, lease_until double precision not null)",
        ),
    ),
    Migration(
        2,
        "The text of an answer while it is written, so that a crash or a cancel leaves something to read.",
        (
            CREATE_CALL,
            'create index call_user on call ("user", started_at)',
            "create index call_ended on call (ended_at)",
            "create index call_open on call (worker) where state = 'open'",
            CREATE_CHUNK,
        ),
    ),
    Migration(
        3,
        "Budgets of a day, and who holds what of them, so that the holds of a dead process can be given back.",
        (
            CREATE_BUDGET,
            CREATE_HOLD,
        ),
    ),
    Migration(
        4,
        "Conversations with their turns as the API gave them, so that an answer can be gone on from after a restart.",
        (
            CREATE_THREAD,
            'create index thread_user on thread ("user", touched_at)',
            "create index thread_touched on thread (touched_at)",
            CREATE_TURN,
        ),
    ),
    Migration(
        5,
        "Users with their tokens (hashed), limits and sessions, so that one server can serve a team.",
        (
            CREATE_MEMBER,
            CREATE_SESSION,
            "create index session_member on session (member)",
            "create index entry_thread on entry (thread) where thread is not null",
            "create index call_thread on call (thread) where thread is not null",
        ),
    ),
    Migration(
        6,
        "A wish to stop a call that another process runs, which that process sees when it saves the text.",
        ("alter table call add column stop_requested bigint not null default 0",),
    ),
    Migration(
        7,
        "Files that Claude made while it answered: whose they are, and by which id the Files API has them.",
        (CREATE_PRODUCED, "create index produced_call on produced (call_id)"),
    ),
    Migration(
        8,
        "How a call failed, so that who reads it later, or in another process, is told the same.",
        ("alter table call add column failure text",),
    ),
    Migration(
        9,
        "Indexes that hold all that the usage page adds up, in the order in which it groups it.",
        (
            f'create index entry_spend on entry (day, model, tool, "user", {SPEND_COLUMNS}, ttft_ms)',
            f'create index entry_spender on entry (day, "user", model, tool, {SPEND_COLUMNS})',
            'create index entry_first on entry (day, ttft_ms, "user", model, tool) where ttft_ms is not null',
            CREATE_FAILED_INDEX,
            "drop index entry_model",  # nobody asked it
        ),
    ),
)

NEWEST_VERSION = MIGRATIONS[-1].number


def check_version(version: int) -> None:
    """Refuse a schema that is newer than this code.

    Raises:
        StoreError: A newer version of the package wrote it; its rows could be misread or spoilt.
    """
    if version > NEWEST_VERSION:
        raise StoreError(
            f"it was written by a newer version of mcp-server-claude (schema {version}, this one knows "
            f"{NEWEST_VERSION})"
        )


def apply_migrations(tx: Transaction) -> None:
    """Take the steps that are missing. The transaction must hold the database's lock for writing from its begin.

    Raises:
        StoreError: The schema is newer than this code.
    """
    tx.execute("create table if not exists schema_version (version bigint primary key, why text not null)")
    version = tx.fetch_one(scalar, "select coalesce(max(version), 0) as version from schema_version") or 0
    check_version(version)
    for step in MIGRATIONS[version:]:
        for statement in step.statements:
            tx.execute(statement)
        tx.execute(
            "insert into schema_version (version, why) values (:n, :why)", {"n": step.number, "why": step.reason}
        )
