"""The configuration: one dataclass per group. Every option has its default, its meaning and its range here, once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from kvbench.arm import KEEPS_A_CACHE, PARTS, Arm, arms_of_modes
from kvbench.capabilities import CACHES, MODE_ARMS, MODES, NO_CACHE, QUANTIZATIONS, TRACKERS
from kvbench.config import conditions as when
from kvbench.config.script import LARGEST_SEED, ScriptConfig
from kvbench.language import ENGLISH, LANGUAGES, VARIABLE
from kvbench.options import setting

DTYPES = ("auto", "float64", "float32", "bfloat16", "float16")
SOURCES = ("hub", "path", "random", "embedded", "python", "scripted")  # python: a model of one's own
AXES = ("context", "batch")
MOST_RANKS = 1024
MOST_THREADS = 4096  # torch starts as many as it is told, and dies of it
MOST_TOKENS = 2**24  # of a sequence; more than the longest context that a model offers
MOST_BLOCKS = 100_000  # each is a line of blocks.jsonl and is kept until the end
LONGEST_WAIT_S = 1e6  # eleven days; the system's own waits take no more than a few hundred
MOST_PROPOSED = 4096  # tokens, for one pass
ITSELF = "itself"  # as a draft
MOST_SEQUENCES = 65_536  # each is a prompt of its own, made before anything is predicted


def shorthand(part: str, **its_own: Any) -> Any:
    """A key that says of every arm what a `part` says of one in a list of arms."""
    metadata = {**next(each.metadata for each in fields(Arm) if each.name == part), **its_own}
    return setting(**{**metadata, "effective": (*when.SHORTHAND, *metadata["effective"])})


@dataclass
class CheckpointConfig:
    """Where the weights come from, and how they are held."""

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
        "none", "weights of linear layers in fewer bits", choices=tuple(QUANTIZATIONS), effective=when.QUANTIZABLE
    )
    device_map: str | None = setting(
        None,
        "spreads the layers over the devices through accelerate, one device computing after another",
        choices=("auto", "balanced", "balanced_low_0", "sequential"),
        effective=when.STORED_WEIGHTS,
    )
    tensor_parallel: int = setting(
        1,
        "devices that share every layer, computing at once (transformers' tensor parallelism); a process for each",
        minimum=1,
        maximum=MOST_RANKS,
        effective=when.SHARED_LAYERS,
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


@dataclass
class ModelConfig(ScriptConfig, CheckpointConfig):
    """What is decoded: a model, or a script in its place."""


@dataclass
class WorkloadConfig:
    """What is decoded from, and how far."""

    prompts: str | None = setting(
        None, "file of prompts: text, one a line, or JSONL with the key prompt", effective=when.ONE_LENGTH
    )
    prompt: str | None = setting(None, "one prompt, as text", effective=when.ONE_LENGTH)
    prompt_tokens: int | None = setting(
        None,
        "cut or repeat the bundled text to exactly this many tokens",
        minimum=1,
        maximum=MOST_TOKENS,
        effective=when.ONE_LENGTH,
    )
    shared_tokens: int | None = setting(
        None,
        "tokens that all sequences of workload.prompt_tokens begin with (default: the tokenizer's start tokens alone)",
        minimum=1,
        maximum=MOST_TOKENS,
        effective=when.CUT_PROMPTS,
    )
    new_tokens: int = setting(
        64, "tokens that each sequence gets, the first one included", minimum=2, maximum=MOST_TOKENS
    )
    batch_size: int = setting(
        1, "sequences decoded together", minimum=1, maximum=MOST_SEQUENCES, effective=when.GIVEN_BATCH
    )
    prefill_chunk: int | None = setting(
        None,
        "arms with a cache submit the prompt in pieces of so many tokens (default: whole)",
        minimum=1,
        effective=KEEPS_A_CACHE,
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
class AssistedConfig:
    """The draft model of mode=assisted. The keys but the first are `generate`'s own, with its own defaults."""

    model: str = setting(
        ITSELF,
        f"the draft: a transformers folder, a hub id, or {ITSELF} (the model is its own draft, which saves nothing);"
        " random weights where the model's are random",
        effective=when.DRAFTED,
    )
    num_assistant_tokens: int = setting(
        20,
        "tokens that the draft proposes for a pass, at most",
        minimum=1,
        maximum=MOST_PROPOSED,
        effective=when.DRAFTED,
    )
    num_assistant_tokens_schedule: str = setting(
        "constant",
        "heuristic_transient: two more after a pass that accepted all, one fewer after any other",
        choices=("constant", "heuristic_transient"),
        effective=when.DRAFTED,
    )
    assistant_confidence_threshold: float = setting(
        0.4,
        "the draft stops proposing below this probability; 0: never (with scikit-learn installed, generate adapts it)",
        minimum=0,
        maximum=1,
        effective=when.DRAFTED,
    )


@dataclass
class PromptLookupConfig:
    """What mode=prompt_lookup proposes. The keys are `generate`'s own."""

    prompt_lookup_num_tokens: int = setting(
        10, "tokens that are proposed for a pass, at most", minimum=1, maximum=MOST_PROPOSED, effective=when.LOOKED_UP
    )
    max_matching_ngram_size: int = setting(
        2, "newest tokens that are looked up in the text, at most", minimum=1, effective=when.LOOKED_UP
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
        60.0,
        "seconds after which a try counts as failed; loading is not counted",
        above=0,
        maximum=LONGEST_WAIT_S,
        effective=when.FRONTIER,
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
    rescore: bool = setting(
        False,
        "also every arm's own log-probabilities beside those of one pass over the finished text",
        effective=when.TIMED,
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
        8,
        "measured blocks under stopping=fixed, the least under the others",
        minimum=1,
        maximum=MOST_BLOCKS,
        effective=when.TIMED,
    )
    warmup: int = setting(
        1,
        "unmeasured visits of every arm at the measured shapes",
        minimum=0,
        maximum=MOST_BLOCKS,
        effective=when.TIMED,
        off=0,
    )
    stopping: str = setting("fixed", "when to stop", choices=("fixed", "precision", "budget"), effective=when.TIMED)
    precision: float = setting(
        0.01,
        "stopping=precision: half-width of the speed-up's interval, relative",
        above=0,
        effective=when.TO_PRECISION,
    )
    max_blocks: int = setting(
        64, "stopping=precision: most blocks", minimum=1, maximum=MOST_BLOCKS, effective=when.TO_PRECISION
    )
    budget_s: float = setting(
        60.0,
        "stopping=budget and precision: seconds of measuring after which no block starts",
        above=0,
        maximum=LONGEST_WAIT_S,
        effective=when.TO_A_BUDGET,
    )
    timeout_s: float | None = setting(
        None,
        "seconds, loading included, after which a run is ended and its worker killed (default: never)",
        above=0,
        maximum=LONGEST_WAIT_S,
        effective=when.KILLABLE,
    )
    energy_s: float = setting(
        3.0,
        "seconds of repeated generation per arm to read the energy counter over; 0: none",
        minimum=0,
        maximum=LONGEST_WAIT_S,
        effective=when.TIMED,
        off=0,
    )
    step_lane: bool = setting(
        True, "also measure every step by itself, in visits of their own", effective=when.TIMED, off=False
    )
    exclusive: str = setting(
        "device",
        "what no other run of kvbench uses meanwhile: the device, or the whole host",
        choices=("device", "host"),
    )
    seed: int = setting(
        0, "seed of the order in which a block visits the arms", minimum=0, maximum=LARGEST_SEED, effective=when.ORDERED
    )


@dataclass
class Config:
    """The whole configuration of one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    mode: str = shorthand(
        "mode", default="both", help="way of decoding; both: nocache and cached", choices=(*MODES, "both")
    )
    cache: str = shorthand(
        "cache",
        default="dynamic",
        help="kind of cache of the arms that keep one",
        choices=tuple(kind for kind in CACHES if kind != NO_CACHE),
        off=None,
    )
    engine: str = shorthand("engine")
    attention: str = shorthand("attention")
    compile_mode: str | None = shorthand("compile_mode")
    bucket: int | None = shorthand("bucket")
    cache_tokens: int | None = shorthand("cache_tokens")
    arms: list[Arm] | None = setting(None, f"list of {{{', '.join(PARTS)}}}, the baseline first")
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    interrupt: InterruptConfig = field(default_factory=InterruptConfig)
    assisted: AssistedConfig = field(default_factory=AssistedConfig)
    prompt_lookup: PromptLookupConfig = field(default_factory=PromptLookupConfig)
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
    jobs: int | None = setting(
        None,
        "jobs of a sweep with hydra/launcher (default: one per device of this host; elsewhere one per model)",
        minimum=1,
        maximum=4096,
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
    title: str | None = setting(None, "heading of the report (default: the model's name and its arms)")
    report: str = setting(
        "auto",
        "write report.html: auto (a sweep: one at its root), true (and one a point), false",
        choices=("auto", "true", "false"),
    )
    track: str | None = setting(
        None, "experiment tracker that gets parameters, figures and the report of each run", choices=TRACKERS
    )
    language: str | None = setting(
        None,
        f"{', '.join(LANGUAGES)}: of the terminal and of report.html (default: {VARIABLE}, else {ENGLISH})",
        choices=LANGUAGES,
    )

    @property
    def every_arm(self) -> tuple[Arm, ...]:
        """The arms of the run, listed or by the shorthand keys, each whole."""
        own_model = self.model.weights == "python"
        return tuple(
            arm.whole(own_model=own_model) for arm in (self._by_shorthand() if self.arms is None else self.arms)
        )

    @property
    def modes(self) -> tuple[str, ...]:
        """The mode of every arm."""
        return tuple(arm.mode for arm in self.every_arm)

    @property
    def device_type(self) -> str | None:
        """The type of device that is asked for ("cpu", "cuda", "mps"); None when the machine decides."""
        return None if self.device == "auto" else self.device.partition(":")[0]

    def _by_shorthand(self) -> tuple[Arm, ...]:
        keys = {each.name for each in fields(self)}
        shared = {part: getattr(self, part) for part in PARTS if part in keys}
        return arms_of_modes(MODE_ARMS.get(self.mode, (self.mode,)), shared)
