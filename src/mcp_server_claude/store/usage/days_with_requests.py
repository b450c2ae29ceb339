"""The days of a range that have any request, as SQL: a list of a few rows, each found by one look into an index.

A query that is joined to it looks into an index once for each day, where `day >= … and day <= …` would read the index
from the first day to the last.
"""

DAYS_CTE = """
with recursive present(day) as (
    select min(day) from entry where day >= :since and day <= :until
    union all
    select (select min(entry.day) from entry where entry.day > present.day and entry.day <= :until)
    from present where present.day is not null
)
"""
"""Begins a statement that has `:since` and `:until`; then `from present join entry on entry.day = present.day`."""
