"""A run, or a folder of runs, in the terminal. Everything is plain text first; colour only repeats what words say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kvbench.printable import printable
from kvbench.records.schema import ArmRecord, Check, RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.formatting import UNKNOWN
from kvbench.report.frontier import TITLES, frontier_limit, frontier_rows, frontier_sentences
from kvbench.report.growth import BEYOND, MIXTURE, growth_arms, growth_rows, growth_sentences, law_text
from kvbench.report.growth import CAPTION as GROWTH_CAPTION
from kvbench.report.metrics import BY_KEY, unknown
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_modes, run_name
from kvbench.report.nulls import null_reason
from kvbench.report.shapes import shape_rows
from kvbench.report.turns import CAPTION, turn_arms, turn_rows
from kvbench.report.verdicts import Pair, as_table, pairs, run_word, status_reason

# The rows of the comparison: what the measurement is about, and what it costs.
SPEED_ROWS = ("ttft_s", "itl_s", "decode_tokens_per_s", "end_to_end_tokens_per_s")
LIMIT_ROWS = ("floor_s", "mbu", "mfu", "launch_s")
MEMORY_ROWS = ("weights_bytes", "peak_allocated_bytes", "device_used_bytes", "process_rss_bytes")
ACCOUNT = (
    "weights_bytes",
    "kv_cache_storage_bytes",
    "step_peak_bytes",
    "allocator_slack_bytes",
    "device_context_bytes",
    "kernels_bytes",
    "elsewhere_bytes",
    "unexplained_bytes",
)
MOST_COLUMNS = 4  # arms side by side on eighty characters
NARROW_COLUMNS = ("ttft_s", "itl_s", "peak_allocated_bytes", "kv_cache_bytes")
STYLES = {"VALID": "green", "FASTER": "green", "INVALID": "red", "SLOWER": "red", "AMBIGUOUS": "yellow"}
GREYED = "dim"


def comparison_table(record: RunRecord) -> RenderableType:
    """One column per arm with its figures, and below what every pair of arms says about the speed-up."""
    if not record.arms:
        return Text("nothing was measured", style=GREYED)
    if record.frontier is not None:
        return _frontier(record)
    table = _arms_as_columns(record) if len(record.arms) <= MOST_COLUMNS else _arms_as_rows(record)
    notes = [*_mixture(record), *_notes(record), *_ceilings_note(record), *_accounts(record)]
    answers = [*_statements(pairs(record)), *_references(record), *_growth(record)]
    return Group(table, *notes, *_turns(record), *answers)


def _frontier(record: RunRecord) -> RenderableType:
    """What fits; such a run has nothing else to show."""
    title = Text(f"what fits {frontier_limit(record)}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="")
    for name in TITLES:
        table.add_column(name, justify="right" if name in ("predicted", "found", "error") else "left", overflow="fold")
    for row in frontier_rows(record):
        table.add_row(*map(Text, astuple(row)))
    return Group(table, *map(Text, frontier_sentences(record)))


def _arms_as_columns(record: RunRecord) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    for name in arm_names(record):
        table.add_column(Text(name), justify="right", overflow="fold")
    for key in SPEED_ROWS:
        _add_metric(table, record, key)
    table.add_section()
    for key in MEMORY_ROWS:
        _add_metric(table, record, key)
    for key in ("joules_per_token", "trace_cost"):
        _add_metric(table, record, key)
    table.add_row(Text("KV cache"), *(Text(_cache_bytes(arm)) for arm in record.arms))
    table.add_section()
    for key in LIMIT_ROWS:
        _add_metric(table, record, key)
    bounds = [arm.limit.bound or UNKNOWN for arm in record.arms]
    if set(bounds) != {UNKNOWN}:
        table.add_row(Text("bound by"), *map(Text, bounds))
    return table


def _arms_as_rows(record: RunRecord) -> Table:
    """Fewer figures, for more arms than a terminal is wide."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    shown = [
        metric
        for metric in map(BY_KEY.__getitem__, NARROW_COLUMNS)
        if not all(unknown(metric, arm) for arm in record.arms)
    ]
    for metric in shown:
        table.add_column(metric.title, justify="right", overflow="fold")
    for name, arm in zip(arm_names(record), record.arms, strict=True):
        table.add_row(Text(name), *(Text(metric.show(arm)) for metric in shown))
    return table


def verdict_panel(record: RunRecord) -> RenderableType:
    """VALID, INVALID, or how the run ended, with one line per check and per warning."""
    word = run_word(record)
    lines = [_check_line(check) for check in record.checks]
    lines += [
        Text.assemble(("! ", "yellow"), printable(f"{warning.code}: {warning.detail}")) for warning in record.warnings
    ]
    if not record.valid and not any(not check.passed for check in record.checks):
        # A failed check says why by itself; any other end has only this sentence.
        lines.insert(0, Text(status_reason(record)))
    body = Group(*lines) if lines else Text("no checks were made")
    style = STYLES.get(word, "red")
    return Panel(body, title=Text(word, style=f"bold {style}"), title_align="left", border_style=style)


def outcome_lines(record: RunRecord) -> list[str]:
    """How the run ended, a line per pair of arms, and what a reader should know."""
    word = run_word(record)
    if not record.valid:
        return [f"{word}: {status_reason(record)}"]
    told = [f"{word}, {pair.verdict}: {pair.sentence}" for pair in pairs(record)]
    told = told or [f"{word}: {sentence}" for sentence in frontier_sentences(record)]
    told = told or [
        f"{word}: {name} {BY_KEY['decode_tokens_per_s'].show(arm)}"
        for name, arm in zip(arm_names(record), record.arms, strict=True)
    ]
    return [*told, *(f"! {warning.code}" for warning in record.warnings)]


@dataclass(frozen=True)
class RunRow:
    """What a table of runs says of one: a sweep of thousands keeps this instead of the records."""

    name: str
    modes: str
    prompt_tokens: str
    new_tokens: str
    batch_size: str
    speedups: Text
    word: str
    reason: str  # why it is not VALID


def run_row(record: RunRecord) -> RunRow:
    """What was decoded, the speed-up with its interval, and how it ended."""
    return RunRow(
        run_name(record),
        run_modes(record),
        prompt_tokens(record),
        new_tokens(record),
        batch_size(record),
        _speedups(record),
        run_word(record),
        "" if record.valid else status_reason(record),
    )


def runs_table(rows: Sequence[RunRow]) -> RenderableType:
    """One row per run."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold", min_width=8)
    table.add_column("modes", overflow="fold", min_width=len("(dynamic)"))
    for title in ("prompt", "new", "batch"):
        table.add_column(title, justify="right", overflow="fold")
    table.add_column("speed-up", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for row in rows:
        told = (row.name, row.modes, row.prompt_tokens, row.new_tokens, row.batch_size)
        table.add_row(*map(Text, told), row.speedups, Text(row.word, style=STYLES.get(row.word, "red")))
    reasons = [Text.assemble((f"{row.name} {row.word}: ", "bold"), row.reason) for row in rows if row.reason]
    return Group(table, *reasons)


def shapes_table(title: str, parts: Mapping[str, Any]) -> Table:
    """What the model returned in one pass."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(f"\n{title}", style="bold"), title_justify="left")
    table.add_column("", overflow="fold")
    for name in ("shape", "dimensions"):
        table.add_column(name, overflow="fold")
    table.add_column("type", no_wrap=True)
    table.add_column("bytes", justify="right", overflow="fold")
    for row in shape_rows(parts):
        table.add_row(*map(Text, (row.name, row.shape, printable(row.meaning), row.dtype, row.size)))
    return table


def _add_metric(table: Table, record: RunRecord, key: str) -> None:
    metric = BY_KEY[key]
    if all(unknown(metric, arm) for arm in record.arms):
        return  # the note below the table says why
    table.add_row(Text(metric.title), *(Text(metric.show(arm)) for arm in record.arms))


def _cache_bytes(arm: ArmRecord) -> str:
    walked, predicted = BY_KEY["kv_cache_bytes"], BY_KEY["kv_cache_predicted_bytes"]
    if unknown(walked, arm):
        return UNKNOWN
    if unknown(predicted, arm):
        return f"{walked.show(arm)} (not predicted)"
    equal = walked.read(arm) == predicted.read(arm)
    return f"{walked.show(arm)} {'(as predicted)' if equal else f'(predicted {predicted.show(arm)})'}"


def _notes(record: RunRecord) -> list[Text]:
    """Why a figure of the table is missing: one line per metric that no arm has."""
    reasons: dict[str, list[str]] = {}
    for key in (*SPEED_ROWS, *MEMORY_ROWS, "kv_cache_bytes"):
        metric = BY_KEY[key]
        if all(unknown(metric, arm) for arm in record.arms):
            reasons.setdefault(null_reason(record, metric.pointer(0)), []).append(metric.title)
    return [Text(f"{', '.join(titles)}: not known, {reason}", style=GREYED) for reason, titles in reasons.items()]


def _mixture(record: RunRecord) -> list[Text]:
    """What a table of medians is of, where the run has several lengths on purpose."""
    return [Text(f"{MIXTURE}\n", style=GREYED)] if record.growth else []


def _ceilings_note(record: RunRecord) -> list[Text]:
    """How to learn the floor, where it takes nothing but the machine's ceilings."""
    if record.ceilings is not None or all(arm.limit.flops is None for arm in record.arms):
        return []
    return [Text(f"floor, MBU, MFU: {null_reason(record, BY_KEY['floor_s'].pointer(0))}", style=GREYED)]


def _accounts(record: RunRecord) -> list[Text]:
    """Where the device's memory went, one line per arm that could be accounted for."""
    lines = []
    for name, arm in zip(arm_names(record), record.arms, strict=True):
        if arm.memory.reconciliation is not None:
            parts = " + ".join(f"{BY_KEY[key].title} {BY_KEY[key].show(arm)}" for key in ACCOUNT)
            used = BY_KEY["device_used_bytes"].show(arm)
            lines.append(Text(f"{name}: {parts} = {used} in use", style=GREYED))
    return lines[:MOST_COLUMNS]


def _turns(record: RunRecord) -> list[RenderableType]:
    """What each interruption cost; nothing for a run without any."""
    names = turn_arms(record)
    if not names:
        return []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(f"\n{CAPTION}"), title_justify="left", title_style="")
    for title in ("at new token", "context"):
        table.add_column(title, justify="right", overflow="fold")
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    rows = turn_rows(record)
    asked = any(row.paid_back != UNKNOWN for row in rows)
    if asked:
        table.add_column("paid back after", justify="right", overflow="fold")
    for row in rows:
        table.add_row(row.step, row.context, *map(Text, row.cells), *([row.paid_back] if asked else []))
    return [table]


def _growth(record: RunRecord) -> list[RenderableType]:
    """How a step grows with the context; nothing for a run that did not vary it."""
    if record.growth is None:
        return []
    title = Text(GROWTH_CAPTION if record.valid else f"not a result: {GROWTH_CAPTION}", style="bold")
    sentences = [Text(sentence) for sentence in growth_sentences(record)] if record.valid else []
    if len(record.arms) > MOST_COLUMNS:
        names = growth_arms(record)
        laws = [Text(f"{names[law.arm]}: {law_text(law)}", style=GREYED) for law in record.growth.laws]
        return [title, *laws, *sentences, Text()]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("", overflow="fold")
    for name in growth_arms(record):
        table.add_column(Text(name), justify="right", overflow="fold")
    rows = growth_rows(record)
    for row, after in zip(rows, (*rows[1:], None), strict=True):
        table.add_row(
            *map(Text, (row.title, *row.cells)), end_section=after is not None and after.section != row.section
        )
    beyond = [Text(BEYOND, style=GREYED)] if any(total.beyond_range for total in record.growth.totals) else []
    return [title, table, *beyond, *sentences, Text()]


def _statements(shown: Sequence[Pair]) -> list[RenderableType]:
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


def _references(record: RunRecord) -> list[Text]:
    """How far each arm is from the same model in a wider type, one line per arm."""
    names = arm_names(record)
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


def _check_line(check: Check) -> Text:
    if check.passed:
        return Text.assemble(("✓ ", "green"), printable(f"{check.name}: {check.detail}"))
    advice = f" → {check.advice}" if check.advice else ""
    return Text.assemble(("✗ ", "bold red"), printable(f"{check.name}: {check.detail}{advice}"))


def _speedups(record: RunRecord) -> Text:
    lines = [
        Text(pair.speedup) if pair.not_a_result is None else Text("not a result", style=GREYED)
        for pair in pairs(record)
    ]
    return Text("\n").join(lines) if lines else Text(UNKNOWN)
