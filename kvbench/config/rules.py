"""What a configuration must satisfy wherever it is read: ranges, keys without effect, keys against each other.

What it needs of this machine is in `kvbench.readiness`, what it needs of the loaded model in
`kvbench.running.preconditions`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import PurePath
from typing import Any

from kvbench.arm import Arm, arm_conflict, device_conflict, too_short
from kvbench.capabilities import EAGER, INTERRUPTED, MODES, habits_of, quantization_conflict
from kvbench.config.conditions import GREEDY_TEMPERATURE, GREEDY_TOP_P
from kvbench.config.schema import AXES, MOST_BLOCKS, MOST_TOKENS, Config, ModelConfig
from kvbench.config.spelling import unknown_value
from kvbench.errors import ConfigError, Mistyped
from kvbench.options import settings
from kvbench.text import is_unicode, shortened

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
FOLDER_NAME = re.compile(r"[^/\\\0]+")
TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
LONGEST_PART, LONGEST_PATH = 255, 4000  # bytes; what Linux and macOS take, less what a run adds below
TEXTS = ("workload.prompt", "interrupt.message")  # somebody's own words, whatever they look like
ACCESS_TOKEN = re.compile(
    r"\b(hf|api_org)_[A-Za-z0-9]{20,}|\b(ghp|gho|github_pat|glpat|sk)[-_][\w-]{20,}|://[^/\s@:]*:[^/\s@]+@"
)
SECRET_NAME = re.compile(
    r"(^|_)(token|secret|passw(or)?d|passphrase|credentials?|(api|access|secret|private|auth)_?key)$", re.IGNORECASE
)
OF_ONE_ARM = re.compile(r"arms\[(\d+)\]\.")
CHECKPOINTS = ("hub", "path", "random")  # sources whose ready file may say more of a model than one of them needs
# Habits that are switched through arguments of transformers' models.
TRANSFORMERS_HABITS = ("all_logits", "dropped_cache")

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

    `named` are the keys that the caller's overrides name.
    """
    _apply_aliases(config)
    for key, value, metadata in settings(config):
        _check_range(key, value, metadata)
    _check_secrets(config)
    _check_model(config)
    check_effects(config, named)
    _check_workload(config)
    _check_places(config)
    _check_quantization(config)
    _check_proposals(config)
    _check_prefix(config)
    _check_arms(config)
    _check_tensor_parallel(config)
    _check_own_model(config)
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
    if not all(map(is_unicode, _strings(value))):
        raise ConfigError(f"{key}={shortened(str(value))}: holds bytes that are no UTF-8 text")
    if isinstance(value, list) and any(isinstance(item, (list, dict)) for item in value):
        raise ConfigError(f"{key}={shortened(str(value))}: a list of single values, not of lists or mappings")
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
    if any(abs(number) >= 2**63 for number in _integers(value)):
        raise ConfigError(f"{key}={shortened(str(value))}: a whole number must fit into 64 bits")


def _strings(value: Any) -> Iterator[str]:
    """Every text inside of a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _strings(item)


def _integers(value: Any) -> Iterator[int]:
    """Every whole number in a value, however deep."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, (list, tuple)):
        yield from (number for item in value for number in _integers(item))
    elif isinstance(value, dict):
        yield from (number for item in value.values() for number in _integers(item))


def check_effects(config: Config, named: Collection[str] = ()) -> None:
    """Raise `ConfigError` for the first key that is set where it has no effect.

    Set is what differs from the key's default, wherever it was set: a file's value that an override made useless is
    refused like a typed one, because the record would hold it as if it had counted. Only what describes a model may
    stand in its ready file without being used. `named` are the keys that the caller's overrides name.
    """
    arms = config.every_arm
    for key, value, metadata in settings(config):
        if value in (metadata["default"], metadata["off"]) or _describes(key, metadata, config, named):
            continue
        of_one = OF_ONE_ARM.match(key)
        about = arms if of_one is None else (arms[int(of_one[1])],)
        for condition in metadata["effective"]:
            if not condition.holds(config, about):
                words = {"key": key, "value": value, "config": config}
                remedy = condition.remedy.format(**words)
                raise ConfigError(
                    f"{_set(key, value, named)}: has no effect {condition.why.format(**words)};"
                    f" {remedy + ', or ' if remedy else ''}{_removal(key, metadata['default'], named)}"
                )


def _describes(key: str, metadata: dict[str, Any], config: Config, named: Collection[str]) -> bool:
    return bool(metadata["described"]) and config.model.weights in CHECKPOINTS and key not in named


def _set(key: str, value: Any, named: Collection[str]) -> str:
    """What was set: of a mapping the key that was typed, since the whole of it may fill the terminal."""
    if isinstance(value, dict):
        return max((each for each in named if each.startswith(f"{key}.")), key=len, default=key)
    return f"{key}={_shown(value)}"


def _removal(key: str, default: Any, named: Collection[str]) -> str:
    """How to take the value away: what came from a file is set back."""
    if not named or key in named or key.startswith("arms[") or isinstance(default, (list, dict)):
        return "remove it"
    return f"set {key}={'null' if default is None else _shown(default)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_secrets(config: Config) -> None:
    """Raise `Mistyped` for what would carry a secret into the record, which goes to others; it is not told again."""
    for key, value, _ in settings(config):
        if key not in TEXTS and any(ACCESS_TOKEN.search(text) for text in _strings(value)):
            raise Mistyped(
                f"{key}: holds what looks like an access token or a password, and records keep every value; for the hub"
                " use `hf auth login` or the variable HF_TOKEN"
            )
    for name, value in config.model.options.items():
        if isinstance(value, str) and SECRET_NAME.search(str(name)):
            raise Mistyped(
                f"model.options.{shortened(str(name))}: looks like a secret by its name, and records keep every value;"
                " have the factory read it from the environment"
            )


def _check_model(config: Config) -> None:
    model = config.model
    if model.weights == "hub" and not model.id:
        raise ConfigError("model.id is not set: a model from the hub needs one, such as model.id=Qwen/Qwen3-0.6B")
    if model.weights == "path" and not model.path:
        raise ConfigError("model.path is not set: name a transformers folder, such as model.path=./my-model")
    if model.weights == "random" and not (model.architecture or model.id or model.path):
        raise ConfigError("model.weights=random needs a shape: choose a ready model, or set model.id or model.path")
    if model.fail_with == "hang" and model.fail_at_step is not None and config.measure.timeout_s is None:
        raise ConfigError("model.fail_with=hang: would never end by itself; set measure.timeout_s=5, say")
    _check_drift(config)
    if model.sensors != "none" and not model.virtual_time:
        raise ConfigError(f"model.sensors={model.sensors}: lives in virtual time; set model.virtual_time=true")


def _check_drift(config: Config) -> None:
    """Raise `ConfigError` where a scripted model's times would fall to nothing, or below it."""
    drift, measure = config.model.drift, config.measure
    if drift >= 0:
        return
    most = {"fixed": measure.blocks, "precision": measure.max_blocks, "budget": MOST_BLOCKS}[measure.stopping]
    if 1 + drift * (most - 1) <= 0:
        raise ConfigError(
            f"model.drift={drift:g}: over {most} blocks the times would fall below 0;"
            f" use one above {-1 / (most - 1):.2g}"
        )


def _check_quantization(config: Config) -> None:
    name = config.model.quantization
    device = config.device_type
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


def _check_arms(config: Config) -> None:
    """Raise `ConfigError` for parts that make no arm, or none on the device that is asked for."""
    if config.arms is not None and not config.arms:
        raise ConfigError("arms=[]: name at least one arm, such as arms=[{mode: nocache},{mode: cached}]")
    for index, arm in enumerate(config.every_arm):
        conflict = arm_conflict(arm) or _conflict_with_run(arm, config)
        if conflict is not None:
            raise ConfigError(conflict if config.arms is None else f"arms[{index}]: {conflict}")
    chunk = config.workload.prefill_chunk
    lossy = next((arm.cache for arm in config.every_arm if arm.is_lossy), None)
    if chunk is not None and lossy is not None:
        raise ConfigError(
            f"workload.prefill_chunk={chunk}: a quantised cache takes later pieces as new tokens, and its bytes"
            f" are not predicted then: use another cache than {lossy}"
        )


def _conflict_with_run(arm: Arm, config: Config) -> str | None:
    """Why an arm cannot serve this run, or None when it can."""
    if config.device_type is not None and (conflict := device_conflict(arm, config.device_type)):
        return conflict
    if arm.repeats and config.model.device_map is not None:
        return f"engine {arm.engine} repeats passes on one device: leave model.device_map={config.model.device_map} out"
    if arm.repeats and config.frontier.axes is not None:
        return f"engine {arm.engine} would prepare every size that is tried: use engine=eager with frontier.axes"
    if config.model.weights == "scripted" and arm.is_lossy:
        return f"cache={arm.cache}: the scripted model has no keys to quantise; use cache=dynamic or static"
    scaling, new_tokens = config.scaling, config.workload.new_tokens
    if scaling.lengths:
        return too_short(arm, max(max(scaling.lengths) + new_tokens, min(scaling.lengths) + scaling.decode_tokens))
    if config.workload.prompt_tokens is not None:
        return too_short(arm, config.workload.prompt_tokens + new_tokens)
    return None


def _check_tensor_parallel(config: Config) -> None:
    """Raise `ConfigError` for what a model that is shared out over ranks cannot do."""
    model, ranks = config.model, config.model.tensor_parallel
    if ranks == 1:
        return
    asked = f"model.tensor_parallel={ranks}"
    refusals = {
        f"{asked}: not with model.device_map={model.device_map}, which spreads whole layers; leave one of them out": (
            model.device_map is not None
        ),
        f"{asked}: not with model.quantization={model.quantization}, whose weights cannot be cut; use"
        " model.quantization=none": model.quantization != "none",
        f"{asked}: not with launch=inline, each rank is a process of its own; use launch=worker": (
            config.launch == "inline"
        ),
        f"{asked}: not with frontier.axes, whose tries are of one device; leave one of them out": (
            config.frontier.axes is not None
        ),
        f"{asked}: not with check.reference={config.check.reference}, the copy is on one device; leave one of them"
        " out": config.check.reference != "none",
        f"{asked}: not with device={config.device}, each rank takes the GPU of its number; use device=cuda or cpu": (
            config.device == "mps" or ":" in config.device
        ),
    }
    refusal = next((sentence for sentence, applies in refusals.items() if applies), None)
    for arm in config.every_arm:
        refusal = refusal or _conflict_with_ranks(arm, asked)
    if refusal is not None:
        raise ConfigError(refusal)


def _conflict_with_ranks(arm: Arm, asked: str) -> str | None:
    """Why an arm cannot decode a model that is shared out over ranks, or None when it can."""
    if arm.engine != EAGER:
        return f"{asked}: not with engine={arm.engine}, which prepares the steps of one device; use engine=eager"
    kind = arm.cache_kind
    if kind is not None and (kind.lossy or kind.offloaded):
        return f"{asked}: not with cache={arm.cache}, which is known on one device alone; use cache=dynamic or static"
    if "autograd" in habits_of(arm.mode, arm.habit):
        return f"{asked}: not with the habit autograd, with which other code shares the layers; leave it out"
    return None


def _check_own_model(config: Config) -> None:
    """Raise `ConfigError` for what only transformers' models can do, and for a target that is none."""
    model = config.model
    if model.weights != "python":
        return
    _check_target(model)
    for arm in config.every_arm:
        if not MODES[arm.mode].ours:
            raise ConfigError(
                f"mode {arm.mode} is transformers' own generate(), which model=python has not; leave it out"
            )
        foreign = sorted(habits_of(arm.mode, arm.habit) & set(TRANSFORMERS_HABITS))
        if foreign:
            raise ConfigError(
                f"mode {arm.mode} has the habit {foreign[0]}, which is asked for by an argument of transformers'"
                " models; model=python has none: leave it out"
            )


def _check_target(model: ModelConfig) -> None:
    if model.target is None:
        raise ConfigError(
            "model.target is not set: name the factory of your model, such as model.target=package.module:factory"
        )
    if not TARGET.fullmatch(model.target):
        raise ConfigError(f"model.target={model.target}: must be of the form package.module:factory")


def _check_proposals(config: Config) -> None:
    """Raise `ConfigError` for what cannot be had of a mode whose passes check proposed tokens."""
    mode = next((mode for mode in config.modes if MODES[mode].proposes), None)
    if mode is None:
        return
    workload, sampling, model = config.workload, config.sampling, config.model
    engine = next((arm.engine for arm in config.every_arm if arm.mode == mode and arm.repeats), None)
    draws = sampling.temperature >= GREEDY_TEMPERATURE and sampling.top_p >= GREEDY_TOP_P
    refusals = {
        f"mode {mode} cannot be the first arm: it is compared with one without proposals; put mode generate first": (
            MODES[config.modes[0]].proposes
        ),
        f"engine={engine}: mode {mode} has passes of many shapes, which no engine but eager runs; leave it out": (
            engine is not None
        ),
        f"workload.batch_size={workload.batch_size}: generate checks proposals for one sequence at a time, so mode"
        f" {mode} needs workload.batch_size=1": workload.batch_size > 1,
        f"sampling.temperature={sampling.temperature:g}: mode {mode} draws other tokens than generate does from the"
        " same seed, so that they cannot be compared: set sampling.temperature=0": draws,
        f"workload.prefill_chunk={workload.prefill_chunk}: mode {mode} submits the prompt whole; leave one out": (
            workload.prefill_chunk is not None
        ),
        f"scaling.lengths: not with mode {mode}, whose passes make several tokens": config.scaling.lengths is not None,
        f"frontier.axes: not with mode {mode}, whose passes depend on what is written": (
            config.frontier.axes is not None
        ),
        f"trace.probabilities=true: not with mode {mode}, whose passes make several tokens; leave one of them out": (
            config.trace.probabilities
        ),
        f"audit=true: not with mode {mode}, whose time depends on what the prompts say; leave one of them out": (
            config.audit
        ),
        f"model.device_map={model.device_map}: not with mode assisted, whose draft is on one device": (
            model.device_map is not None and "assisted" in config.modes
        ),
        "assisted.model is empty: name a transformers folder, a hub id, or itself": not config.assisted.model,
        f"model.accepted={model.accepted}: must be a list of numbers of 0 or more": not (
            model.accepted is None or (model.accepted and min(model.accepted) >= 0)
        ),
    }
    refusal = next((sentence for sentence, applies in refusals.items() if applies), None)
    if refusal is not None:
        raise ConfigError(refusal)


def _check_prefix(config: Config) -> None:
    """Raise `ConfigError` for what cannot be had of mode=prefix, and for shared tokens that leave nothing else."""
    workload = config.workload
    shared, length = workload.shared_tokens, workload.prompt_tokens
    if shared is not None and length is not None and shared >= length:
        raise ConfigError(
            f"workload.shared_tokens={shared}: must be fewer than workload.prompt_tokens={length}, which counts them"
        )
    if "prefix" not in config.modes:
        return
    refusals = {
        "mode prefix cannot be the first arm: it is compared with one that shares nothing; put mode cached first": (
            config.modes[0] == "prefix" and len(config.modes) > 1
        ),
        "workload.batch_size=1: mode prefix shares what the sequences of a batch begin with; set a larger one": (
            workload.batch_size == 1
        ),
        f"workload.prefill_chunk={workload.prefill_chunk}: mode prefix has pieces of its own; leave one of them out": (
            workload.prefill_chunk is not None
        ),
        "scaling.lengths: not with mode prefix, whose steps are those of mode cached": (
            config.scaling.lengths is not None
        ),
        "frontier.axes: not with mode prefix, whose sizes are those of mode cached": config.frontier.axes is not None,
        "mode prefix copies transformers' caches, and model=python brings its own: leave it out": (
            config.model.weights == "python"
        ),
        "audit=true: not with mode prefix, which prompts in another order have none of; leave one of them out": (
            config.audit
        ),
        "mode prefix: not in an interrupted run, whose caches are lost or appended to; leave it out": bool(
            set(config.modes) & set(INTERRUPTED)
        ),
    }
    refusal = next((sentence for sentence, applies in refusals.items() if applies), None)
    if refusal is not None:
        raise ConfigError(refusal)


def _check_interruptions(config: Config) -> None:
    steps, message = config.interrupt.steps, config.interrupt.message
    modes = config.modes
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
    if max(lengths) > MOST_TOKENS:
        raise ConfigError(f"scaling.lengths={max(lengths)}: must be at most {MOST_TOKENS}")
    workload = config.workload
    if workload.stop != "ignore":
        raise ConfigError(f"workload.stop={workload.stop}: not with scaling.lengths, every step counts; use ignore")
    if set(config.modes) & set(INTERRUPTED):
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
            set(config.modes) & set(INTERRUPTED)
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
    if measure.stopping == "precision" and len(config.modes) == 1:
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
    _require_folder_name("name", config.name)
    if not config.results_dir:
        raise ConfigError("results_dir is empty: name a folder")
    _require_folder_name("model.name", config.model.name)
    for key, place in _places(config).items():
        if "\0" in place:
            raise ConfigError(f"{key}={shortened(place)}: no path holds a zero character")
        longest = max(len(os.fsencode(part)) for part in PurePath(place).parts or ("",))
        if longest > LONGEST_PART or len(os.fsencode(place)) > LONGEST_PATH:
            raise ConfigError(
                f"{key}={shortened(place)}: longer than any file system takes; at most {LONGEST_PART} bytes for each"
                f" part and {LONGEST_PATH} for the whole"
            )


def _places(config: Config) -> dict[str, str]:
    """The keys that hold a path, with those that are set."""
    keys = {
        "results_dir": config.results_dir,
        "name": config.name,
        "model.name": config.model.name,
        "model.path": config.model.path,
        "workload.prompts": config.workload.prompts,
    }
    return {key: place for key, place in keys.items() if place}


def _require_folder_name(key: str, name: str | None) -> None:
    """Raise `ConfigError` for a name that would lead out of results_dir, or below another run's folder."""
    if name is not None and (not FOLDER_NAME.fullmatch(name) or PurePath(name).name != name or name == ".."):
        raise ConfigError(f"{key}={shortened(name)}: must be a single folder name")
