"""What a configuration must satisfy before anything is loaded: ranges of single keys, then keys against each other."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePath
from typing import Any

from kvbench.capabilities import INTERRUPTED, MODES, quantization_conflict
from kvbench.config.arms import check_arms, device_type, modes_of
from kvbench.config.effects import check_effects
from kvbench.config.own_models import check_own_model
from kvbench.config.schema import AXES, Config, ModelConfig, settings
from kvbench.config.spelling import unknown_value
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


def check(config: Config, named: Collection[str] = ()) -> None:
    """Raise `ConfigError` naming the key, the value got and the values allowed; resolve aliases in place.

    `named` are the keys that the caller's overrides name (see `config.effects`).
    """
    _apply_aliases(config)
    for key, value, metadata in settings(config):
        _check_range(key, value, metadata)
    _check_model(config.model)
    check_effects(config, named)
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


def _apply_aliases(config: Config) -> None:
    config.model.dtype = ALIASES["model.dtype"].get(config.model.dtype, config.model.dtype)
    agreement = config.check.agreement.lower()
    config.check.agreement = ALIASES["check.agreement"].get(agreement, agreement)
    config.report = config.report.lower()


def _check_range(key: str, value: Any, metadata: dict[str, Any]) -> None:
    if value is None or not metadata:
        return
    if metadata["choices"] is not None and value not in metadata["choices"]:
        raise unknown_value(key, value, metadata["choices"])
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


def _check_quantization(config: Config) -> None:
    name = config.model.quantization
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
        "frontier.axes: not with model.device_map, whose devices have no common edge; leave one out": (
            model.device_map is not None
        ),
    }
    refusal = next((sentence for sentence, applies in refusals.items() if applies), None)
    if refusal is not None:
        raise ConfigError(refusal)


def _check_measure(config: Config) -> None:
    measure = config.measure
    if measure.stopping == "precision" and measure.max_blocks < measure.blocks:
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
    if not config.measure.step_lane:
        raise ConfigError(
            "trace.probabilities=true: not with measure.step_lane=false, the throughput lane is never traced;"
            " set measure.step_lane=true"
        )


def _check_reference(config: Config) -> None:
    model, asked = config.model, f"check.reference={config.check.reference}"
    if config.check.reference == "none":
        return
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


def _check_places(config: Config) -> None:
    if not DEVICE.fullmatch(config.device):
        raise unknown_value("device", config.device, ("auto", "cpu", "cuda", "cuda:N", "mps"))
    if config.name is not None and (
        not FOLDER_NAME.fullmatch(config.name) or PurePath(config.name).name != config.name
    ):
        raise ConfigError(f"name={config.name}: must be a single folder name")
    if not config.results_dir:
        raise ConfigError("results_dir is empty: name a folder")
