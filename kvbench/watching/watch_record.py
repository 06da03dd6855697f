"""The record of a watch: plain data that can be written as JSON, without any text or token of the script."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from kvbench.records.part import Part, figure
from kvbench.watching.findings import Finding
from kvbench.watching.generations import Generation
from kvbench.watching.seen_pass import Observation, SeenPass
from kvbench.watching.words import sentence

VERSION = 1


class PassRecord(Part):
    """One forward pass."""

    WHY_NULL = MappingProxyType(
        {
            "past": "the cache does not tell its length",
            "cache": "no cache was handed in",
            "returned": "no cache came back",
            "cache_class": "no cache was handed in",
            "mask_length": "no attention mask of two dimensions was handed in",
            "logits_positions": "the pass returned nothing that looks like logits",
            "computed": "looked at in the first passes of a plain module only",
            "model_s": "the pass raised an error",
            "moves": "looked at behind a few passes only, so that watching costs little",
            "casts": "looked at behind a few passes only, so that watching costs little",
        }
    )

    generation: int | None = figure("generation", "index", "none", "Number of the generation that it belongs to.")
    way: str | None = figure("way", "1", "none", "How it came by the text before it.")
    rows: int = figure("sequences", "count", "none", "Sequences in the batch.")
    submitted: int = figure("submitted", "tokens", "lower", "Positions submitted, per sequence.")
    past: int | None = figure("past", "tokens", "none", "Tokens in the cache that was handed in, per sequence.")
    cache: int | None = figure("cache", "index", "none", "Number of the cache object handed in.")
    returned: int | None = figure("returned cache", "index", "none", "Number of the cache object that came back.")
    cache_class: str | None = None
    mask_length: int | None = figure("mask", "tokens", "none", "Columns of the attention mask.")
    logits_positions: int | None = figure("logits", "tokens", "lower", "Positions with logits, per sequence.")
    computed: int | None = figure("computed", "tokens", "lower", "Positions that the model's weights met.")
    gradients: bool
    training_mode: bool
    began_s: float = figure("began", "s", "none", "Since the first pass of the watch.")
    model_s: float | None = figure("in the model", "s", "lower", "Time in the model: on a GPU between two events.")
    host_reads: int = figure("reads", "count", "lower", "Values read to the host since the pass before, by the script.")
    library_reads: int = figure("library reads", "count", "lower", "The same, inside transformers and torch.")
    reads_inside: int = figure("reads inside", "count", "lower", "Values read to the host within the pass.")
    moves: int | None = figure("moves", "count", "lower", "Tensors sent to another device since the pass before.")
    casts: int | None = figure("casts", "count", "lower", "Tensors changed in type since the pass before.")
    decoded: int = figure("decoded", "tokens", "lower", "Tokens made into text since the pass before.")


class GenerationRecord(Part):
    """Passes that continue one text, or one batch of texts."""

    WHY_NULL = MappingProxyType(
        {
            "positions_with_cache": "its steps submit several tokens at once, of which some may be refused",
            "step_s": "no decoding step followed the prompt",
            "site": "no line of a script could be found",
        }
    )

    kind: str
    way: str
    by_generate: bool
    site: str | None
    rows: int = figure("sequences", "count", "none", "Sequences in the batch.")
    passes: int = figure("passes", "count", "lower", "Forward passes.")
    prompt_tokens: int = figure("prompt", "tokens", "none", "Positions submitted before the first step, per sequence.")
    prompt_passes: int = figure("prompt passes", "count", "none", "Passes over the prompt: more than 1 in chunks.")
    past_at_start: int = figure("past", "tokens", "none", "Tokens in the cache before its first pass.")
    new_tokens: int = figure("new tokens", "tokens", "none", "Tokens written, per sequence; at least, if speculative.")
    positions: int = figure("positions", "tokens", "lower", "Positions submitted, over all sequences and passes.")
    positions_with_cache: int | None = figure(
        "positions with a cache", "tokens", "lower", "Positions where each token is submitted once."
    )
    first_pass_s: float = figure("first pass", "s", "lower", "Time of the first pass in the model.")
    step_s: float | None = figure("step", "s", "lower", "Median time of a step in the model.")
    model_s: float = figure("in the model", "s", "lower", "Time of all passes in the model.")
    wall_s: float = figure("wall", "s", "lower", "From the first pass to the end of the last on the wall clock.")


class FindingRecord(Part):
    """A finding with its sentence."""

    code: str
    text: str
    change: bool
    experiment: str | None
    generations: tuple[int, ...]
    arguments: dict[str, str | int | float]

    WHY_NULL = MappingProxyType({"experiment": "no experiment of kvbench measures it"})


class WatchRecord(Part):
    """Everything that a watch saw."""

    version: int
    model: str
    dtype: str
    device: str
    wall_s: float = figure("watched", "s", "none", "From the beginning of the watch to its end.")
    cost_s: float = figure("cost", "s", "lower", "Time of the watch's own code, measured by itself.")
    cost_share: float = figure("share", "ratio", "lower", "The same, of the time from the first pass to the last.")
    generations: tuple[GenerationRecord, ...]
    findings: tuple[FindingRecord, ...]
    passes: tuple[PassRecord, ...]


def recorded(seen: Observation, generations: Sequence[Generation], findings: Sequence[Finding]) -> WatchRecord:
    """The record of what was seen and found."""
    places = {
        id(each): (number, way)
        for number, generation in enumerate(generations)
        for each, way in zip(generation.passes, generation.ways, strict=True)
    }
    begin = seen.passes[0].began if seen.passes else 0.0
    ends = [each.ended for each in seen.passes if each.ended is not None]
    busy = max(ends) - begin if ends else 0.0
    return WatchRecord(
        version=VERSION,
        model=seen.model.name,
        dtype=seen.model.dtype,
        device=seen.model.device,
        wall_s=seen.wall_s,
        cost_s=seen.cost_s,
        cost_share=seen.cost_s / busy if busy else 0.0,
        generations=tuple(map(_generation, generations)),
        findings=tuple(map(_finding, findings)),
        passes=tuple(_pass(each, begin, *places.get(id(each), (None, None))) for each in seen.passes),
    )


def _generation(generation: Generation) -> GenerationRecord:
    return GenerationRecord(
        kind=generation.kind,
        way=generation.way,
        by_generate=generation.first.call is not None,
        site=generation.first.site,
        rows=generation.rows,
        passes=len(generation.passes),
        prompt_tokens=generation.prompt,
        prompt_passes=generation.prompt_passes,
        past_at_start=generation.past_at_start,
        new_tokens=generation.tokens,
        positions=generation.positions,
        positions_with_cache=generation.positions_with_cache,
        first_pass_s=generation.first.seconds,
        step_s=generation.step_seconds,
        model_s=generation.model_s,
        wall_s=generation.wall_s,
    )


def _finding(finding: Finding) -> FindingRecord:
    return FindingRecord(
        code=finding.code,
        text=sentence(finding),
        change=finding.change,
        experiment=finding.experiment,
        generations=finding.generations,
        arguments=dict(finding.arguments),
    )


def _pass(seen: SeenPass, begin: float, generation: int | None, way: Any) -> PassRecord:
    return PassRecord(
        generation=generation,
        way=way,
        rows=seen.rows,
        submitted=seen.submitted,
        past=seen.past,
        cache=seen.cache,
        returned=seen.returned,
        cache_class=seen.cache_class,
        mask_length=seen.mask_length,
        logits_positions=seen.logits_positions,
        computed=seen.computed,
        gradients=seen.gradients,
        training_mode=seen.training_mode,
        began_s=seen.began - begin,
        model_s=None if seen.ended is None else seen.seconds,
        host_reads=seen.gap.reads,
        library_reads=seen.gap.library_reads,
        reads_inside=seen.inside_reads,
        moves=seen.gap.moves if seen.gap.looked else None,
        casts=seen.gap.casts if seen.gap.looked else None,
        decoded=seen.gap.decoded,
    ).because({"generation": "the pass raised an error", "way": "the pass raised an error"})
