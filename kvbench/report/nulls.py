"""Why a value of a record is unknown."""

from __future__ import annotations

from kvbench.printable import printable
from kvbench.records.run_record import RunRecord

NOT_GIVEN = "the record gives no reason"


def null_reason(record: RunRecord, pointer: str) -> str:
    """The reason for the null at a JSON pointer such as `/arms/0/energy/joules_per_token`.

    A reason given for an estimate's `value`, or for the part that the pointer lies in, counts too; the nearest wins.
    """
    reasons = record.null_reasons
    candidates = [pointer, f"{pointer}/value"]
    while "/" in pointer.strip("/"):
        pointer = pointer.rpartition("/")[0]
        candidates.append(pointer)
    return printable(next((reasons[candidate] for candidate in candidates if candidate in reasons), NOT_GIVEN))
