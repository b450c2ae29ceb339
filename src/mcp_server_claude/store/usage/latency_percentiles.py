"""Exact percentiles of the time to the first text, by day, by month, and for a whole range.

Counts in narrow buckets locate a percentile in a bucket and at a rank in it, and one index lookup returns
that value, so the time hardly depends on the number of requests.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from mcp_server_claude.store.transaction import scalar
from mcp_server_claude.store.usage.daily_rollups import LATENCY_BUCKET, LATENCY_BUCKET_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.store.transaction import Transaction
    from mcp_server_claude.store.usage.usage_query import UsageQuery

PERCENTILE_RANKS = (50, 90, 99)
WHOLE_RANGE = ""
"""The key of the whole range, beside its days (2026-11-20) and months (2026-11)."""


class LatencyPercentiles(NamedTuple):
    """Nearest-rank percentiles in milliseconds, over the requests that produced text."""

    p50: float
    p90: float
    p99: float


_COUNTS = """
select day, bucket, requests from latency_count
where "user" = :scope and day >= :since and day <= :until and requests > 0
"""
_COUNTS_FILTERED = """
select day, {bucket} as bucket, count(*) as requests from entry
where {where} and state = 'closed' and ttft_ms is not null group by day, {bucket}
"""
# The range of times is wider than the bucket, because databases round differently when they cast to an integer.
_NTH = """
select ttft_ms as ms from entry where day in ({days}) and ttft_ms >= :least and ttft_ms < :greatest
and {bucket} = :bucket and state = 'closed'{filters} order by ttft_ms limit 1 offset :place
"""


def percentiles_by_period(tx: Transaction, query: UsageQuery) -> dict[str, LatencyPercentiles]:
    """Return the percentiles of the whole range, and of each day and month in it that has any."""
    by_period: defaultdict[str, Counter[int]] = defaultdict(Counter)
    days: defaultdict[str, list[str]] = defaultdict(list)
    for day, buckets in sorted(_bucket_counts(tx, query).items()):
        for period in (day, day[:7], WHOLE_RANGE):
            by_period[period].update(buckets)
            days[period].append(day)
    found: dict[tuple[str, ...], LatencyPercentiles] = {}  # a month can be the whole range
    for period, buckets in by_period.items():
        key = tuple(days[period])
        if key not in found:
            found[key] = LatencyPercentiles(
                *(_percentile(tx, query, key, buckets, percent) for percent in PERCENTILE_RANKS)
            )
    return {period: found[tuple(days[period])] for period in by_period}


def nearest_rank(percent: int, count: int) -> int:
    """Return the rank of a percentile among `count` sorted values, from 1: the first that `percent` do not exceed."""
    return -(-count * percent // 100)


def _bucket_counts(tx: Transaction, query: UsageQuery) -> dict[str, dict[int, int]]:
    by_day: defaultdict[str, dict[int, int]] = defaultdict(dict)
    sql = _COUNTS
    if query.model or query.tool or query.job:
        sql = _COUNTS_FILTERED.format(bucket=LATENCY_BUCKET, where=query.entry_where_sql)
    for day, bucket, requests in tx.fetch_all(_count_row, sql, {**query.sql_params(), "scope": query.user or ""}):
        by_day[day][bucket] = requests
    return by_day


def _percentile(
    tx: Transaction, query: UsageQuery, days: tuple[str, ...], buckets: Mapping[int, int], percent: int
) -> float:
    rank = nearest_rank(percent, sum(buckets.values()))
    ordered = sorted(buckets)
    up_to = accumulate(buckets[bucket] for bucket in ordered)
    bucket, total = next((bucket, total) for bucket, total in zip(ordered, up_to, strict=True) if total >= rank)
    names = {f"day_{number}": day for number, day in enumerate(days)}
    sql = _NTH.format(
        days=", ".join(f":{name}" for name in names), bucket=LATENCY_BUCKET, filters=query.entry_filter_sql
    )
    milliseconds = tx.fetch_one(
        scalar,
        sql,
        {
            **query.sql_params(),
            **names,
            "bucket": bucket,
            "least": float((bucket - 1) * LATENCY_BUCKET_MS),
            "greatest": float((bucket + 2) * LATENCY_BUCKET_MS),
            "place": rank - 1 - (total - buckets[bucket]),
        },
    )
    return float(bucket * LATENCY_BUCKET_MS) if milliseconds is None else milliseconds


def _count_row(day: str, bucket: int, requests: int) -> tuple[str, int, int]:
    return day, bucket, requests
