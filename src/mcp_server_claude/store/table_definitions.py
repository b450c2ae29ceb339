"""The definitions of the tables and of the longer indexes, each as the migration that creates it runs it.

A definition is part of a released migration and is never edited: later columns are added by later migrations.
"""

from __future__ import annotations

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

CREATE_TURN_TEXT = """
create table turn_text (
    thread_id text not null,
    seq bigint not null,
    block bigint not null,
    off bigint not null,
    text text not null,
    primary key (thread_id, seq, block, off),
    foreign key (thread_id, seq) references turn (thread_id, seq) on delete cascade
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

CREATE_JOB = """
create table job (
    id text primary key,
    created_at double precision not null,
    worker text not null,
    scope text not null,
    "user" text not null,
    client text not null,
    source text not null,
    tool text not null,
    model text not null,
    title text not null,
    spec text not null,
    digest text not null,
    output text not null,
    output_digest text not null,
    batch bigint not null,
    state text not null check (state in ('new', 'open', 'closed')),
    "end" text check ("end" in ('complete', 'incomplete', 'cancelled')),
    reason text not null,
    stop_requested bigint not null,
    ended_at double precision,
    check ((state = 'closed') = ("end" is not null))
)
"""

CREATE_JOB_ITEM = """
create table job_item (
    job_id text not null references job (id) on delete cascade,
    seq bigint not null,
    input text not null,
    state text not null default 'todo' check (state in ('todo', 'running', 'done', 'failed', 'cancelled')),
    owner text not null default '',
    fence bigint not null default 0,
    attempts bigint not null default 0,
    interruptions bigint not null default 0,
    call_id text not null default '',
    progress text not null default '',
    text text not null default '',
    is_json bigint not null default 0,
    note text not null default '',
    usage text,
    error text,
    primary key (job_id, seq)
)
"""

CREATE_MESSAGE_BATCH = """
create table message_batch (
    id text primary key,
    job_id text not null references job (id) on delete cascade,
    state text not null check (state in ('filling', 'submitting', 'submitted', 'collected')),
    owner text not null default '',
    fence bigint not null default 0,
    upstream_id text not null default '',
    requests bigint not null default 0,
    created_at double precision not null,
    submitted_at double precision not null default 0,
    next_poll_at double precision not null default 0,
    polls bigint not null default 0,
    failures bigint not null default 0,
    cancel_requested bigint not null default 0
)
"""

CREATE_USER_CALL = """
create table user_call (
    id text primary key,
    "user" text not null,
    worker text not null,
    started_at double precision not null,
    is_running bigint not null
)
"""

CREATE_COOLDOWN = """
create table cooldown (
    rate_limit text primary key,
    until double precision not null
)
"""

CREATE_SHARED_KEY = """
create table shared_key (
    name text primary key,
    value text not null
)
"""

CREATE_SPENDING_QUESTION = """
create table spending_question (
    key text primary key,
    text text not null,
    asked_at double precision not null
)
"""

CREATE_PERIODIC_RUN = """
create table periodic_run (
    name text primary key,
    started_at double precision not null
)
"""

SPEND_COLUMNS = """
attempt, "end", input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens, cost_micros
"""
CREATE_FAILED_INDEX = """
create index entry_failed on entry (day, model, tool, "user", call_id, attempt, "end")
where "end" in ('failed', 'interrupted')
"""

ROLLUP_SUMS = """
requests bigint not null,
calls bigint not null,
unpriced bigint not null,
input_tokens bigint not null,
cache_read_input_tokens bigint not null,
cache_creation_input_tokens bigint not null,
output_tokens bigint not null,
cost_micros bigint not null,
timed bigint not null,
errors bigint not null,
retries bigint not null
"""
CREATE_USAGE_TOTAL = f"""
create table usage_total (
    day text not null, model text not null, tool text not null, {ROLLUP_SUMS}, primary key (day, model, tool)
)
"""
CREATE_USAGE_USER_TOTAL = f"""
create table usage_user_total (day text not null, "user" text not null, {ROLLUP_SUMS}, primary key (day, "user"))
"""
CREATE_USAGE_CELL = f"""
create table usage_cell (
    "user" text not null, day text not null, model text not null, tool text not null, {ROLLUP_SUMS},
    primary key ("user", day, model, tool)
)
"""
CREATE_USAGE_PROJECT_CELL = f"""
create table usage_project_cell (
    day text not null, "user" text not null, project text not null, model text not null, tool text not null,
    {ROLLUP_SUMS}, primary key (day, "user", project, model, tool)
)
"""
CREATE_USAGE_PROJECT_TOTAL = f"""
create table usage_project_total (day text not null, project text not null, {ROLLUP_SUMS}, primary key (day, project))
"""
CREATE_LATENCY_COUNT = """
create table latency_count (
    "user" text not null, day text not null, bucket bigint not null, requests bigint not null,
    primary key ("user", day, bucket)
)
"""
CREATE_LONG_PROMPT_INDEX = """
create index entry_long_prompt on entry (
    day, model, "user", tool, input_tokens, cache_read_input_tokens, cache_creation_input_tokens
) where input_tokens + cache_read_input_tokens + cache_creation_input_tokens > 100000
"""
