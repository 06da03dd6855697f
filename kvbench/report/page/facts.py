"""What the page says about a run besides its figures: sentences, lists of facts, and how to run it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from itertools import groupby
from typing import Any

from kvbench.arm import arm_names
from kvbench.config.conf_files import yaml_text
from kvbench.model_folder import LOADED
from kvbench.records.run_record import RunRecord
from kvbench.report.lengths import (
    FRONTIER_HEADS,
    frontier_limit,
    frontier_rows,
    growth_arms,
    growth_rows,
)
from kvbench.report.names import device_name, null_reason
from kvbench.report.run_facts import shape_rows
from kvbench.report.sentences import diagnosed, enumerated, listed, own_words, say
from kvbench.report.verdicts import extra_memory_bytes
from kvbench.text import UNKNOWN, format_value, printable


@dataclass(frozen=True)
class Facts:
    """A table of names and values, such as the configuration."""

    title: str
    rows: tuple[tuple[str, str], ...]


def facts(record: RunRecord) -> tuple[Facts, ...]:
    """Everything known about a run besides its figures, as titled lists; empty ones are left out."""
    sources: tuple[tuple[str, Any], ...] = (
        ("facts.model", record.model),
        ("facts.environment", record.environment),
        ("facts.configuration", record.config),
        ("facts.shapes", _shapes(record)),
        ("facts.probes", _first_visits(record)),
        ("facts.outliers", _outliers(record)),
        ("facts.device", record.device_during and record.device_during.model_dump()),
        ("facts.host", record.host_checks and record.host_checks.model_dump()),
        ("facts.audits", _audits(record)),
        ("facts.sweep", record.sweep_audit and record.sweep_audit.model_dump()),
        ("facts.phases", {phase.name: f"{phase.seconds:.3g}" for phase in record.phases}),
        ("facts.stopping", None if record.stopping is None else record.stopping.model_dump()),
        ("facts.keys", record.keys.model_dump()),
    )
    return tuple(Facts(say(code), tuple(_flattened(source, ""))) for code, source in sources if source)


def _first_visits(record: RunRecord) -> dict[str, dict[str, str]]:
    """Arm by arm and attention by attention: a step at a length never seen before, and the same once more."""
    return {
        name: {
            say("probe.of", attention=probe.attention, length=probe.context_length): say(
                "probe.took",
                first=format_value(probe.first_itl_s, "s"),
                second=format_value(probe.second_itl_s, "s"),
            )
            for probe in arm.cold.probes or ()
        }
        for name, arm in zip(arm_names(record.arms), record.arms, strict=True)
        if arm.cold.probes
    }


def _outliers(record: RunRecord) -> dict[str, str]:
    return {
        name: say("outliers.kept", blocks=enumerated(list(map(str, arm.outlier_blocks))))
        for name, arm in zip(arm_names(record.arms), record.arms, strict=True)
        if arm.outlier_blocks
    }


def _audits(record: RunRecord) -> dict[str, str]:
    names = arm_names(record.arms)
    return {f"{names[audit.arm]}: {audit.name}": own_words(audit.detail) for audit in record.audits}


def _shapes(record: RunRecord) -> dict[str, dict[str, str]]:
    """Pass by pass, tensor by tensor."""
    return {name: {row.name: row.line for row in shape_rows(parts)} for name, parts in (record.shapes or {}).items()}


def _flattened(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Nested mappings as dotted names; everything else as its JSON, strings without their quotes."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flattened(item, f"{name}.{key}" if name else str(key))
    elif value is None:
        yield name, UNKNOWN
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Everything that is needed to run a measurement again.


FOLDER = "repeat-this"


@dataclass(frozen=True)
class Repeat:
    """Commands to type, the config.yaml that they read, and what it ran with."""

    commands: str
    config: str
    ran_with: tuple[tuple[str, str], ...]


def repeat(record: RunRecord) -> Repeat | None:
    """How to repeat a run; None for one that never had a configuration of its own."""
    if "workload" not in record.config:
        return None
    environment, workload = record.environment, record.workload
    versions = {name: environment.get(name) for name in ("torch", "transformers")}
    pins = [shlex.quote(f"{name}=={_public(str(version))}") for name, version in versions.items() if version]
    install = [f"pip install {' '.join(pins)}"] if pins else []
    is_loaded = (record.config.get("model") or {}).get("path") == LOADED
    again = say("repeat.from-python") if is_loaded else f"python -m kvbench --config-path {FOLDER}"
    commit = str(environment.get("git_commit") or UNKNOWN)
    ran_with = (
        ("kvbench", record.kvbench_version),
        (say("repeat.commit"), say("repeat.dirty", commit=commit) if environment.get("git_dirty") else commit),
        ("torch", str(versions["torch"] or UNKNOWN)),
        ("transformers", str(versions["transformers"] or UNKNOWN)),
        (say("workload.device"), device_name(record)),
        (say("repeat.prompts"), UNKNOWN if workload is None else workload.prompt_sha256),
    )
    return Repeat(
        commands="\n".join([*install, again]) + "\n",
        config=_readable_yaml(record),
        ran_with=tuple((name, printable(value)) for name, value in ran_with if value != UNKNOWN),
    )


def _public(version: str) -> str:
    """Without what a build appends, such as +cu130: no index holds that."""
    return printable(version.partition("+")[0])


def _readable_yaml(record: RunRecord) -> str:
    """As it is read by people; with escapes where it holds a character that could hide something from them."""
    text = yaml_text(record.config)
    return text if printable(text) == text else yaml_text(record.config, ascii_only=True)


# The answers of one run in sentences, each of them a part of the page.


@dataclass(frozen=True)
class Table:
    """The figures behind an answer: rows of text in groups that belong together, the first cell naming its row."""

    caption: str
    head: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...]


def growth_table(record: RunRecord) -> Table | None:
    """Steps, laws and totals of a run over several lengths."""
    rows = growth_rows(record)
    groups = tuple(tuple((row.title, *row.cells) for row in part) for _, part in groupby(rows, lambda row: row.section))
    beyond = record.growth is not None and any(total.beyond_range for total in record.growth.totals)
    caption = say("growth.caption.beyond", caption=say("growth.caption"), beyond=say("growth.beyond"))
    caption = caption if beyond else say("growth.caption")
    return Table(caption, ("", *growth_arms(record)), groups) if rows else None


def sizes_table(record: RunRecord) -> Table | None:
    """What fits, edge by edge."""
    rows = tuple(astuple(row) for row in frontier_rows(record))
    return Table(frontier_limit(record), tuple(map(say, FRONTIER_HEADS)), (rows,)) if rows else None


def why(record: RunRecord) -> tuple[str, ...]:
    """The diagnosis: each sentence once, with its candidate where several were compared."""
    names = arm_names(record.arms)
    said: dict[str, list[str]] = {}
    for comparison in record.comparisons:
        for sentence in comparison.diagnosis:
            text = diagnosed(sentence.code, sentence.text)
            said.setdefault(text, []).append(names[comparison.candidate_arm])
    return tuple(
        text
        if len(candidates) == len(record.comparisons)
        else say("terminal.told", subject=enumerated(candidates), text=text)
        for text, candidates in said.items()
    )


def memory(record: RunRecord) -> tuple[str, ...]:
    """What the caches hold beside the weights, and how much higher peaks are."""
    return (*_caches(record), *_peaks(record))


def _caches(record: RunRecord) -> Iterator[str]:
    """One sentence for all arms whose caches hold the same."""
    by_size: dict[tuple[int, int | None], list[str]] = {}
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        if arm.memory.kv_cache_bytes:
            by_size.setdefault((arm.memory.kv_cache_bytes, arm.memory.weights_bytes), []).append(name)
    for (cache, weights), names in by_size.items():
        yield say(
            "memory.cache",
            name=listed(names),
            cache=format_value(cache, "bytes"),
            weights=format_value(weights, "bytes"),
        )


def _peaks(record: RunRecord) -> Iterator[str]:
    """Told once where no peak is known for one reason."""
    names = arm_names(record.arms)
    unknown: dict[str, list[int]] = {}
    for number, comparison in enumerate(record.comparisons):
        place, against = comparison.candidate_arm, comparison.baseline_arm
        extra = extra_memory_bytes(record, comparison)
        if extra is None:
            without = [arm for arm in (place, against) if record.arms[arm].memory.peak_allocated_bytes is None]
            pointers = [f"/arms/{arm}/memory/peak_allocated_bytes" for arm in without]
            reason = null_reason(record, [*pointers, f"/comparisons/{number}/extra_memory_bytes"][0])
            unknown.setdefault(reason, []).append(number)
            continue
        yield say(
            "memory.less" if extra < 0 else "memory.more",
            candidate=names[place],
            baseline=names[against],
            figure=format_value(abs(extra), "bytes"),
        )
    for reason, numbers in unknown.items():
        pairs = [record.comparisons[number] for number in numbers]
        yield say(
            "memory.unknown",
            candidate=listed([names[pair.candidate_arm] for pair in pairs]),
            baseline=names[pairs[0].baseline_arm],
            reason=own_words(reason),
        )


def limits(record: RunRecord) -> tuple[str, ...]:
    """Where a floor is known: how far the step is from it and what it waits for."""
    return tuple(
        say(
            "limits.step",
            name=name,
            step=format_value(arm.itl_s.value, "s"),
            floor=format_value(arm.limit.floor_s, "s"),
            shares="".join(
                say("limits.share", title=title, share=format_value(share, "ratio"))
                for title, share in (("MBU", arm.limit.mbu), ("MFU", arm.limit.mfu))
                if share is not None
            ),
            bound="" if arm.limit.bound is None else say("limits.bound", bound=say(f"limits.{arm.limit.bound}")),
        )
        for name, arm in zip(arm_names(record.arms), record.arms, strict=True)
        if arm.limit.floor_s is not None
    )
