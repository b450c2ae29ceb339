from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude.store import erasure, output_file_records
from mcp_server_claude.store.erasure import ErasureFilter
from mcp_server_claude.store.process_locks import ProcessLocks

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction

CSV = output_file_records.OutputFileRecord(
    id="f_1",
    call_id="c_1",
    user="ada",
    file_id="file_011",
    name="mean.csv",
    mime_type="text/csv",
    bytes=18,
    created_at=100.0,
)
PLOT = replace(CSV, id="f_2", file_id="file_012", name="plot.png", bytes=None, created_at=101.0)
BOBS = replace(CSV, id="f_3", call_id="c_2", user="bob", created_at=102.0)


def test_a_file_is_found_only_by_its_user(tx: Transaction) -> None:
    output_file_records.record_output_files(tx, [CSV, PLOT, BOBS])
    assert output_file_records.find_output_file(tx, "f_1", "ada") == CSV
    assert output_file_records.find_output_file(tx, "f_2", "ada") == PLOT
    assert output_file_records.find_output_file(tx, "f_1", "bob") is None
    assert output_file_records.find_output_file(tx, "f_9", "ada") is None


def test_the_files_of_a_call_are_in_the_order_of_their_creation(tx: Transaction) -> None:
    output_file_records.record_output_files(tx, [PLOT, CSV, BOBS])
    assert output_file_records.output_files_of_call(tx, "c_1", "ada") == [CSV, PLOT]
    assert output_file_records.output_files_of_call(tx, "c_1", "bob") == []


def test_only_old_and_erased_files_are_to_be_deleted(tx: Transaction) -> None:
    output_file_records.record_output_files(tx, [CSV, PLOT, BOBS])
    assert output_file_records.expired_output_files(tx, 100.5) == [CSV]
    erasure.erase_text(tx, ErasureFilter(user="bob"), ProcessLocks(), 200.0)
    assert output_file_records.find_output_file(tx, "f_3", "bob") is None
    assert output_file_records.output_files_of_call(tx, "c_2", "bob") == []
    assert [file.id for file in output_file_records.expired_output_files(tx, 100.5)] == ["f_1", "f_3"]
    for file in output_file_records.expired_output_files(tx, 100.5):
        output_file_records.delete_output_file(tx, file.id)
    assert output_file_records.expired_output_files(tx, 1e9) == [PLOT]
