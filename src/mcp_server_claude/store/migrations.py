"""The schema, as numbered migrations that are only ever appended. Each has its reason.

A released migration is never edited. Later ones add, so that an older process that is still running keeps working on a
file which a newer one has migrated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import table_definitions
from mcp_server_claude.store.transaction import StoreError, scalar
from mcp_server_claude.store.usage import daily_rollups

if TYPE_CHECKING:
    from mcp_server_claude.store.transaction import Transaction


@frozen_dataclass()
class Migration:
    """One migration: its number, its reason, and its statements."""

    number: int
    reason: str
    statements: tuple[str, ...]
    rebuilds_rollups: bool = False


RENAMED_ERROR_KINDS = {
    "refused": "connection_refused",
    "stall": "stream_timeout",
    "busy": "capacity",
    "ledger": "store",
    "identity": "identity_provider",
    "user_busy": "user_concurrency",
    "user_rate": "user_rate_limit",
    "slow_body": "body_timeout",
    "stopped": "cancelled",
}
RENAMED_ERROR_CLASSES = {
    "refused": "request_error",
    "unavailable": "temporary_error",
    "misconfigured": "configuration_error",
}


def _rename_in_calls(field: str, old: str, new: str) -> str:
    """A statement that renames the value of a field in the JSON of the errors of calls."""
    return f"""update call set failure = replace(failure, '"{field}": "{old}"', '"{field}": "{new}"')
where failure is not null"""  # noqa: S608 - constants


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        "One entry for each upstream request, and leases, so that the open entries of dead processes can be found.",
        (
            table_definitions.CREATE_ENTRY,
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
            table_definitions.CREATE_CALL,
            'create index call_user on call ("user", started_at)',
            "create index call_ended on call (ended_at)",
            "create index call_open on call (worker) where state = 'open'",
            table_definitions.CREATE_CHUNK,
        ),
    ),
    Migration(
        3,
        "Daily budgets and their reservations, so that those of a dead process can be released.",
        (
            table_definitions.CREATE_BUDGET,
            table_definitions.CREATE_HOLD,
        ),
    ),
    Migration(
        4,
        "Threads with their messages as the API sent them, so that they can be continued after a restart.",
        (
            table_definitions.CREATE_THREAD,
            'create index thread_user on thread ("user", touched_at)',
            "create index thread_touched on thread (touched_at)",
            table_definitions.CREATE_TURN,
        ),
    ),
    Migration(
        5,
        "Users with their tokens (hashed), limits and sessions, so that one server can serve a team.",
        (
            table_definitions.CREATE_MEMBER,
            table_definitions.CREATE_SESSION,
            "create index session_member on session (member)",
            "create index entry_thread on entry (thread) where thread is not null",
            "create index call_thread on call (thread) where thread is not null",
        ),
    ),
    Migration(
        6,
        "Requests to stop a call of another process, which reads them when it saves the text.",
        ("alter table call add column stop_requested bigint not null default 0",),
    ),
    Migration(
        7,
        "Output files of calls: their user, and their id in the Files API.",
        (table_definitions.CREATE_PRODUCED, "create index produced_call on produced (call_id)"),
    ),
    Migration(
        8,
        "The error of a failed call, so that later readers and other processes report the same.",
        ("alter table call add column failure text",),
    ),
    Migration(
        9,
        "Covering indexes for the usage page, in the order in which it groups.",
        (
            f'create index entry_spend on entry (day, model, tool, "user", {table_definitions.SPEND_COLUMNS}, ttft_ms)',
            f'create index entry_spender on entry (day, "user", model, tool, {table_definitions.SPEND_COLUMNS})',
            'create index entry_first on entry (day, ttft_ms, "user", model, tool) where ttft_ms is not null',
            table_definitions.CREATE_FAILED_INDEX,
            "drop index entry_model",  # no query used it
        ),
    ),
    Migration(
        10,
        "Processes that are known by the lock that they hold, and the estimates that their owners can correct.",
        (
            "create table process (id text primary key)",
            "alter table hold add column spent bigint not null default -1",
        ),
    ),
    Migration(
        11,
        "Daily sums, so that a report does not read every request. They replace three indexes.",
        (
            table_definitions.CREATE_USAGE_TOTAL,
            table_definitions.CREATE_USAGE_USER_TOTAL,
            table_definitions.CREATE_USAGE_CELL,
            "create index usage_cell_day on usage_cell (day)",
            table_definitions.CREATE_LATENCY_COUNT,
            table_definitions.CREATE_LONG_PROMPT_INDEX,
            "drop index entry_spend",
            "drop index entry_spender",
            "drop index entry_failed",
            "create index entry_thread_cost on entry (thread, cost_micros) where thread is not null",
            "drop index entry_thread",
        ),
        rebuilds_rollups=True,
    ),
    Migration(
        12,
        "New names of error kinds and classes.",
        (
            *(
                f"update entry set failure = '{new}' where failure = '{old}'"  # noqa: S608 - constants
                for old, new in RENAMED_ERROR_KINDS.items()
            ),
            *(_rename_in_calls("kind", old, new) for old, new in RENAMED_ERROR_KINDS.items()),
            *(_rename_in_calls("class", old, new) for old, new in RENAMED_ERROR_CLASSES.items()),
        ),
    ),
    Migration(
        13,
        "What a thread was begun with, and what came before each answer, so that a thread is sent again unchanged.",
        (
            "alter table thread add column definitions text not null default '[]'",
            "alter table thread add column thinking_refusals bigint not null default 0",
            "alter table turn add column rules text not null default ''",
            "alter table turn add column prefix_digest text not null default ''",
        ),
    ),
    Migration(
        14,
        "Jobs and their items, which any process can continue, and the job of each request and call.",
        (
            table_definitions.CREATE_JOB,
            'create index job_user on job ("user", created_at)',
            "create index job_open on job (created_at) where state <> 'closed'",
            table_definitions.CREATE_JOB_ITEM,
            "create index job_item_open on job_item (job_id, seq) where state in ('todo', 'running')",
            "alter table entry add column job_id text",
            "create index entry_job on entry (job_id, cost_micros) where job_id is not null",
            "alter table call add column job_id text",
        ),
    ),
    Migration(
        15,
        "The terms on which each request was served, since its price depends on them.",
        (
            "alter table entry add column inference_geo text",
            "alter table entry add column speed text",
            "alter table entry add column service_tier text",
        ),
    ),
    Migration(
        16,
        "Threads whose thinking the API is to drop where it would refuse it, in every later request.",
        ("alter table thread add column drops_thinking bigint not null default 0",),
    ),
    Migration(
        17,
        "Indexes by which the next item of a job, and those of dead processes, are found without reading all items.",
        (
            "create index job_item_todo on job_item (job_id, seq) where state = 'todo'",
            "create index job_item_running on job_item (job_id, seq) where state = 'running'",
            "drop index job_item_open",
        ),
    ),
    Migration(
        18,
        "The project of each request, and daily sums by project.",
        (
            "alter table entry add column project text not null default ''",
            table_definitions.CREATE_USAGE_PROJECT_CELL,
        ),
        rebuilds_rollups=True,
    ),
    Migration(
        19,
        "The recent calls of each user, and waits that the API asked for, which several servers count together.",
        (
            table_definitions.CREATE_USER_CALL,
            'create index user_call_user on user_call ("user", started_at)',
            table_definitions.CREATE_COOLDOWN,
        ),
    ),
    Migration(
        20,
        "Questions about the cost of a call, and a key for its state, so that any server can take the answer.",
        (table_definitions.CREATE_SHARED_KEY, table_definitions.CREATE_SPENDING_QUESTION),
    ),
    Migration(
        21,
        "The rest of long texts of messages, in short rows, since a long row is held in memory three times.",
        (table_definitions.CREATE_TURN_TEXT,),
    ),
    Migration(
        22,
        "Tools that a later turn brought into a thread, and threads for which the API takes none.",
        (
            "alter table turn add column added_tools text not null default '[]'",
            "alter table thread add column merges_tools bigint not null default 0",
        ),
    ),
    Migration(
        23,
        "The message batches of jobs, and the batch that an item is answered in. No process owns such an item.",
        (
            table_definitions.CREATE_MESSAGE_BATCH,
            "create index message_batch_job on message_batch (job_id, created_at)",
            "alter table job_item add column batch_id text not null default ''",
            "create index job_item_batch on job_item (batch_id, seq) where batch_id <> ''",
            "create index job_item_owned on job_item (job_id, seq) where state = 'running' and batch_id = ''",
            "drop index job_item_running",
        ),
    ),
    Migration(
        24,
        "When work on a timer was begun, so that one of several servers does it.",
        (table_definitions.CREATE_PERIODIC_RUN,),
    ),
    Migration(
        25,
        "What belongs to an item's answer besides its text: notes, citations, and the span of its call.",
        ("alter table job_item add column annotations text",),
    ),
    Migration(
        26,
        "Daily sums by project alone, so that a report on everybody reads a row a project and day.",
        (table_definitions.CREATE_USAGE_PROJECT_TOTAL,),
        rebuilds_rollups=True,
    ),
)

NEWEST_VERSION = MIGRATIONS[-1].number


def check_version(version: int) -> None:
    """Refuse a schema that is newer than this code.

    Raises:
        StoreError: A newer version of the package wrote it, so its rows could be misread or damaged.
    """
    if version > NEWEST_VERSION:
        raise StoreError(
            f"it was written by a newer version of mcp-server-claude (schema {version}, this one knows "
            f"{NEWEST_VERSION})"
        )


def apply_migrations(tx: Transaction) -> None:
    """Apply the missing migrations. The transaction must hold the write lock of the database from its beginning.

    Raises:
        StoreError: The schema is newer than this code.
    """
    tx.execute("create table if not exists schema_version (version bigint primary key, why text not null)")
    version = tx.fetch_one(scalar, "select coalesce(max(version), 0) as version from schema_version") or 0
    check_version(version)
    missing = MIGRATIONS[version:]
    for migration in missing:
        for statement in migration.statements:
            tx.execute(statement)
        tx.execute(
            "insert into schema_version (version, why) values (:number, :reason)",
            {"number": migration.number, "reason": migration.reason},
        )
    if any(migration.rebuilds_rollups for migration in missing):  # at the end, when all columns are there
        daily_rollups.rebuild_rollups(tx)
