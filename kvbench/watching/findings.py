"""What the passes of a script show: findings by code, with the figures that their sentences take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from kvbench.watching.generations import WHOLE, Generation, common_prefix
from kvbench.watching.seen_pass import Observation

Argument = str | int | float

ENOUGH_STEPS = 8  # fewer say little about a step's time
SAME_TIME = 1.1  # steps whose times differ by less take as long as each other
GROWN = 1.3  # times as many positions in the last steps as in the first
LARGE_LOGITS = 16 * 2**20  # bytes of a prompt's logits that are worth a sentence
OFTEN = 0.5  # per step: what happens at every second step happens because of the loop
FEW_DECODES = 4
FEW_LOOKS = 2  # gaps between passes in which moves were looked at
AGAIN = 3  # times as many tokens decoded as were written
MANY_CASTS = 8  # per step: a sampler may change the type of the logits, a loop that casts more casts weights
MOSTLY_OUTSIDE = 0.5
LEAST_PREFIX = 16  # tokens: less is a begin token and the words with which every prompt begins


@dataclass(frozen=True)
class Finding:
    """Something that was seen. `change` says whether its sentence ends with what to change."""

    code: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    generations: tuple[int, ...] = ()  # their numbers, from 0
    change: bool = True
    experiment: str | None = None  # the kvbench experiment that measures what it costs


Numbered = Sequence[tuple[int, Generation]]


def findings_of(seen: Observation, generations: Sequence[Generation]) -> list[Finding]:
    """Everything that was found, what matters most first."""
    if not generations:
        raised = sum(each.ended is None for each in seen.passes)
        return [Finding("only_errors", {"passes": raised}) if raised else Finding("nothing_seen")]
    numbered = list(enumerate(generations))
    decoding = [each for each in numbered if each[1].kind == "decoding"]
    looks = (
        _ways(seen, decoding),
        _carried_over(numbered),
        _prefixes(decoding, numbered),
        _masks(decoding),
        _inside(decoding),
        _bypassed(seen, numbered),
        _gradients(decoding),
        _training_mode(seen, decoding),
        _logits(seen, decoding),
        _between(seen, decoding),
        _outside(decoding),
        _flat(decoding),
        _compared(decoding),
        _no_decoding(numbered),
    )
    return [finding for look in looks for finding in look]


# How each step comes by its past.

SENTENCE_OF_WAY = {
    "dropped": "cache_dropped",
    "beside": "text_beside_cache",
    "fresh": "new_cache_each_step",
    "rebuilt": "cache_rebuilt",
    "mixed": "mixed",
}
EXPERIMENT_OF_WAY = {"dropped": "habits", "rebuilt": "interruption"}


def _code_of(seen: Observation, generation: Generation) -> str:
    way = generation.way
    if way == "nothing":
        if generation.first.call is not None:
            return "cache_off_in_generate" if generation.first.call.use_cache is False else "no_cache_in_generate"
        return "nothing_passed" if generation.first.takes_cache else "no_cache_argument"
    if way == "forgotten":
        return "past_forgotten" if seen.model.is_transformers else "past_inside"
    if way in ("used", "several"):
        call = generation.first.call
        if way == "several" or (call is not None and call.assisted):
            return "assisted"
        return "beams" if call is not None and call.beams > 1 else "cache_used"
    return SENTENCE_OF_WAY[way]


def _ways(seen: Observation, decoding: Numbered) -> Iterator[Finding]:
    by_code: dict[str, list[tuple[int, Generation]]] = {}
    for number, generation in decoding:
        by_code.setdefault(_code_of(seen, generation), []).append((number, generation))
    right = ("cache_used", "beams", "assisted", "past_inside")
    for code, found in sorted(by_code.items(), key=lambda item: item[0] in right):
        every = [generation for _, generation in found]
        first = every[0].first
        arguments: dict[str, Argument] = {
            "argument": next(
                (each.cache_argument for one in every for each in one.passes if each.cache_argument),
                seen.model.cache_argument or "cache",
            ),
            "site": _at(first.site),
            "passes": sum(len(each.passes) for each in every),
            "steps": sum(len(each.steps) for each in every),
            "tokens": sum(each.tokens * each.rows for each in every),
            "positions": sum(each.positions for each in every),
            "needed": sum(each.positions_with_cache or each.positions for each in every),
            "without": sum(_without_cache(each) for each in every),
            "whole_passes": sum(each.counted[way] for each in every for way in WHOLE),
            "rows": first.rows,
            "beams": 1 if first.call is None else first.call.beams,
            "tokens_per_step": sum(each.tokens_per_step for each in every) / len(every),
            "cache": next((one.cache_class for each in every for one in each.passes if one.cache_class), "cache"),
        }
        experiment = EXPERIMENT_OF_WAY.get(every[0].way)
        yield Finding(code, arguments, _numbers(found), change=code not in right, experiment=experiment)


def _without_cache(generation: Generation) -> int:
    """Positions of a loop that submits the whole text at every step."""
    prompt = generation.past_at_start + generation.prompt
    return generation.rows * sum(prompt + grown for grown in range(generation.tokens))


# One cache for several texts, and one text for several caches.


def _carried_over(numbered: Numbered) -> Iterator[Finding]:
    by_code: dict[str, list[tuple[int, Generation]]] = {}
    for (_, before), (number, generation) in pairwise(numbered):
        first = generation.first
        if first.cache is None or not generation.past_at_start:
            continue
        known = {each.cache for each in before.passes} | {each.returned for each in before.passes}
        if first.cache not in known:
            continue
        common = common_prefix(before.first.ids, first.ids)
        if before.first.ids is not None and common == before.first.ids.shape[1] and not before.past_at_start:
            code = "history_beside_cache"
        else:
            code = "cache_shared" if common else "cache_kept"
        by_code.setdefault(code, []).append((number, generation))
    for code, found in by_code.items():
        _, generation = found[0]
        arguments: dict[str, Argument] = {
            "held": generation.past_at_start,
            "submitted": generation.first.submitted,
            "site": _at(generation.first.site),
            "times": len(found),
        }
        yield Finding(code, arguments, _numbers(found), experiment="conversation" if code != "cache_shared" else None)


def _prefixes(decoding: Numbered, numbered: Numbered) -> Iterator[Finding]:
    """Turns that compute the beginning of their text again, although an earlier one had it in a cache."""
    found, repeated, submitted = [], 0, 0
    for number, generation in decoding:
        if generation.past_at_start or generation.way not in ("used", "several"):
            continue
        best = 0
        for earlier, other in numbered[:number]:
            ids = other.first.ids
            common = common_prefix(ids, generation.first.ids)
            # The same prompt again is a repetition, such as a benchmark's.
            if common < generation.first.submitted and common >= min(LEAST_PREFIX, other.first.submitted):
                best = max(best, common if earlier < number else 0)
        if best:
            found.append((number, generation))
            repeated, submitted = repeated + best, submitted + generation.first.submitted
    if found:
        arguments: dict[str, Argument] = {
            "turns": len(found),
            "repeated": repeated,
            "submitted": submitted,
            "site": _at(found[0][1].first.site),
        }
        yield Finding("prefix_again", arguments, _numbers(found), experiment="conversation")


# What makes a step wrong.


def _masks(decoding: Numbered) -> Iterator[Finding]:
    for number, generation in decoding:
        for each, way in zip(generation.passes, generation.ways, strict=True):
            length = each.mask_length
            if way == "used" and length is not None and isinstance(each.past, int):
                whole = each.past + each.submitted
                if length < whole:
                    yield Finding("short_mask", {"length": length, "whole": whole}, (number,))
                    return


def _inside(decoding: Numbered) -> Iterator[Finding]:
    """Steps of a plain module that compute the past again inside, as far as they were looked into."""
    for number, generation in decoding:
        text = generation.prompt + generation.past_at_start
        for each, way in zip(generation.passes, generation.ways, strict=True):
            if way in ("used", "forgotten") and each.computed is not None and 2 * (each.computed - 1) > text:
                yield Finding("computed_inside", {"computed": each.computed, "submitted": each.submitted}, (number,))
                return


def _bypassed(seen: Observation, numbered: Numbered) -> Iterator[Finding]:
    if seen.model.wrapper == "torch.compile" and all(
        each.through > 0 for _, generation in numbered for each in generation.passes
    ):
        yield Finding("compiled_bypassed", {"passes": len(seen.passes)}, _numbers(numbered))


# What a step does beside what it must.


def _gradients(decoding: Numbered) -> Iterator[Finding]:
    found = [each for each in decoding if any(one.gradients for one in each[1].steps)]
    if found:
        passes = sum(one.gradients for _, generation in found for one in generation.passes)
        yield Finding("gradients", {"passes": passes}, _numbers(found), experiment="habits")


def _training_mode(seen: Observation, decoding: Numbered) -> Iterator[Finding]:
    found = [each for each in decoding if any(one.training_mode for one in each[1].steps)]
    if not found:
        return
    if seen.model.checkpointing and any(each[1].way == "nothing" for each in found):
        yield Finding("checkpointing", {}, _numbers(found))
    elif seen.model.dropout:
        yield Finding("training_mode", {}, _numbers(found))


def _logits(seen: Observation, decoding: Numbered) -> Iterator[Finding]:
    every_step, prompts = [], []
    for number, generation in decoding:
        steps = [each for each in generation.steps if (each.logits_positions or 0) > 1]
        speculative = generation.counted["several"] > 0
        if steps and not speculative and len(steps) >= OFTEN * len(generation.steps):
            every_step.append((number, generation))
        elif (generation.first.logits_positions or 0) > 1 and generation.first.logits_bytes >= LARGE_LOGITS:
            prompts.append((number, generation))
    remedy = "keep" if seen.model.keeps_logits else "model"
    if every_step:
        passes = [each for _, generation in every_step for each in generation.steps]
        arguments: dict[str, Argument] = {
            "computed": sum(each.rows * (each.logits_positions or 0) for each in passes),
            "needed": sum(each.rows for each in passes),
            "bytes": max(each.logits_bytes for each in passes),
        }
        yield Finding(f"all_logits_{remedy}", arguments, _numbers(every_step), experiment="habits")
    if prompts:
        first = max((generation.first for _, generation in prompts), key=lambda each: each.logits_bytes)
        arguments = {"computed": first.logits_positions or 0, "bytes": first.logits_bytes}
        yield Finding(f"prompt_logits_{remedy}", arguments, _numbers(prompts))


def _between(seen: Observation, decoding: Numbered) -> Iterator[Finding]:
    yield from _reads(seen, decoding)
    found = [
        each
        for each in decoding
        if each[1].between("decodes") >= FEW_DECODES
        and each[1].between("decoded") >= AGAIN * each[1].tokens * each[1].rows
    ]
    if found:
        arguments = {name: sum(one.between(name) for _, one in found) for name in ("decoded", "decodes")}
        tokens = sum(one.tokens * one.rows for _, one in found)
        yield Finding("decoded_again", {**arguments, "tokens": tokens}, _numbers(found), experiment="habits")
    often = [each for each in decoding if each[1].between("encodes") >= OFTEN * len(each[1].steps) > OFTEN]
    if often:
        count, steps = sum(one.between("encodes") for _, one in often), sum(len(one.steps) for _, one in often)
        yield Finding("encoded_again", {"count": count, "steps": steps}, _numbers(often))
    yield from _moves("moves", OFTEN, seen.move_sites, decoding)
    yield from _moves("casts", MANY_CASTS, seen.cast_sites, decoding)


def _moves(name: str, least: float, sites: Mapping[tuple[str, str], int], decoding: Numbered) -> Iterator[Finding]:
    """Moves or casts, of the steps behind which they were looked at."""
    found, count, looked = [], 0, 0
    for number, generation in decoding:
        gaps = [each.gap for each in generation.passes[1:] if each.gap.looked]
        changed = sum(getattr(gap, name) for gap in gaps)
        if len(gaps) >= FEW_LOOKS and changed >= least * len(gaps):
            found.append((number, generation))
            count, looked = count + changed, looked + len(gaps)
    if found:
        arguments: dict[str, Argument] = {"per_step": count / looked, "looked": looked, "site": _most_common(sites)}
        yield Finding(name, arguments, _numbers(found))


def _reads(seen: Observation, decoding: Numbered) -> Iterator[Finding]:
    found, count, steps = [], 0, 0
    for number, generation in decoding:
        # What generate itself looks at is its own affair; in a loop by hand it is the loop's.
        by_hand = generation.first.call is None
        reads = generation.between("reads") + (generation.between("library_reads") if by_hand else 0)
        if reads >= OFTEN * len(generation.steps) and len(generation.steps) > 1:
            found.append((number, generation))
            count, steps = count + reads, steps + len(generation.steps)
    if found:
        arguments: dict[str, Argument] = {
            "reads": count,
            "steps": steps,
            "per_step": count / steps,
            "site": _most_common(seen.read_sites),
            "device": seen.model.device,
        }
        code = "host_reads" if seen.model.device.startswith("cpu") else "host_reads_on_device"
        yield Finding(code, arguments, _numbers(found), experiment="habits")


def _outside(decoding: Numbered) -> Iterator[Finding]:
    found = [each for each in decoding if len(each[1].steps) >= ENOUGH_STEPS]
    wall = sum(generation.wall_s for _, generation in found)
    outside = wall - sum(generation.model_s for _, generation in found)
    if wall and outside > MOSTLY_OUTSIDE * wall:
        steps = sum(len(generation.passes) for _, generation in found)
        arguments = {"share": outside / wall, "outside_s": outside / steps, "step_s": (wall - outside) / steps}
        yield Finding("time_outside", arguments, _numbers(found))


# What the times say of the cache.


def _flat(decoding: Numbered) -> Iterator[Finding]:
    """Steps that submit more and more and take as long as before."""
    for number, generation in decoding:
        steps = [each for each in generation.steps if each.computed is None]
        third = len(steps) // 3
        if generation.way not in WHOLE or third < ENOUGH_STEPS // 2:
            continue
        few, many = steps[:third], steps[-third:]
        positions = [median(each.submitted for each in part) for part in (few, many)]
        seconds = [median(each.seconds for each in part) for part in (few, many)]
        if positions[1] >= GROWN * positions[0] and max(seconds) <= SAME_TIME * min(seconds):
            arguments = {
                "few": positions[0], "many": positions[1], "few_s": seconds[0], "many_s": seconds[1],
            }  # fmt: skip
            yield Finding("flat_steps", arguments, (number,), experiment="best_arms")
            return


def _compared(decoding: Numbered) -> Iterator[Finding]:
    """A generation with a cache and one without, in one watch: what the cache saved, in positions and in time."""
    enough = [each for each in decoding if len(each[1].steps) >= ENOUGH_STEPS]
    kept = [each for each in enough if each[1].way == "used"]
    whole = [each for each in enough if each[1].way in WHOLE]
    for number, with_cache in kept:
        for other, without in whole:
            if (with_cache.rows, with_cache.first.submitted) != (without.rows, without.first.submitted):
                continue
            fast, slow = with_cache.step_seconds or 0.0, without.step_seconds or 0.0
            if not fast or not slow:
                continue
            same = slow / fast <= SAME_TIME
            arguments = {
                "positions": without.positions / max(1, with_cache.positions),
                "times": slow / fast,
                "with_s": fast,
                "without_s": slow,
            }
            code = "saved_no_time" if same else "saved_time"
            yield Finding(code, arguments, (number, other), change=same, experiment="best_arms" if same else None)
            return


# What is no decoding.


def _no_decoding(numbered: Numbered) -> Iterator[Finding]:
    training = [each for each in numbered if each[1].kind == "training"]
    if training:
        builds = any(one.returned is not None for _, generation in training for one in generation.passes)
        code = "training_builds_cache" if builds else "training"
        passes = sum(len(generation.passes) for _, generation in training)
        yield Finding(code, {"passes": passes}, _numbers(training), change=builds)
    single = [each for each in numbered if each[1].kind == "single"]
    if single:
        passes = sum(len(generation.passes) for _, generation in single)
        yield Finding("single_passes", {"passes": passes}, _numbers(single), change=False)


def _numbers(found: Iterable[tuple[int, Any]]) -> tuple[int, ...]:
    return tuple(number for number, _ in found)


def _at(site: str | None) -> str:
    return f" ({site})" if site else ""


def _most_common(sites: Mapping[tuple[str, str], int]) -> str:
    if not sites:
        return ""
    method, where = max(sites, key=lambda site: sites[site])
    return f" ({method} at {where})"
