"""What each arm wrote after the prompts of a run, and how sure the model was of its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.records.store import Hearer, StoredRun, read_prompts
from kvbench.report.sentences import enumerated, is_said, joined, say
from kvbench.text import UNKNOWN

if TYPE_CHECKING:
    import pyarrow


MOST_PROMPTS = 12  # enough to see what the model does; the rest is in the run folder
MOST_CHARACTERS = 1500  # of one text; a long prompt is cut in the middle, where it says least


@dataclass(frozen=True)
class Completion:
    """One text, and the arms that wrote it; `after` is what follows the model's end token, where a chat would stop."""

    arms: str
    text: str
    finish: str
    after: str = ""


@dataclass(frozen=True)
class Exchange:
    """One prompt with its completions, equal ones together."""

    prompt: str | None
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Produced:
    """The texts of a run; `note` says whether the arms agree and what is left out."""

    exchanges: tuple[Exchange, ...]
    note: str


def produced_texts(run: StoredRun, prompts: Sequence[str]) -> Produced:
    """What every arm wrote in its untimed pass, from these `prompts`, of which the run folder may hold fewer."""
    record = run.record
    count = max((len(arm.texts) for arm in record.arms), default=0)
    if not count:
        return Produced((), say("texts.none"))
    exchanges = tuple(
        Exchange(
            prompt=prompts[index] if index < len(prompts) else None,
            completions=_completions(run, index),
        )
        for index in range(min(count, MOST_PROMPTS))
    )
    return Produced(exchanges, _text_note(run, count))


def _completions(run: StoredRun, index: int) -> tuple[Completion, ...]:
    writers: dict[tuple[str, str, int], list[str]] = {}
    for name, arm in zip(arm_names(run.record.arms), run.record.arms, strict=True):
        if index < len(arm.texts):
            text = arm.texts[index]
            finish = arm.finish_reason[index] if index < len(arm.finish_reason) else ""
            end = arm.text_ends[index] if index < len(arm.text_ends) else len(text)
            writers.setdefault((text, finish, end), []).append(name)
    return tuple(
        Completion(enumerated(names), _shortened(text[:end]), _finish(finish), _shortened(text[end:]))
        for (text, finish, end), names in writers.items()
    )


def _finish(reason: str) -> str:
    """What ended a text; a reason that is not known as the record has it."""
    return say(f"finish.{reason}") if is_said(f"finish.{reason}") else reason


def _text_note(run: StoredRun, count: int) -> str:
    arms = run.record.arms
    parts = []
    if len(arms) > 1:
        same = all(arm.texts == arms[0].texts for arm in arms)
        parts.append(say("texts.same" if same else "texts.different"))
    if count > MOST_PROMPTS:
        parts.append(say("texts.first", shown=MOST_PROMPTS, count=count))
    parts.append(say("texts.untimed"))
    if any(0 <= end < len(text) for arm in arms for text, end in zip(arm.texts, arm.text_ends, strict=False)):
        parts.append(say("texts.after-end"))
    return joined(*parts)


def prompt_texts(run: StoredRun, tell: Hearer) -> tuple[str, ...]:
    """The first prompts as the page shows them; none where the run folder does not hold them."""
    return tuple(map(_shortened, read_prompts(run.folder, MOST_PROMPTS, tell)))


def _shortened(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    left_out = say("texts.left-out", count=f"{len(text) - 2 * half:,}")
    return f"{text[:half]}\n{left_out}\n{text[-half:]}"


# Token confidence of a run: the text of each traced arm as a heat map, and the tokens it was least sure of.


MOST_MAPPED_PROMPTS = 6  # with a heat map; the rest is in steps.parquet
MOST_TOKENS = 256  # of one heat map: a page of text
MOST_PAGE_TOKENS = 6000  # of all heat maps of a page together: one weighs about half a kilobyte
LEAST_CONFIDENT = 12
CONTEXT_CHARACTERS = 24  # shown before a token of the table

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Token:
    """One token of a heat map; `share` is its probability in whole percent, for its colour; None: not known."""

    text: str
    share: int | None
    first_choice: bool
    title: str
    stands_in: bool  # the text names a token that has none of its own, such as an end token


@dataclass(frozen=True)
class HeatMap:
    """One sequence, and the arms that wrote exactly these tokens."""

    arms: str
    tokens: tuple[Token, ...]
    left_out: int


@dataclass(frozen=True)
class TracedPrompt:
    """One prompt with its heat maps."""

    number: int
    prompt: str | None
    maps: tuple[HeatMap, ...]


@dataclass(frozen=True)
class Doubt:
    """One of the tokens that an arm was least sure of."""

    arms: str
    prompt: int
    step: int
    before: str
    token: str
    probability: str
    rank: str
    entropy: str
    alternatives: str


@dataclass(frozen=True)
class Confidence:
    """What the page says of a trace; `note` what is left out and how far the arms differ."""

    prompts: tuple[TracedPrompt, ...]
    doubts: tuple[Doubt, ...]
    note: str


def confidence(record: RunRecord, trace: pyarrow.Table, prompts: Sequence[str], *, of: int = 1) -> Confidence | None:
    """From the rows of the trace lane (`records.step_table`); None when there are none. `of` runs share the page."""
    if not trace.num_rows:
        return None
    names = arm_names(record.arms)
    count = max(trace["prompt"].to_pylist()) + 1
    shown = _rows_of_prompts(trace, min(count, MOST_MAPPED_PROMPTS))
    budget = MOST_PAGE_TOKENS // of
    maps: list[TracedPrompt] = []
    for prompt, sequences in shown.items():
        groups = _equal_sequences(sequences)
        room = min(MOST_TOKENS, budget // len(groups))
        if room == 0:
            break
        drawn = tuple(
            HeatMap(
                arms=enumerated([names[arm] for arm in arms]),
                tokens=tuple(_token(row) for row in sequences[arms[0]][:room]),
                left_out=max(0, len(sequences[arms[0]]) - room),
            )
            for arms in groups
        )
        budget -= sum(len(heat_map.tokens) for heat_map in drawn)
        maps.append(TracedPrompt(prompt + 1, prompts[prompt] if prompt < len(prompts) else None, drawn))
    return Confidence(tuple(maps), _doubts(trace, names), _map_note(len(maps), count, shown))


def _rows_of_prompts(trace: pyarrow.Table, count: int) -> dict[int, dict[int, list[Row]]]:
    """Prompt to arm to rows in the order of the steps, of the first prompts."""
    import pyarrow.compute

    first = trace.filter(pyarrow.compute.less(trace["prompt"], count))
    found: dict[int, dict[int, list[Row]]] = {}
    for row in first.sort_by([("prompt", "ascending"), ("arm", "ascending"), ("step", "ascending")]).to_pylist():
        found.setdefault(row["prompt"], {}).setdefault(row["arm"], []).append(row)
    return found


def _equal_sequences(sequences: Mapping[int, Sequence[Row]]) -> list[list[int]]:
    """The arms in groups that wrote the same tokens."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for arm, rows in sequences.items():
        groups.setdefault(tuple(row["token_id"] for row in rows), []).append(arm)
    return list(groups.values())


def _token(row: Row) -> Token:
    probability = row["probability"]
    text = row["token_text"]
    return Token(
        # A line's end gets a sign, or its colour would be seen on nothing.
        text=text.replace("\n", "⏎\n") or _name(row),
        share=None if probability is None else round(probability * 100),
        first_choice=row["rank"] == 1,
        title=say(
            "confidence.token",
            token=_quoted(text or _name(row)),
            probability=_share(probability),
            rank=f"{row['rank']:,}",
            entropy=_nats(row["entropy_nats"]),
            alternatives=_alternatives(row),
        ),
        stands_in=not text,
    )


def _name(row: Row) -> str:
    """What to call a token without a text: a part of a character, an end token."""
    known = (other["token_text"] for other in row["alternatives"] if other["token_id"] == row["token_id"])
    return next(known, "") or f"#{row['token_id']}"


def _doubts(trace: pyarrow.Table, names: Sequence[str]) -> tuple[Doubt, ...]:
    """The least probable tokens of all prompts, each with all the arms that chose it there."""
    import pyarrow.compute

    known = trace.filter(pyarrow.compute.is_valid(trace["probability"]))
    if not known.num_rows:
        return ()  # pyarrow before 26 cannot pick from nothing
    # Arms that agree share a row of the table, so as many times more are looked at.
    wanted = min(LEAST_CONFIDENT * len(names), known.num_rows)
    picked = known.take(pyarrow.compute.select_k_unstable(known, wanted, [("probability", "ascending")]))
    together: dict[tuple[int, int, int], list[Row]] = {}
    for row in sorted(picked.to_pylist(), key=lambda row: (row["probability"], row["prompt"], row["step"], row["arm"])):
        together.setdefault((row["prompt"], row["step"], row["token_id"]), []).append(row)
    return tuple(_doubt(trace, rows, names) for rows in list(together.values())[:LEAST_CONFIDENT])


def _doubt(trace: pyarrow.Table, rows: Sequence[Row], names: Sequence[str]) -> Doubt:
    row = rows[0]
    return Doubt(
        arms=say("confidence.all-arms")
        if len(rows) == len(names)
        else enumerated([names[arm] for arm in sorted(each["arm"] for each in rows)]),
        prompt=row["prompt"] + 1,
        step=row["step"],
        before=_text_before(trace, row),
        token=_in_one_line(row["token_text"] or _name(row)),
        probability=_share(row["probability"]),
        rank=f"{row['rank']:,}",
        entropy=_nats(row["entropy_nats"]),
        alternatives=_alternatives(row),
    )


def _text_before(trace: pyarrow.Table, row: Row) -> str:
    from pyarrow.compute import and_, equal, less

    same = and_(equal(trace["arm"], row["arm"]), equal(trace["prompt"], row["prompt"]))
    before = trace.filter(and_(same, less(trace["step"], row["step"]))).sort_by("step")
    text = _in_one_line("".join(before["token_text"].to_pylist()))
    return text if len(text) <= CONTEXT_CHARACTERS else f"…{text[-CONTEXT_CHARACTERS:]}"


def _map_note(drawn: int, count: int, shown: Mapping[int, Mapping[int, Sequence[Row]]]) -> str:
    parts = [
        say("confidence.note"),
    ]
    if difference := _largest_difference(shown):
        parts.append(say("confidence.shared", difference=difference))
    if drawn < count:
        parts.append(say("confidence.first", drawn=drawn, count=count))
    return joined(*parts)


def _largest_difference(shown: Mapping[int, Mapping[int, Sequence[Row]]]) -> str | None:
    """Between the probabilities of arms that wrote the same tokens; None when no two did."""
    differences = [
        abs(one["probability"] - other["probability"])
        for sequences in shown.values()
        for first, *others in _equal_sequences(sequences)
        for arm in others
        for one, other in zip(sequences[first], sequences[arm], strict=True)
        if one["probability"] is not None and other["probability"] is not None
    ]
    return f"{max(differences):.1g}" if differences else None


def _alternatives(row: Row) -> str:
    return enumerated(
        [f"{_quoted(other['token_text'])} {_share(other['probability'])}" for other in row["alternatives"]]
    )


def _quoted(text: str) -> str:
    return f"“{_in_one_line(text)}”"


def _in_one_line(text: str) -> str:
    return text.replace("\n", "⏎").replace("\t", "⇥")


def _share(probability: float | None) -> str:
    """A probability as people read it: not 100 % unless it is, and small ones with a digit that says something."""
    if probability is None:
        return UNKNOWN
    percent = probability * 100
    if percent == 0 or 1 <= percent <= 99:
        return f"{percent:.1f}\u00a0%"
    if percent < 1:
        return f"{percent:.2g}\u00a0%"
    return "100\u00a0%" if percent == 100 else f"{min(percent, 99.999):.3f}\u00a0%"


def _nats(entropy: float | None) -> str:
    return UNKNOWN if entropy is None else f"{entropy:.3f} nats"
