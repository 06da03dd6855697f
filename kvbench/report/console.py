"""A run, or a table of runs, in the terminal. Everything is plain text first; colour only repeats what words say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text as RichText

from kvbench.arm import arm_names
from kvbench.records.run_record import Check, RunRecord
from kvbench.report.console_figures import GREYED, STYLES, arm_notes, arms_table, growth, turns, what_fits
from kvbench.report.first_screen import first_screen, of_medians, output_sentences, title_of, workload_of
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_modes, run_name
from kvbench.report.prose import Text
from kvbench.report.rescored import rescore_sentences
from kvbench.report.run_facts import shape_rows
from kvbench.report.sentences import checked, explained, joined, named, own_words, say, word
from kvbench.report.verdicts import Pair, as_table, headlines, pairs, run_kind, run_word, status_reason
from kvbench.text import UNKNOWN, one_line, printable

# What pairs of arms say in the terminal, and how far each arm is from a wider type.


def statements(shown: Sequence[Pair]) -> list[RenderableType]:
    """Sentences on every pair; a table of them where they are many, with each reason told once."""
    if not as_table(shown):
        return [part for pair in shown for part in (_statement(pair), *_bullets(pair.diagnosis))]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(say("head.against", baseline=shown[0].baseline)), overflow="fold")
    table.add_column(say("head.verdict"), no_wrap=True)
    for code in ("head.decode-speed", "head.end-to-end"):
        table.add_column(Text(say(code)), justify="right", overflow="fold")
    table.add_column(say("head.output"), overflow="fold")
    for pair in shown:
        verdict = Text(word(pair.verdict), style=STYLES.get(pair.verdict, ""))
        table.add_row(
            Text(pair.candidate), verdict, Text(pair.speedup), Text(pair.end_to_end), Text(word(pair.agreement))
        )
    told: set[str] = set()
    why: list[RenderableType] = []
    for pair in shown:
        new = [sentence for sentence in pair.diagnosis if sentence not in told]
        told.update(new)
        why += [Text(pair.candidate), *_bullets(new)] if new else []
    return [table, Text(say("terminal.with-interval", interval=shown[0].interval) + "\n", style=GREYED), *why]


def _bullets(sentences: Sequence[str]) -> list[RenderableType]:
    """One line a sentence, longer ones indented below their bullet; an empty line ends them."""
    if not sentences:
        return []
    lines = Table.grid(padding=(0, 1))
    for sentence in sentences:
        lines.add_row("•", Text(sentence))
    return [lines, Text()]


def _statement(pair: Pair) -> RenderableType:
    detail = explained("agreement", pair.agreement_detail)
    agreement = say("terminal.output", candidate=pair.candidate, verdict=word(pair.agreement), detail=detail) + "\n"
    if pair.not_a_result is not None:
        return Text.assemble(
            (f"\n{say('terminal.not-a-result', reason=pair.why_not)}\n", "bold red"),
            (f"{pair.measured}\n{agreement}", GREYED),
        )
    return Text(f"\n{agreement}", style=GREYED)


def reference_lines(record: RunRecord) -> list[Text]:
    """How far each arm is from the same model in a wider type, one line per arm."""
    names = arm_names(record.arms)
    lines = []
    for each in record.references:
        if each.max_rel_logit_diff is None or each.kl is None:
            distance = say("terminal.reference.unknown")
        else:
            distance = say(
                "terminal.reference.distance",
                rel=f"{each.max_rel_logit_diff:.1e}",
                kl=f"{each.kl:.1e}",
                flips=each.argmax_flips,
                steps=each.steps,
            )
        said = say("terminal.reference", name=names[each.arm], dtype=each.dtype, distance=distance)
        lines.append(Text(said, style=GREYED))
    return lines


def _rescored(record: RunRecord) -> list[Text]:
    return [Text(f"{sentence}\n") for sentence in rescore_sentences(record)]


# One run: its figures, what it says, how it ended, and what the model returned.


def comparison_table(record: RunRecord) -> RenderableType:
    """One column per arm with its figures, what every pair of arms says, and last what the run was made to find out."""
    if not record.arms:
        return Text(say("terminal.nothing-measured"), style=GREYED)
    if record.frontier is not None:
        return what_fits(record)
    answers = [*statements(pairs(record)), *reference_lines(record), *_rescored(record), *growth(record)]
    return Group(arms_table(record), *arm_notes(record), *turns(record), *answers)


def answer(record: RunRecord) -> RenderableType:
    """What the run answers, whether the output is the same, and how it ended: the last thing that is shown."""
    screen, shown, status = first_screen(record), pairs(record), run_word(record)
    lines = []
    if run_kind(record) == "speed-up" and record.valid and shown and not as_table(shown):
        usable = [pair for pair in shown if pair.not_a_result is None]
        lines += [_verdict_of(pair) for pair in usable]
        for comparison, pair in zip(record.comparisons, shown, strict=True):
            lines += map(Text, of_medians(record, comparison, pair.speedup.partition(" ")[0]))
        lines += [
            Text(say("answer.some-not", candidate=pair.candidate, reason=pair.why_not))
            for pair in shown
            if pair not in usable
        ]
        lines += [Text(sentence) for sentence in output_sentences(shown)]
    else:
        lines += [Text(screen.sentence, style="bold"), *map(Text, screen.beside)]
    last = say("status", word=word(status), warnings=screen.warnings)
    return Group(*lines, Text(last, style=f"bold {STYLES.get(status, 'red')}"))


def _verdict_of(pair: Pair) -> Text:
    style = f"bold {STYLES.get(pair.verdict, '')}".strip()
    verdict, rest = word(pair.verdict), say("answer.with-prefill", figure=pair.end_to_end)
    said = say("terminal.verdict", verdict=verdict, sentence=pair.sentence)
    line = Text(joined(said, rest))
    line.stylize(style, 0, len(verdict))
    begin = line.plain.index(pair.sentence)
    line.stylize("bold", begin, begin + len(pair.sentence))
    return line


def verdict_panel(record: RunRecord) -> RenderableType:
    """VALID, INVALID, or how the run ended, with one line per check and per warning."""
    status = run_word(record)
    lines: list[RenderableType] = [_check_line(check) for check in record.checks]
    lines += [
        Text.assemble(
            ("! ", "yellow"), _told(named(warning.code), explained(f"warning.{warning.code}", warning.detail))
        )
        for warning in record.warnings
    ]
    if not record.valid and not any(not check.passed for check in record.checks):
        # A failed check says why by itself; any other end has only this sentence.
        lines.insert(0, Text(own_words(status_reason(record))))
    body = Group(*lines) if lines else Text(say("terminal.no-checks"))
    style = STYLES.get(status, "red")
    return Panel(body, title=Text(word(status), style=f"bold {style}"), title_align="left", border_style=style)


def whole_run(record: RunRecord) -> RenderableType:
    """Everything that the terminal shows of one run: its figures, its checks, and last its answer."""
    head = f"{run_name(record)}  {one_line(record.run_id)}"
    of_what = one_line(" · ".join(f"{name} {value}" for name, value in workload_of(record)))
    return Group(Text(head), Text(of_what), comparison_table(record), verdict_panel(record), answer(record))


def in_one_line(record: RunRecord) -> str:
    """The answer, whether the output is the same, and how the run ended."""
    screen = first_screen(record)
    said = joined(screen.sentence, *output_sentences(pairs(record)))
    return one_line(
        f"{title_of(record)}: {said} {say('status', word=word(run_word(record)), warnings=screen.warnings)}"
    )


def outcome_lines(record: RunRecord) -> list[str]:
    """How the run ended, its headlines a line each, and what a reader should know."""
    status = word(run_word(record))
    if not record.valid:
        return [_told(status, own_words(status_reason(record)))]
    told = [_told(status, each.sentence) for each in headlines(record)]
    return [*told, *(f"! {named(warning.code)}" for warning in record.warnings)]


def shapes_table(title: str, parts: Mapping[str, Any]) -> Table:
    """What the model returned in one pass."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=Text(f"\n{printable(title)}", style="bold"), title_justify="left"
    )
    table.add_column("", overflow="fold")
    for code in ("head.shape", "head.dimensions"):
        table.add_column(say(code), overflow="fold")
    table.add_column(say("head.type"), no_wrap=True)
    table.add_column(say("head.bytes"), justify="right", overflow="fold")
    for row in shape_rows(parts):
        table.add_row(*map(Text, (row.name, row.shape, printable(row.meaning), row.dtype, row.size)))
    return table


def _check_line(check: Check) -> RenderableType:
    line = _told(named(check.name), checked(check.name, check.detail, check.advice, passed=check.passed))
    return Text.assemble(("✓ ", "green") if check.passed else ("✗ ", "bold red"), line)


def _told(subject: str, text: str) -> str:
    return printable(say("terminal.told", subject=subject, text=text))


# A table of runs in the terminal, one row each.


@dataclass(frozen=True)
class RunRow:
    """What a table of runs says of one: a sweep of thousands keeps this instead of the records."""

    name: str
    modes: str
    prompt_tokens: str
    new_tokens: str
    batch_size: str
    speedups: RichText
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
        "" if record.valid else own_words(status_reason(record)),
    )


def runs_table(rows: Sequence[RunRow]) -> RenderableType:
    """One row per run."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(say("head.run"), overflow="fold", min_width=8)
    table.add_column(say("head.modes"), overflow="fold", min_width=len("(dynamic)"))
    for code in ("head.prompt", "head.new", "head.batch"):
        table.add_column(Text(say(code)), justify="right", overflow="fold")
    table.add_column(say("head.speedup"), justify="right", no_wrap=True)
    table.add_column(say("head.status"), no_wrap=True)
    for row in rows:
        told = (row.name, row.modes, row.prompt_tokens, row.new_tokens, row.batch_size)
        table.add_row(*map(Text, told), row.speedups, Text(word(row.word), style=STYLES.get(row.word, "red")))
    reasons = [Text(_told(f"{row.name} {word(row.word)}", row.reason)) for row in rows if row.reason]
    return Group(table, *reasons)


def _speedups(record: RunRecord) -> RichText:
    lines = [
        Text(pair.speedup) if pair.not_a_result is None else Text(say("terminal.no-result"), style=GREYED)
        for pair in pairs(record)
    ]
    return Text("\n").join(lines) if lines else Text(UNKNOWN)
