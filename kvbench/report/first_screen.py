"""What a reader sees before scrolling: the run's title, its answer in one sentence, and what else must be known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvbench.arm import arm_names
from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.part import Speedup
from kvbench.records.run_record import Comparison, RunRecord
from kvbench.report.best import OF_ITSELF, best_of, with_interval
from kvbench.report.names import (
    batch_size,
    device_name,
    format_estimate,
    format_level,
    new_tokens,
    prompt_tokens,
    run_name,
)
from kvbench.report.sentences import (
    counted,
    enumerated,
    joined,
    listed,
    meaning,
    output_word,
    own_words,
    percent,
    recorded,
    say,
    word,
)
from kvbench.report.verdicts import Pair, headlines, is_result, pairs, run_kind, status_reason
from kvbench.text import UNKNOWN, format_value, printable

MOST_NAMED_ARMS = 3  # in a title


@dataclass(frozen=True)
class FirstScreen:
    """The answer: a figure in large letters with its interval in words, one sentence, and further ones beside it."""

    figure: str
    interval: str
    sentence: str
    beside: tuple[str, ...]
    not_results: tuple[str, ...]  # figures that were measured all the same, greyed
    warnings: str


def title_of(record: RunRecord) -> str:
    """The title that was asked for, else the run's name with its arms."""
    if asked := record.config.get("title"):
        return printable(str(asked))
    names = arm_names(record.arms)
    if not names:
        return run_name(record)
    if len(names) > MOST_NAMED_ARMS:
        return say("title.many-arms", name=run_name(record), count=len(names))
    return say("title.arms", name=run_name(record), arms=enumerated(names))


def workload_of(record: RunRecord) -> tuple[tuple[str, str], ...]:
    """What was decoded, on what: the line below the title."""
    model = record.model or {}
    candidates = (
        (say("workload.model"), str(model.get("name") or run_name(record))),
        (say("workload.dtype"), str(model.get("dtype") or UNKNOWN)),
        (say("workload.device"), device_name(record)),
        (say("workload.prompt-tokens"), prompt_tokens(record)),
        (say("workload.new-tokens"), new_tokens(record)),
        (say("workload.batch"), batch_size(record)),
    )
    return tuple((name, value) for name, value in candidates if value != UNKNOWN)


def first_screen(record: RunRecord) -> FirstScreen:
    """What the run answers; a run that is not VALID says why it does not."""
    shown = pairs(record)
    usable = [
        (comparison, pair)
        for comparison, pair in zip(record.comparisons, shown, strict=True)
        if is_result(record, comparison)
    ]
    kind = run_kind(record)
    told = [each for each in headlines(record) if UNKNOWN not in each.sentence]
    figure, interval, beside, reason = "", "", list[str](), ""
    if usable and (kind == "speed-up" or not told):
        comparison, pair = _headlined(usable)
        figure, interval = pair.speedup.partition(" ")[0], interval_in_words(comparison.speedup) or pair.interval
        sentence = _answer(comparison, pair, figure, usable)
        if comparison.verdict == "AMBIGUOUS":  # a number in large letters would be taken for the answer
            figure, interval = say("answer.large.AMBIGUOUS"), say("interval.of", figure=figure, interval=interval)
        beside.append(say("answer.end-to-end", figure=pair.end_to_end))
        beside += of_medians(record, comparison, pair.speedup.partition(" ")[0])
    elif record.valid and told:
        figure, interval, sentence = told[0].figure, told[0].interval, told[0].sentence
        beside += [each.sentence for each in told[1:]]
        over = "answer.over-all" if kind == "break-even" else "answer.over-run"
        beside += [
            say(over, candidate=pair.candidate, figure=pair.speedup, baseline=pair.baseline, verdict=word(pair.verdict))
            for _, pair in usable
        ]
    elif mismatched := [pair for pair in shown if pair.agreement == "MISMATCH"]:
        reason = status_reason(record).rstrip(".")
        names = listed([pair.candidate for pair in mismatched])
        sentence = say("answer.mismatch", names=names, baseline=mismatched[0].baseline)
    elif not record.valid:
        reason = status_reason(record).rstrip(".")
        sentence = _no_answer(record, reason)
    else:
        sentence = say("answer.no-result")
    refused = [
        pair for comparison, pair in zip(record.comparisons, shown, strict=True) if not is_result(record, comparison)
    ]
    beside += [
        say("answer.some-not", candidate=pair.candidate, reason=pair.why_not)
        for pair in refused
        if record.valid or not (str(pair.not_a_result) in reason or reason in str(pair.not_a_result))
    ]
    if record.valid or any(pair.agreement != UNKNOWN for pair in shown):
        beside += output_sentences(shown)
        if any(warning.code == "random_weights" for warning in record.warnings):
            beside.append(say("output.random-weights"))
    return FirstScreen(
        figure=figure,
        interval=interval,
        sentence=sentence,
        beside=tuple(beside),
        not_results=tuple(say("pair.greyed", measured=pair.measured) for pair in refused if pair.speedup != UNKNOWN),
        warnings=counted("warnings", len(record.warnings)) if record.warnings else say("warnings.none"),
    )


def _no_answer(record: RunRecord, reason: str) -> str:
    """Why there is none: what failed, in the language that is spoken, and the record's own reason."""
    if not reason:
        return (
            say("answer.not-valid", reason=say("answer.no-result").rstrip(".。"))
            if record.arms
            else say("answer.no-result")
        )
    failed = [check for check in record.checks if not check.passed]
    found = [recorded(f"check.{check.name}", printable(check.detail)) for check in failed]
    meant = (meaning(f"check.{check.name}.failed") for check in failed)
    told = [joined(*both) for both in zip(found, meant, strict=True)]
    said = joined(*told, "" if record.status == "invalid" and failed and all(found) else own_words(reason))
    return say("answer.not-valid", reason=said) if record.arms else say("answer.ended", reason=said)


MEDIANS_APART = 0.1  # relative difference from the speed-up from which the ratio of the medians is told


def of_medians(record: RunRecord, comparison: Comparison, figure: str) -> Iterator[str]:
    """Why the figure is not what the two rates below it seem to say, where a few blocks stand out."""
    rates = [record.arms[arm].decode_tokens_per_s.value for arm in (comparison.candidate_arm, comparison.baseline_arm)]
    value = comparison.speedup.value
    if value and rates[0] and rates[1] and abs(rates[0] / rates[1] / value - 1) > MEDIANS_APART:
        yield say("answer.medians", figure=figure, medians=format_value(rates[0] / rates[1], "times"))


def _headlined(usable: Sequence[tuple[Comparison, Pair]]) -> tuple[Comparison, Pair]:
    """The pair with the largest speed-up, of those that are known to be faster where there are some."""
    return max(usable, key=lambda each: (each[0].verdict == "FASTER", each[0].speedup.value or 0.0))


def _answer(comparison: Comparison, pair: Pair, figure: str, usable: Sequence[tuple[Comparison, Pair]]) -> str:
    said = {"candidate": pair.candidate, "baseline": pair.baseline, "figure": figure}
    if len(usable) == 1:
        return say(f"answer.{pair.verdict}", band=percent(RELEVANT_WITHIN_A_RUN), **said)
    if comparison.verdict != "FASTER":
        unclear = any(each.verdict == "AMBIGUOUS" for each, _ in usable)
        return say("answer.none-known" if unclear else "answer.none-faster", **said)
    count = len(usable) + 1
    known = [(each.speedup, other.candidate) for each, other in usable]
    best = best_of([*(with_interval(speedup) for speedup, _ in known), OF_ITSELF], "higher")
    alike = [name for place, (_, name) in enumerate(known) if place in best]
    if len(alike) > 1:
        return say("answer.fastest-alike", count=count, names=listed(alike), **said)
    return say("answer.fastest", count=count, **said)


def interval_in_words(speedup: Speedup) -> str:
    """Such as `95 % interval 3.38 to 3.47, 8 blocks`; empty without an interval."""
    _, _, ends = format_estimate(speedup, "times").partition(" [")
    if not ends:
        return ""
    low, high = ends.rstrip("]").split(", ")
    blocks = counted("blocks", speedup.n_blocks)
    return say("interval.blocks", level=format_level(speedup.level), low=low, high=high, blocks=blocks)


def output_sentences(shown: Sequence[Pair]) -> Iterator[str]:
    """One sentence for all arms that agree; others by name."""
    groups: dict[str, list[str]] = {}
    for pair in shown:
        groups.setdefault(output_word(pair.agreement), []).append(pair.candidate)
    for verdict, names in groups.items():
        if len(shown) == 1:
            yield say("output.one", word=verdict)
        elif len(names) == len(shown):
            yield say("output.all", count=len(names), baseline=shown[0].baseline, word=verdict)
        else:
            yield say("output.some", names=listed(names), word=verdict)
    if any(pair.agreement in ("MISMATCH", UNKNOWN) for pair in shown):
        yield say("output.no-speed")
