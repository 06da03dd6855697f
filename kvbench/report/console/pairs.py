"""What pairs of arms say in the terminal, and how far each arm is from a wider type."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.report.console.style import GREYED, STYLES
from kvbench.report.verdicts import Pair, as_table


def statements(shown: Sequence[Pair]) -> list[RenderableType]:
    """Sentences on every pair; a table of them where they are many, with each reason told once."""
    if not as_table(shown):
        return [part for pair in shown for part in (_statement(pair), *_bullets(pair.diagnosis))]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(f"against {shown[0].baseline}"), overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for title in ("decode speed", "end to end"):
        table.add_column(title, justify="right", overflow="fold")
    table.add_column("output", overflow="fold")
    for pair in shown:
        verdict = Text(pair.verdict, style=STYLES.get(pair.verdict, ""))
        table.add_row(Text(pair.candidate), verdict, Text(pair.speedup), Text(pair.end_to_end), pair.agreement)
    told: set[str] = set()
    why: list[RenderableType] = []
    for pair in shown:
        new = [sentence for sentence in pair.diagnosis if sentence not in told]
        told.update(new)
        why += [Text(pair.candidate), *_bullets(new)] if new else []
    return [table, Text(f"decode speed with its {shown[0].interval}\n", style=GREYED), *why]


def _bullets(sentences: Sequence[str]) -> list[RenderableType]:
    """One line a sentence, longer ones indented below their bullet; an empty line ends them."""
    if not sentences:
        return []
    lines = Table.grid(padding=(0, 1))
    for sentence in sentences:
        lines.add_row("•", Text(sentence))
    return [lines, Text()]


def _statement(pair: Pair) -> Text:
    end_to_end = f"End to end, prefill included: {pair.end_to_end}."
    agreement = f"Agreement: {pair.agreement} ({pair.agreement_detail})."
    if pair.not_a_result is not None:
        return Text.assemble(
            (f"\nnot a result: {pair.not_a_result}\n", "bold red"),
            (f"{pair.measured}\n{agreement}\n", GREYED),
        )
    return Text.assemble(
        ("\n" + pair.verdict, f"bold {STYLES.get(pair.verdict, '')}".strip()),
        ": ",
        (pair.sentence, "bold"),
        f".\n{end_to_end}\n{agreement}\n",
    )


def reference_lines(record: RunRecord) -> list[Text]:
    """How far each arm is from the same model in a wider type, one line per arm."""
    names = arm_names(record.arms)
    lines = []
    for each in record.references:
        if each.max_rel_logit_diff is None or each.kl is None:
            distance = "not known, the logits are not finite numbers"
        else:
            distance = (
                f"{each.max_rel_logit_diff:.1e} of the largest logit, KL up to {each.kl:.1e} nats, the likeliest token"
                f" differs {each.argmax_flips} times in {each.steps} steps"
            )
        lines.append(Text(f"{names[each.arm]} against recompute in {each.dtype}: {distance}", style=GREYED))
    return lines
