"""The configuration: one dataclass per group. Every option has its default, its meaning and its range here, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from kvbench import capabilities
from kvbench.config import conditions as when

MODES = tuple(capabilities.MODES)
CACHES = tuple(capabilities.CACHES)
QUANTIZATIONS = tuple(capabilities.QUANTIZATIONS)
ENGINES = tuple(capabilities.ENGINES)
COMPILE_MODES = tuple(capabilities.COMPILE_MODES)
KEPT = tuple(name for name in CACHES if name != capabilities.NO_CACHE)
ATTENTIONS = tuple(capabilities.ATTENTIONS)
HABITS = ("none", *capabilities.HABITS, capabilities.ALL_HABITS)
DTYPES = ("auto", "float64", "float32", "bfloat16", "float16")
SOURCES = ("hub", "path", "random", "embedded", "python", "scripted")
FAILURES = ("error", "oom", "crash", "hang")
AXES = ("context", "batch")
LARGEST_SEED = 2**63 - 1  # torch's generators take no more
MOST_THREADS = 4096  # torch starts as many as it is told, and dies of it
MOST_SEQUENCES = 65_536  # each is a prompt of its own, made before anything is predicted
SENSORS = ("none", "steady", "throttled", "throttled_once", "stalled", "zero", "vanishing", "host_pids")


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] | None = None,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    effective: tuple[when.Condition, ...] = (),
    off: Any = None,
    described: bool = False,
) -> Any:
    """A field with its meaning, its range, and when it has an effect.

    Parameters: `choices` lists the allowed values; `minimum` and `maximum` are inclusive bounds, `above` an
    exclusive one. A null value is always within range. Of `effective` all must hold, else a value other than the
    default and `off`, which asks for what happens anyway, is refused. What is `described` may also stand in a ready
    file of a model whose weights come from elsewhere (see `config.effects`).
    """
    metadata = {
        "help": help,
        "choices": choices,
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "default": default,
        "effective": effective,
        "off": off,
        "described": described,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def scripted(default: Any, help: str, **range_: Any) -> Any:
    """A `setting` of the scripted model. They describe one script, whichever of its times a run comes to spend."""
    return setting(default, f"scripted: {help}", effective=when.SCRIPTED, **range_)


@dataclass
class ModelConfig:
    """What is decoded."""

    name: str = setting("hub", "name in records and folders (a ready file sets it; model=hub derives it from the id)")
    id: str | None = setting(None, "hub id such as Qwen/Qwen3-0.6B", effective=when.NAMES_A_REPOSITORY, described=True)
    revision: str | None = setting(
        None,
        "commit, tag or branch of the hub repository (default: its main branch)",
        effective=when.NAMES_A_REPOSITORY,
        described=True,
    )
    weights: str = setting("hub", "where the weights come from; random needs no download", choices=SOURCES)
    path: str | None = setting(
        None,
        "a transformers folder, for model=path or model.weights=path",
        effective=when.NAMES_A_FOLDER,
        described=True,
    )
    target: str | None = setting(
        None,
        "a model of your own: package.module:factory, for model=python (protocol: kvbench/own_model.py)",
        effective=when.OWN_MODEL,
    )
    options: dict[str, Any] = setting(
        {}, "keyword arguments of the factory that model.target names", effective=when.OWN_MODEL
    )
    dtype: str = setting(
        "auto", "type of the weights; auto: what the checkpoint states", choices=DTYPES, effective=when.REAL_MODEL
    )
    quantization: str = setting(
        "none", "weights of linear layers in fewer bits", choices=QUANTIZATIONS, effective=when.QUANTIZABLE
    )
    device_map: str | None = setting(
        None,
        "auto spreads the weights over the devices through accelerate",
        choices=("auto",),
        effective=when.STORED_WEIGHTS,
    )
    trust_remote_code: bool = setting(
        False, "run the Python code that comes with a hub repository", effective=when.READS_A_CONFIG, described=True
    )
    architecture: dict[str, Any] = setting(
        {},
        "a transformers config as a mapping, used by model.weights=random; empty: read from the hub",
        effective=when.RANDOM_WEIGHTS,
        described=True,
    )
    prefill_s: float = scripted(0.010, "seconds of a prefill", above=0)
    cached_step_s: float = scripted(0.001, "seconds of a cached decode step", above=0)
    nocache_step_s: float = scripted(0.010, "seconds of a decode step without a cache", above=0)
    per_token_s: float = scripted(0.0, "seconds added to a decode step per token of context", minimum=0)
    nocache_per_token_s: float = scripted(
        0.0, "the same of a step without a cache alone, on top of per_token_s", minimum=0
    )
    nocache_per_token2_s: float = scripted(
        0.0, "seconds added to a step without a cache per squared token of context", minimum=0
    )
    launch_s: float = scripted(0.0, "seconds in which the host submits a step, which is no shorter", minimum=0)
    parameters: int | None = scripted(None, "weights of 2 bytes, all in matrices (default: none)", minimum=1)
    drift: float = scripted(0.0, "relative change of every time from one block to the next", above=-1)
    host_drift: float = scripted(
        0.0, "relative change of the host's checks from before the blocks to after them", above=-1
    )
    noise: float = scripted(0.0, "relative standard deviation of each step", minimum=0)
    unseen_length_s: float = scripted(
        0.0, "seconds added to a step at a length never seen before, unless attention is pinned", minimum=0
    )
    all_logits_s: float = scripted(
        0.0, "seconds that logits of every position add to a step without a cache", minimum=0
    )
    prepare_s: float = scripted(0.0, "seconds in which an engine other than eager prepares, once per arm", minimum=0)
    kernel: str | None = scripted(None, "name of the kernel that takes the device's time (default: none)")
    seed: int = setting(
        0,
        "scripted and random: seed of the noise, of the weights",
        minimum=0,
        maximum=LARGEST_SEED,
        effective=when.SEEDED_MODEL,
    )
    virtual_time: bool = scripted(True, "advance a virtual clock; false sleeps for real")
    fail_at_step: int | None = scripted(None, "fail at this decode step, counted over the whole run", minimum=1)
    fail_with: str = scripted("error", "how to fail", choices=FAILURES)
    memory_bytes: int | None = scripted(
        None, "bytes of its memory; a pass that needs more runs out of it, crashes or hangs (fail_with)", minimum=1
    )
    step_bytes_per_token: int = scripted(0, "bytes that a pass takes per submitted token", minimum=0)
    sensors: str = scripted("none", "the device's sensors, and how they misbehave", choices=SENSORS)


@dataclass
class ArmConfig:
    """One entry of `arms`; what is left out follows from its mode."""

    mode: str = setting("cached", "way of decoding", choices=MODES)
    cache: str | None = setting(
        None, "kind of cache", choices=CACHES, effective=when.CACHE_OF_OURS, off=capabilities.NO_CACHE
    )
    engine: str = setting("eager", "how the step is executed", choices=ENGINES, effective=when.TRANSFORMERS_MODEL)
    attention: str = setting(
        "auto", "attention implementation or pinned SDPA backend", choices=ATTENTIONS, effective=when.TRANSFORMERS_MODEL
    )
    habit: str = setting("none", "a habit of hand-written loops to look at, or all of them", choices=HABITS)
    compile_mode: str | None = setting(None, "engine=compiled: how", choices=COMPILE_MODES, effective=when.COMPILED)
    bucket: int | None = setting(
        None, "mode=nocache: passes are padded to multiples of so many tokens", minimum=1, effective=when.PADDED
    )
    cache_tokens: int | None = setting(
        None, "length of a static cache (default: what the run needs)", minimum=1, effective=when.STATIC_CACHE
    )


@dataclass
class WorkloadConfig:
    """What is decoded from, and how far."""

    prompts: str | None = setting(
        None, "file of prompts: text, one a line, or JSONL with the key prompt", effective=when.ONE_LENGTH
    )
    prompt: str | None = setting(None, "one prompt, as text", effective=when.ONE_LENGTH)
    prompt_tokens: int | None = setting(
        None, "cut or repeat the bundled text to exactly this many tokens", minimum=1, effective=when.ONE_LENGTH
    )
    new_tokens: int = setting(64, "tokens that each sequence gets, the first one included", minimum=2)
    batch_size: int = setting(
        1, "sequences decoded together", minimum=1, maximum=MOST_SEQUENCES, effective=when.GIVEN_BATCH
    )
    prefill_chunk: int | None = setting(
        None,
        "arms with a cache submit the prompt in pieces of so many tokens (default: whole)",
        minimum=1,
        effective=when.KEEPS_A_CACHE,
    )
    stop: Any = setting(
        "ignore",
        "ignore: exactly new_tokens come out; tokenizer: stop at its end token; or [tokens], ids or texts",
        effective=when.TIMED,
    )
    chat_template: bool = setting(False, "wrap each prompt with the tokenizer's chat template", effective=when.CHAT)


@dataclass
class SamplingConfig:
    """How the next token is chosen."""

    temperature: float = setting(0.0, "below 1e-5 is greedy", minimum=0, effective=when.REAL_MODEL)
    top_p: float = setting(
        1.0, "nucleus sampling; 1 keeps all, below 1e-8 is greedy", minimum=0, maximum=1, effective=when.WARM
    )
    top_k: int = setting(0, "sample among the k likeliest tokens; 0 keeps all", minimum=0, effective=when.DRAWS)
    repetition_penalty: float = setting(
        1.0, "divides the scores of tokens already seen; 1 does nothing", above=0, effective=when.REAL_MODEL
    )
    seed: int = setting(
        0, "seed of the draws, the same for every arm", minimum=0, maximum=LARGEST_SEED, effective=when.DRAWS
    )


@dataclass
class InterruptConfig:
    """Where mode=interrupted and mode=resumed are interrupted, and by what."""

    steps: list[int] | None = setting(
        None,
        "new tokens before which it happens (default: after a quarter, a half, three quarters of them)",
        effective=when.INTERRUPTED_ARM,
    )
    message: str | None = setting(
        None, "text inserted there; null: nothing is, the cache is merely lost", effective=when.INTERRUPTED_ARM
    )


@dataclass
class ScalingConfig:
    """How the time of a step grows with the context; see experiment=scaling."""

    lengths: list[int] | None = setting(
        None, "prompt lengths at which every mode is timed in one run, and a law of growth is fitted"
    )
    decode_tokens: int = setting(
        256,
        "tokens of one long generation from the shortest length, to hold the law against; 0: none",
        minimum=0,
        effective=when.SCALING,
    )


@dataclass
class FrontierConfig:
    """The largest sizes that fit; see experiment=frontier."""

    axes: list[str] | None = setting(
        None, "what is enlarged until it fails, in a run that times nothing: context, batch, or both"
    )
    resolution: float = setting(
        0.05,
        "relative width at which a search ends; 0: to the token, or the sequence",
        minimum=0,
        maximum=1,
        effective=when.FRONTIER,
    )
    memory_gib: float | None = setting(
        None,
        "memory that may be used (default: the device's; on the CPU 90 % of what is free)",
        above=0,
        effective=when.FRONTIER,
    )
    timeout_s: float = setting(
        60.0, "seconds after which a try counts as failed; loading is not counted", above=0, effective=when.FRONTIER
    )
    max_context: int | None = setting(
        None, "tokens at which a search ends (default: the model's context)", minimum=2, effective=when.CONTEXT_AXIS
    )
    max_batch: int | None = setting(
        None, "sequences at which a search ends (default: none)", minimum=1, effective=when.BATCH_AXIS
    )


@dataclass
class StreamConfig:
    """The text shown before the measurement."""

    interval: int = setting(
        1, "show the untimed text every so many tokens; 0 skips it", minimum=0, effective=when.TIMED, off=0
    )


@dataclass
class ShapesConfig:
    """What else the model is asked to return in the one untimed run that shapes are read from."""

    hidden_states: bool = setting(
        False, "shapes: also of every layer's hidden states", effective=when.TRANSFORMERS_MEASURED
    )
    attentions: bool = setting(
        False,
        "shapes: also of the attention weights, which takes eager attention for that run",
        effective=when.TRANSFORMERS_MEASURED,
    )


@dataclass
class CheckConfig:
    """What is verified besides the always-on proofs."""

    agreement: str = setting(
        "few",
        "teacher-forced comparison of the arms' logits: few steps, full, none",
        choices=("few", "full", "none"),
        effective=when.COMPARED,
        off="none",
    )
    reference: str = setting(
        "none",
        "also the distance of every arm from recompute in a wider type, which takes a second copy of the weights",
        choices=("none", "float32", "float64"),
        effective=when.REAL_MEASURED,
    )


@dataclass
class TraceConfig:
    """What is written down of every new token besides its id; off because it costs, and the cost is measured."""

    probabilities: bool = setting(
        False,
        "token confidence: probability of each new token, its rank, entropy and the likeliest alternatives",
        effective=when.REAL_MEASURED,
    )
    top_k: int = setting(5, "likeliest tokens that the trace keeps of every step", minimum=0, effective=when.TRACED)


@dataclass
class MeasureConfig:
    """How often, and until when."""

    blocks: int = setting(
        8, "measured blocks under stopping=fixed, the least under the others", minimum=1, effective=when.TIMED
    )
    warmup: int = setting(
        1, "unmeasured visits of every arm at the measured shapes", minimum=0, effective=when.TIMED, off=0
    )
    stopping: str = setting("fixed", "when to stop", choices=("fixed", "precision", "budget"), effective=when.TIMED)
    precision: float = setting(
        0.01,
        "stopping=precision: half-width of the speed-up's interval, relative",
        above=0,
        effective=when.TO_PRECISION,
    )
    max_blocks: int = setting(64, "stopping=precision: most blocks", minimum=1, effective=when.TO_PRECISION)
    budget_s: float = setting(
        60.0,
        "stopping=budget and precision: seconds of measuring after which no block starts",
        above=0,
        effective=when.TO_A_BUDGET,
    )
    timeout_s: float | None = setting(
        None,
        "seconds, loading included, after which a run is ended and its worker killed (default: never)",
        above=0,
        effective=when.KILLABLE,
    )
    energy_s: float = setting(
        3.0,
        "seconds of repeated generation per arm to read the energy counter over; 0: none",
        minimum=0,
        effective=when.TIMED,
        off=0,
    )
    step_lane: bool = setting(
        True, "also measure every step by itself, in visits of their own", effective=when.TIMED, off=False
    )
    seed: int = setting(
        0, "seed of the order in which a block visits the arms", minimum=0, maximum=LARGEST_SEED, effective=when.ORDERED
    )


@dataclass
class Config:
    """The whole configuration of one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    mode: str = setting(
        "both", "way of decoding; both: nocache and cached", choices=(*MODES, "both"), effective=when.SHORTHAND
    )
    cache: str = setting(
        "dynamic",
        "kind of cache of the arms that keep one",
        choices=KEPT,
        effective=(*when.SHORTHAND, *when.CACHE_OF_OURS),
    )
    engine: str = setting(
        "eager", "how a step is executed", choices=ENGINES, effective=(*when.SHORTHAND, *when.TRANSFORMERS_MODEL)
    )
    attention: str = setting(
        "auto",
        "attention implementation or pinned SDPA backend",
        choices=ATTENTIONS,
        effective=(*when.SHORTHAND, *when.TRANSFORMERS_MODEL),
    )
    compile_mode: str | None = setting(
        None,
        f"engine=compiled: how (default: {capabilities.USUAL_COMPILE_MODE})",
        choices=COMPILE_MODES,
        effective=(*when.SHORTHAND, *when.COMPILED),
    )
    bucket: int | None = setting(
        None,
        "pad passes without a cache to multiples of so many tokens (default: exact lengths;"
        f" {capabilities.USUAL_BUCKET} where an engine repeats passes)",
        minimum=1,
        effective=(*when.SHORTHAND, *when.PADDED),
    )
    cache_tokens: int | None = setting(
        None,
        "length of a static cache (default: what the run needs, up to a multiple of 64)",
        minimum=1,
        effective=(*when.SHORTHAND, *when.STATIC_CACHE),
    )
    arms: list[ArmConfig] | None = setting(
        None, "list of {mode, cache, engine, attention, habit, compile_mode, bucket, cache_tokens}, the baseline first"
    )
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    interrupt: InterruptConfig = field(default_factory=InterruptConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    frontier: FrontierConfig = field(default_factory=FrontierConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    shapes: ShapesConfig = field(default_factory=ShapesConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    trace: TraceConfig = field(default_factory=TraceConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    threads: int | None = setting(
        None, "CPU threads of torch (default: its own choice)", minimum=1, maximum=MOST_THREADS
    )
    launch: str = setting(
        "worker", "worker: the model in a process of its own; inline: in this one", choices=("worker", "inline")
    )
    audit: bool = setting(
        False,
        "also put the instrument to the test: the same arm twice, fresh prompts, the cost of watching",
        effective=when.TIMED,
    )
    resume: bool | None = setting(
        None, "leave out what was measured before under the same resume_key (default: in a sweep)"
    )
    results_dir: str = setting("results", "where run folders go")
    name: str | None = setting(None, "folder under results_dir (default: the model's name)")
    report: str = setting(
        "auto",
        "write report.html: auto (a sweep: one at its root), true (and one a point), false",
        choices=("auto", "true", "false"),
    )


def settings(part: Any, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every leaf of a configuration dataclass as (dotted key, value, metadata)."""
    for each in fields(part):
        value = getattr(part, each.name)
        key = prefix + each.name
        if is_dataclass(value):
            yield from settings(value, key + ".")
        elif isinstance(value, list) and value and all(is_dataclass(item) for item in value):
            for index, item in enumerate(value):
                yield from settings(item, f"{key}[{index}].")
        else:
            yield key, value, dict(each.metadata)
