"""What a configuration must satisfy before anything is loaded: ranges of single keys, then keys against each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any

from kvbench.capabilities import INTERRUPTED, MODES, quantization_conflict
from kvbench.config.arms import check_arms, device_type, modes_of
from kvbench.config.own_models import check_own_model
from kvbench.config.schema import AXES, Config, ModelConfig
from kvbench.errors import ConfigError, Mistyped

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
FOLDER_NAME = re.compile(r"[^/\\\0]+")

# With a minimum of 2 blocks the final 95 % interval covers 88 %, with 5 it covers 93 %, with the default 8 it covers
# 94 % (simulated: tests/unit/test_coverage.py).
LEAST_FOR_PRECISION = 5
LEAST_LENGTHS = 4  # a law of three terms, and one to hold it against
LEAST_FOR_AUDIT = 5  # as for any verdict

# Spellings that people and YAML use for the same value.
ALIASES = {
    "model.dtype": {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"},
    "check.agreement": {"true": "few", "false": "none", "on": "few", "off": "none"},
}


def check(config: Config) -> None:
    """Raise `ConfigError` naming the key, the value got and the values allowed; resolve aliases in place."""
    _apply_aliases(config)
    for key, value, metadata in settings(config):
        _check_range(key, value, metadata)
    _check_model(config.model)
    _check_workload(config)
    _check_places(config)
    _check_quantization(config)
    check_arms(config)
    check_own_model(config)
    _check_interruptions(config)
    _check_scaling(config)
    _check_frontier(config)
    _check_measure(config)
    _check_trace(config)
    _check_reference(config)
    _check_launch(config)


def settings(part: Any, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every leaf of a configuration dataclass as (dotted key, value, metadata)."""
    for field in fields(part):
        value = getattr(part, field.name)
        key = prefix + field.name
        if is_dataclass(value):
            yield from settings(value, key + ".")
        elif isinstance(value, list) and value and all(is_dataclass(item) for item in value):
            for index, item in enumerate(value):
                yield from settings(item, f"{key}[{index}].")
        else:
            yield key, value, dict(field.metadata)


def unknown_key(key: str) -> ConfigError:
    """The error for a key that does not exist, with the nearest one that does."""
    known = [name for name, _, _ in settings(Config())]
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "`python -m kvbench --help` lists the keys"
    return ConfigError(f"{key}: no such key; {hint}")


def _apply_aliases(config: Config) -> None:
    config.model.dtype = ALIASES["model.dtype"].get(config.model.dtype, config.model.dtype)
    agreement = config.check.agreement.lower()
    config.check.agreement = ALIASES["check.agreement"].get(agreement, agreement)
    config.report = config.report.lower()


def _check_range(key: str, value: Any, metadata: dict[str, Any]) -> None:
    if value is None or not metadata:
        return
    if metadata["choices"] is not None and value not in metadata["choices"]:
        raise Mistyped(f"{key}={value}: not known; allowed: {', '.join(map(str, metadata['choices']))}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ConfigError(f"{key}={value}: must be a finite number")
    if metadata["minimum"] is not None and value < metadata["minimum"]:
        raise ConfigError(f"{key}={value}: must be at least {metadata['minimum']}")
    if metadata["above"] is not None and value <= metadata["above"]:
        raise ConfigError(f"{key}={value}: must be above {metadata['above']}")
    if metadata["maximum"] is not None and value > metadata["maximum"]:
        raise ConfigError(f"{key}={value}: must be at most {metadata['maximum']}")


def _check_model(model: ModelConfig) -> None:
    if model.weights == "hub" and not model.id:
        raise ConfigError("model.id is not set: a model from the hub needs one, such as model.id=Qwen/Qwen3-0.6B")
    if model.weights == "path" and not model.path:
        raise ConfigError("model.path is not set: name a transformers folder, such as model.path=./my-model")
    if model.weights == "random" and not (model.architecture or model.id or model.path):
        raise ConfigError("model.weights=random needs a shape: choose a ready model, or set model.id or model.path")
    if model.sensors != "none" and not model.virtual_time:
        raise ConfigError(f"model.sensors={model.sensors}: lives in virtual time; set model.virtual_time=true")
    if model.device_map and model.weights in ("random", "scripted"):
        raise ConfigError(f"model.device_map={model.device_map}: not with model.weights={model.weights}; leave it out")


def _check_quantization(config: Config) -> None:
    name = config.model.quantization
    if name != "none" and config.model.weights == "scripted":
        raise ConfigError(f"model.quantization={name}: the scripted model has no weights; leave it out")
    device = device_type(config)
    if device is not None and (conflict := quantization_conflict(name, device)):
        raise ConfigError(conflict)


def _check_workload(config: Config) -> None:
    workload = config.workload
    sources = {name: getattr(workload, name) for name in ("prompt", "prompts", "prompt_tokens")}
    given = [f"workload.{name}={value}" for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: give one of them; prompt_tokens cuts the bundled text")
    if workload.prompt == "":
        raise ConfigError("workload.prompt is empty: write some text")
    if workload.chat_template and workload.prompt_tokens is not None:
        raise ConfigError(
            "workload.chat_template=true: not with workload.prompt_tokens, which sets the length exactly; leave one out"
        )
    stop = workload.stop
    tokens = stop if isinstance(stop, list) else []
    is_tokens = tokens and all((type(item) is int and item >= 0) or (type(item) is str and item) for item in tokens)
    if stop not in ("ignore", "tokenizer") and not is_tokens:
        raise Mistyped(
            f"workload.stop={stop}: not known; allowed: ignore, tokenizer, or tokens such as [1,107] or ['<eod>']"
        )
    if config.model.weights == "scripted" and (stop == "tokenizer" or any(type(item) is str for item in tokens)):
        raise ConfigError(f"workload.stop={stop}: the scripted model has no tokenizer; allowed: ignore or [ids]")


def _check_interruptions(config: Config) -> None:
    steps, message = config.interrupt.steps, config.interrupt.message
    modes = modes_of(config)
    if not set(modes) & set(INTERRUPTED):
        if steps is not None or message is not None:
            key = "steps" if steps is not None else "message"
            raise ConfigError(f"interrupt.{key}: no arm is interrupted; set mode=interrupted or mode=resumed")
        return
    last = config.workload.new_tokens - 1
    outside = next((step for step in steps or () if not 1 <= step <= last), None)
    if outside is not None:
        raise ConfigError(
            f"interrupt.steps={steps}: {outside} is outside the run; with workload.new_tokens={last + 1} a step is"
            f" from 1 to {last}"
        )
    if steps == []:
        raise ConfigError("interrupt.steps=[]: name at least one step, or leave it out")
    if message == "" or (message is None and "resumed" in modes):
        raise ConfigError("interrupt.message: mode=resumed needs a text to go on with, such as interrupt.message=Why?")
    foreign = next((mode for mode in modes if not MODES[mode].ours), None)
    if message is not None and foreign is not None:
        raise ConfigError(f"interrupt.message: mode {foreign} cannot take a message in mid-run; leave that arm out")


def _check_scaling(config: Config) -> None:
    lengths = config.scaling.lengths
    if lengths is None:
        return
    if len(set(lengths)) < LEAST_LENGTHS or min(lengths) < 1:
        raise ConfigError(
            f"scaling.lengths={lengths}: a law of growth needs at least {LEAST_LENGTHS} different lengths of 1 or more"
        )
    workload = config.workload
    given = next((name for name in ("prompt", "prompts", "prompt_tokens") if getattr(workload, name) is not None), None)
    if given is not None:
        raise ConfigError(f"workload.{given}: not with scaling.lengths, which cut the bundled text; leave one out")
    if workload.stop != "ignore":
        raise ConfigError(f"workload.stop={workload.stop}: not with scaling.lengths, every step counts; use ignore")
    if set(modes_of(config)) & set(INTERRUPTED):
        raise ConfigError("scaling.lengths: not with an interrupted mode, whose steps are of several kinds")


def _check_frontier(config: Config) -> None:
    axes, workload, model = config.frontier.axes, config.workload, config.model
    if axes is None:
        return
    if not axes or len(set(axes)) < len(axes) or not set(axes) <= set(AXES):
        raise ConfigError(f"frontier.axes={axes}: not known; allowed: [context], [batch] or [context,batch]")
    if workload.prompt_tokens is None:
        raise ConfigError("frontier.axes: needs workload.prompt_tokens, the context at which batches are tried")
    if workload.prompt_tokens < workload.new_tokens:
        raise ConfigError(
            f"workload.prompt_tokens={workload.prompt_tokens}: with frontier.axes it is the whole context, so at least"
            f" workload.new_tokens={workload.new_tokens}"
        )
    killable = config.launch == "worker" or (model.weights == "scripted" and model.fail_with in ("error", "oom"))
    refusals = {
        "launch=inline: not with frontier.axes, nothing could end a try; use launch=worker": not killable,
        "frontier.axes: not with an interrupted mode, whose caches are lost on the way": bool(
            set(modes_of(config)) & set(INTERRUPTED)
        ),
        "frontier.axes: not with scaling.lengths, which time what this run only fits; leave one out": (
            config.scaling.lengths is not None
        ),
        "frontier.axes: not with audit=true, there are no blocks to audit; leave one out": config.audit,
        "frontier.axes: not with trace.probabilities=true, nothing is kept of a try's tokens; leave one out": (
            config.trace.probabilities
        ),
        "frontier.axes: not with model.device_map, whose devices have no common edge; leave one out": (
            model.device_map is not None
        ),
        "frontier.axes: not with measure.timeout_s; frontier.timeout_s ends a single try": (
            config.measure.timeout_s is not None
        ),
    }
    refusal = next((sentence for sentence, applies in refusals.items() if applies), None)
    if refusal is not None:
        raise ConfigError(refusal)


def _check_measure(config: Config) -> None:
    measure = config.measure
    if measure.stopping != "fixed" and measure.max_blocks < measure.blocks:
        raise ConfigError(f"measure.max_blocks={measure.max_blocks}: must be at least measure.blocks={measure.blocks}")
    if config.audit and measure.blocks < LEAST_FOR_AUDIT:
        raise ConfigError(
            f"measure.blocks={measure.blocks}: audit=true needs at least {LEAST_FOR_AUDIT}, fewer tell nothing"
        )
    if measure.stopping == "precision" and measure.blocks < LEAST_FOR_PRECISION:
        raise ConfigError(
            f"measure.blocks={measure.blocks}: stopping=precision needs at least {LEAST_FOR_PRECISION}; stopping on"
            " fewer takes luck for precision"
        )
    if measure.stopping == "precision" and len(modes_of(config)) == 1:
        raise ConfigError("measure.stopping=precision: needs two arms, its target is the speed-up's interval")


def _check_trace(config: Config) -> None:
    if not config.trace.probabilities:
        return
    if config.model.weights == "scripted":
        raise ConfigError("trace.probabilities=true: the scripted model has no probabilities; leave it out")
    if not config.measure.step_lane:
        raise ConfigError(
            "trace.probabilities=true: not with measure.step_lane=false, the throughput lane is never traced;"
            " set measure.step_lane=true"
        )


def _check_reference(config: Config) -> None:
    model, asked = config.model, f"check.reference={config.check.reference}"
    if config.check.reference == "none":
        return
    if model.weights == "scripted":
        raise ConfigError(f"{asked}: the scripted model has no logits; leave it out")
    if config.check.agreement == "none":
        raise ConfigError(f"{asked}: not with check.agreement=none, it needs steps; set check.agreement=few or full")
    if model.quantization != "none":
        raise ConfigError(
            f"{asked}: not with model.quantization={model.quantization}, whose weights have no wider type; leave one of"
            " them out"
        )
    if model.device_map:
        raise ConfigError(
            f"{asked}: not with model.device_map={model.device_map}, the copy is on one device; leave one of them out"
        )


def _check_launch(config: Config) -> None:
    if config.measure.timeout_s is not None and config.launch == "inline":
        raise ConfigError(
            f"measure.timeout_s={config.measure.timeout_s:g}: not with launch=inline, where nothing could end the run;"
            " leave one of them out"
        )


def _check_places(config: Config) -> None:
    if not DEVICE.fullmatch(config.device):
        raise Mistyped(f"device={config.device}: not known; allowed: auto, cpu, cuda, cuda:N, mps")
    if config.name is not None and (
        not FOLDER_NAME.fullmatch(config.name) or PurePath(config.name).name != config.name
    ):
        raise ConfigError(f"name={config.name}: must be a single folder name")
    if not config.results_dir:
        raise ConfigError("results_dir is empty: name a folder")
