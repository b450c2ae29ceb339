"""Print the figures that the design promises, each against the plain SDK loop or a naive server in the same run.

    python benchmarks/run.py [--quick] [--write] [--record VERSION] [measurement ...]

`--write` puts the table into `benchmarks/README.md`. Linux only (it reads the CPU clocks of other processes).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from endurance import ENDURANCE
from jobs import JOBS
from measurements import MEASUREMENTS, BenchmarkContext, FigureRow
from simulator_process import SimulatorProcess
from streams import MOST_STREAMS, STREAM_MEASUREMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

README = Path(__file__).with_name("README.md")
HISTORY = Path(__file__).with_name("history.tsv")
ALL_MEASUREMENTS = MEASUREMENTS | STREAM_MEASUREMENTS | ENDURANCE | JOBS
BEGIN, END = "<!-- output: begin -->", "<!-- output: end -->"
TABLE_HEAD = ("figure", "measured", "against", "ratio", "target", "")


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, _exit_on_signal)
    where = _machine_line(quick=options.quick)
    print(where, end="\n\n", flush=True)
    rows: list[FigureRow] = []
    lines = [_table_line(*TABLE_HEAD), _table_line(*("---" for _ in TABLE_HEAD))]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as home, SimulatorProcess() as upstream:
        bench = BenchmarkContext(upstream, server_environment(home, upstream.url), quick=options.quick)
        for name in options.measurements or ALL_MEASUREMENTS:
            for row in ALL_MEASUREMENTS[name](bench):
                rows.append(row)
                lines.append(_row_cells(row))
                print(lines[-1], flush=True)
    if options.write:
        _write(f"{where}\n\n" + "\n".join(lines))
    if options.record:
        _record(options.record, rows)


def _exit_on_signal(number: int, _: object) -> None:
    """Unwind, so that no process started here is left behind."""
    sys.exit(128 + number)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print the figures of the design, measured here and now.")
    parser.add_argument("--quick", action="store_true", help="few repetitions: a look, not a measurement")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--record", metavar="VERSION", help="add a line for this release to benchmarks/history.tsv")
    parser.add_argument("measurements", nargs="*", choices=[[], *ALL_MEASUREMENTS], help="default: all")
    return parser.parse_args()


def server_environment(home: str, url: str) -> dict[str, str]:
    """Nothing of whoever runs this (but PYTHONPATH, to measure another source tree): own keys, own home."""
    elsewhere = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    return elsewhere | {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "MCP_CLAUDE_API_KEY": "sk-ant-benchmark",
        "MCP_CLAUDE_BASE_URL": url,
        "MCP_CLAUDE_DATA_DIR": f"{home}/data",
        "MCP_CLAUDE_MAX_CONCURRENT": str(MOST_STREAMS),
        "ANTHROPIC_API_KEY": "sk-ant-benchmark",
        "ANTHROPIC_BASE_URL": url,
    }


def _machine_line(*, quick: bool) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("mcp", "anthropic", "pydantic"))
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    kind = "quick run" if quick else "full run"
    return f"{datetime.now(UTC):%Y-%m-%d}, {kind}; {machine}; {packages}. Load before: {os.getloadavg()[0]:.1f}."


def _row_cells(row: FigureRow) -> str:
    verdict = {True: "ok", False: "**missed**", None: ""}[row.met]
    return _table_line(
        row.figure, row.ours, row.other, "–" if row.ratio is None else f"{row.ratio:.2f}", row.target, verdict
    )


def _table_line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _write(table: str) -> None:
    found = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    README.write_text(found.sub(lambda _: f"{BEGIN}\n{table}\n{END}", README.read_text()))


def _record(version_name: str, rows: Sequence[FigureRow]) -> None:
    """Add a line of ratios to the history, under the columns of its first line; what was not measured is left empty."""
    columns = HISTORY.read_text().splitlines()[0].split("\t")
    values = {row.key: row.ratio if row.number is None else row.number for row in rows if row.key}
    cells = {name: "" if value is None else f"{value:.3f}" for name, value in values.items()}
    cells |= {"version": version_name, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    with HISTORY.open("a") as history:
        history.write("\t".join(cells.get(column, "") for column in columns) + "\n")


if __name__ == "__main__":
    sys.exit(main())
