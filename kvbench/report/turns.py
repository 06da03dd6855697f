"""What happened at each interruption, as the rows of one table: the console and the page show it."""

from __future__ import annotations

from dataclasses import dataclass

from kvbench.arm import arm_names
from kvbench.records.arm_figures import Turn
from kvbench.records.run_record import RunRecord
from kvbench.report.formatting import UNKNOWN, format_estimate

CAPTION = "Interruptions: tokens submitted by the pass after each, and the time to its token"


@dataclass(frozen=True)
class TurnRow:
    """One interruption over all arms; `paid_back` speaks of the arm that lost its cache."""

    step: str
    context: str
    cells: tuple[str, ...]
    paid_back: str


def turn_arms(record: RunRecord) -> tuple[str, ...]:
    """Names of the arms in the table; empty for a run without interruptions."""
    return tuple(name for name, arm in zip(arm_names(record.arms), record.arms, strict=True) if arm.turns)


def turn_rows(record: RunRecord) -> tuple[TurnRow, ...]:
    """One row per interruption."""
    by_arm = [arm.turns for arm in record.arms if arm.turns]
    return tuple(
        TurnRow(
            step=str(turns[0].step),
            context=f"{turns[0].context_length:,}",
            cells=tuple(_cell(turn) for turn in turns),
            paid_back=_paid_back(turns),
        )
        for turns in zip(*by_arm, strict=True)
    )


def _cell(turn: Turn) -> str:
    return f"{turn.submitted_tokens:,} in {format_estimate(turn.ttft_s, 's')}"


def _paid_back(turns: tuple[Turn, ...]) -> str:
    found = next((turn.paid_back_after_tokens for turn in turns if turn.paid_back_after_tokens is not None), None)
    return UNKNOWN if found is None else f"{found} token{'' if found == 1 else 's'}"
