"""`kvbench.measure`: the same measurement from Python, for a loaded model or for one that is named."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

from kvbench.analysis.assemble import assemble
from kvbench.arm import PARTS, Arm
from kvbench.config.rules import check
from kvbench.config.schema import (
    CheckConfig,
    Config,
    MeasureConfig,
    ModelConfig,
    SamplingConfig,
    StreamConfig,
    WorkloadConfig,
)
from kvbench.config.spelling import unknown_arm_key
from kvbench.errors import ConfigError, KvbenchError, ModelUnavailable
from kvbench.language import speaking
from kvbench.measured_run import InMemory, MeasuredRun
from kvbench.model_folder import LOADED, RANDOM_BY_HAND, is_no_id, local_folder
from kvbench.plan import Plan, Prompts, make_plan
from kvbench.point import new_run_id
from kvbench.progress_line import ProgressLine
from kvbench.readiness import require_one_process, require_packages, require_ready
from kvbench.records.evidence import RunWarning
from kvbench.records.rescoring import Rescore
from kvbench.records.samples import RunSamples
from kvbench.running.faults import fault_of
from kvbench.running.job import Emit, Progress, run_job
from kvbench.running.leases import leased
from kvbench.running.worker import STAYS, put_back
from kvbench.scored_texts import given_texts

if TYPE_CHECKING:
    import torch

    from kvbench.running.torch_backend import TorchBackend

EMBEDDED = "embedded"
MODES = ("nocache", "cached")
# What refusals of a named model say of keys, by what one does in Python.
IN_PYTHON = {
    RANDOM_BY_HAND: "pass the path of a local folder",
    "model.trust_remote_code=true allows it, only if you trust that code": (
        "load it with from_pretrained(trust_remote_code=True), only if you trust that code, and pass the model"
    ),
    "set model.trust_remote_code=true": "load it with from_pretrained(trust_remote_code=True) and pass the model",
    "model.path=": "model=",
    "model.revision=": "revision=",
    "model.id=": "model=",
    "check model.id": "check its name",
    "choose another model.id": "choose another",
}
COPIES = ("DataParallel", "DistributedDataParallel")  # torch's wrappers, by name: torch is not imported here


def measure(
    model: Any = EMBEDDED,
    tokenizer: Any = None,
    prompts: str | Sequence[str] | Sequence[Sequence[int]] | None = None,
    *,
    modes: Sequence[str] = MODES,
    arms: Sequence[str | Mapping[str, Any]] | None = None,
    prompt_tokens: int | None = None,
    new_tokens: int = 64,
    batch_size: int = 1,
    stop: str | Sequence[int] = "ignore",
    blocks: int = 8,
    warmup: int = 1,
    step_lane: bool = True,
    energy_s: float = 3.0,
    audit: bool = False,
    agreement: str = "few",
    reference: str = "none",
    rescore: bool = False,
    attention: str = "auto",
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    name: str | None = None,
    quiet: bool = False,
    on_event: Emit | None = None,
) -> MeasuredRun:
    """Measure a causal language model of transformers, or one of your own; the first of `modes` is the baseline.

    `model` is a loaded model, or what `from_pretrained` takes: a hub id such as "Qwen/Qwen3-0.6B" or a folder, which is
    then loaded as the command line does it, with its tokenizer. By default it is "embedded", the small model that comes
    with kvbench. `revision` is a commit, tag or branch of a hub id; `dtype` and `device` are those of a model that is
    loaded here. A folder or a repository of a PEFT adapter is measured on its base, which needs the package peft.
    A model of your own (`kvbench.own_model`) brings its text along, so that `tokenizer` stays None.

    `prompts` are texts (default: the bundled ones) or lists of token ids, or `prompt_tokens` cuts the bundled text to a
    length. Without a tokenizer, prompts that are not given are random token ids, and the record says so. The other
    arguments are the configuration keys of the same names.
    `arms`, the general form of `modes` and `attention`, lists modes and mappings such as
    `{"mode": "cached", "cache": "static", "engine": "compiled"}`.

    A notebook or a terminal shows what is being done in one line that changes, unless `quiet`. `on_event` is told of
    progress and of every finished sample. A loaded model is left as it was found, in eval mode. Nothing is written to
    disk: the record is returned, and its `save` and `report` write what is wanted (`kvbench.measured_run.MeasuredRun`).

    Raises `kvbench.errors.KvbenchError` as the command line would report it.
    """
    with _only_our_errors(), speaking(None), ProgressLine(quiet=quiet) as line:
        line.hear(Progress("starting", 0, None))  # the first call imports torch, which takes seconds
        require_one_process()
        if arms is not None and (tuple(modes), attention) != (MODES, "auto"):
            raise ConfigError(
                "arms: not with modes or attention, which every arm has of its own: leave one of them out"
            )
        if prompts is not None and prompt_tokens is not None:
            raise ConfigError("prompts: has no effect beside prompt_tokens, which cuts the bundled text; leave one out")
        config = Config(
            model=_model_config(model, tokenizer, name, revision=revision, dtype=dtype, device=device),
            arms=_arms([{"mode": mode, "attention": attention} for mode in modes] if arms is None else arms),
            workload=WorkloadConfig(
                prompt_tokens=prompt_tokens,
                new_tokens=new_tokens,
                batch_size=batch_size,
                stop=stop if isinstance(stop, str) else list(stop),
            ),
            sampling=SamplingConfig(temperature, top_p, top_k, repetition_penalty, seed),
            stream=StreamConfig(interval=0),
            check=CheckConfig(agreement, reference, rescore),
            measure=MeasureConfig(blocks=blocks, warmup=warmup, energy_s=energy_s, step_lane=step_lane),
            device=device,
            audit=audit,
            launch="inline",
        )
        check(config)
        require_packages(config)
        heard = line.hear if on_event is None else _both(line.hear, on_event)
        return _measured(model, tokenizer, config, _prompts(prompts), heard)


def _both(first: Emit, second: Emit) -> Emit:
    def hear(message: Any) -> None:
        first(message)
        second(message)

    return hear


def rescore(
    model: Any,
    ids: Any,
    logprobs: Any = None,
    *,
    prompt_tokens: int | Sequence[int] | None = None,
    temperature: float = 1.0,
    name: str | None = None,
) -> Rescore:
    """Log-probabilities that decoding gave, against those of one pass of `model` over the finished text.

    `ids` are the ids of prompt and answer, one text or a list of texts, as lists, arrays or tensors. `logprobs` are the
    natural log-probabilities of the answer's tokens, in the same form; how many ids are the prompt follows from their
    number. Without them the model decodes the answer with its cache, one token at a time along `ids`, and
    `prompt_tokens` (one number, or one per text) says where the answer begins. `temperature` is what the logits were
    divided by before `logprobs` were taken. The verdict, its figures and their meaning: `kvbench.records.rescoring`.
    The model is left as it was found.

    Raises `kvbench.errors.KvbenchError`, such as `ConfigError` for lengths that do not match.
    """
    with _only_our_errors():
        require_one_process()
        if isinstance(model, (str, PathLike)):
            raise ConfigError(
                f"model={model}: takes a loaded model; `kvbench rescore FILE model={model}` loads one by name"
            )
        _require_temperature(temperature)
        texts = given_texts(ids, logprobs, prompt_tokens)
        from kvbench.analysis.rescore_verdict import judge_rescore
        from kvbench.measuring.sensors import NullSensors
        from kvbench.models.loading import adopt
        from kvbench.models.own import adopt_own
        from kvbench.models.tokenizers import NoTokenizer
        from kvbench.running.arm_rescore import rescore_texts
        from kvbench.running.torch_backend import TorchBackend

        config = _model_config(model, None, name, revision=None, dtype="auto", device="auto")
        device = _device_of(model)
        with _as_found(model):
            if _is_transformers(model):
                loaded = adopt(model, NoTokenizer(), config.name)
            else:
                loaded = adopt_own(model, config.name, f"model={config.target}", device)
            backend = TorchBackend(loaded, device, NullSensors("nothing is timed"))
            try:
                samples = rescore_texts(backend, texts, "none", temperature=temperature)
            finally:
                put_back(backend, shared=True)
        return judge_rescore(samples)


def _require_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ConfigError(
            f"temperature={temperature:g}: give the number above 0 that the logits were divided by; of greedy decoding"
            " the log-probabilities are usually those of temperature 1"
        )


@contextmanager
def _only_our_errors() -> Iterator[None]:
    """What torch, transformers, the model or an argument of another type raises, as an error of the tree."""
    try:
        yield
    except KvbenchError:
        raise
    except Exception as error:
        raise fault_of(error, "the cause is in __cause__").error() from error


def _prompts(given: str | Sequence[str] | Sequence[Sequence[int]] | None) -> Prompts | None:
    """None where none are given. Raises `ConfigError` for anything but texts or lists of token ids."""
    if given is None:
        return None
    every: list[Any] = [given] if isinstance(given, str) else list(given)
    if every and all(isinstance(each, str) for each in every):
        return Prompts(tuple(map(str, every)))
    if every and not any(isinstance(each, (str, int)) for each in every):
        rows = tuple(tuple(int(token) for token in each) for each in every)
        return Prompts(token_ids=rows)
    raise ConfigError("prompts: takes a text, a list of texts, or a list of lists of token ids such as [[1, 2, 3]]")


def _arms(written: Sequence[str | Mapping[str, Any]]) -> list[Arm]:
    arms = [{"mode": arm} if isinstance(arm, str) else arm for arm in written]
    for index, arm in enumerate(arms):
        for name in arm:
            if name not in PARTS:
                raise unknown_arm_key(f"arms[{index}]", name)
    return [Arm(**arm) for arm in arms]


def _model_config(
    model: Any, tokenizer: Any, name: str | None, *, revision: str | None, dtype: str, device: str
) -> ModelConfig:
    """What is decoded, as a configuration says it. Raises `ConfigError` for what goes with no such model."""
    if not isinstance(model, (str, PathLike)):
        _require_undivided(model)
        for key, value, usual in (("revision", revision, None), ("dtype", dtype, "auto"), ("device", device, "auto")):
            if value != usual:
                raise ConfigError(f"{key}={value}: says how a model is loaded, and this one is: leave it out")
        known = name or type(model).__name__
        if _is_transformers(model):
            return ModelConfig(name=known, weights="path", path=LOADED)
        return ModelConfig(name=known, weights="python", target=f"{type(model).__module__}:{type(model).__name__}")
    if tokenizer is not None:
        raise ConfigError(f"tokenizer: {model} is loaded with its own; leave it out, or pass a loaded model")
    if model == EMBEDDED:
        found = ModelConfig(name=name or EMBEDDED, weights="embedded", dtype=dtype)
    elif local_folder(str(model)).is_dir() or isinstance(model, PathLike) or is_no_id(model):
        found = ModelConfig(name=name or "path", weights="path", path=str(model), dtype=dtype)
    else:
        return ModelConfig(name=name or "hub", weights="hub", id=model, revision=revision, dtype=dtype)
    if revision is not None:
        raise ConfigError(f"revision={revision}: of a hub repository, and {model} is none; leave it out")
    return found


def _require_undivided(model: Any) -> None:
    if type(model).__name__ in COPIES:
        raise ConfigError(
            f"model: {type(model).__name__} splits every batch over copies of the model, which decoding with a cache"
            " does not do: pass the model inside, model.module"
        )


def _is_transformers(model: Any) -> bool:
    return hasattr(getattr(model, "config", None), "_attn_implementation")


def _measured(model: Any, tokenizer: Any, config: Config, prompts: Prompts | None, hear: Emit) -> MeasuredRun:
    remarks: tuple[RunWarning, ...] = ()
    is_named = isinstance(model, (str, PathLike))
    if not is_named and tokenizer is None and _is_transformers(model):
        tokenizer, prompts, remarks = _without_tokenizer(model, config, prompts)
    plan = make_plan(config, prompts)
    samples = RunSamples()

    def emit(message: Any) -> None:
        hear(message)
        samples.add(message)

    run_id, created_at = new_run_id(), datetime.now(UTC).isoformat()
    if is_named:
        try:
            _run(_named(plan, emit), plan, emit)
        finally:
            _let_go()
    else:
        with _as_found(model):
            _run(_adopted(model, tokenizer, plan, remarks), plan, emit)
    record = assemble(plan, samples, run_id=run_id, created_at=created_at)
    return MeasuredRun.of(record, InMemory(plan, samples, run_id))


def _run(backend: TorchBackend, plan: Plan, emit: Emit) -> None:
    from kvbench.running.torch_backend import place_of

    try:
        with leased(place_of(backend.device), f"kvbench.measure of {plan.model_name}", emit):
            run_job(backend.session(plan), emit)
    except BaseException:
        put_back(backend, shared=True)  # what ended the run is what is told
        raise
    left_behind = put_back(backend, shared=True)
    if left_behind is not None:
        emit(RunWarning(code="worker_state", detail=f"{STAYS}: {left_behind}"))


def _named(plan: Plan, emit: Emit) -> TorchBackend:
    """The model that a plan names, loaded as the command line does it; torch keeps its number of threads."""
    try:
        require_ready(plan)
        emit(Progress("loading", 0, None))
        # Here, not at the top: `import kvbench` and the command line start without torch.
        from kvbench.running.torch_backend import named_backend

        return named_backend(plan)
    except ModelUnavailable as error:
        raise ModelUnavailable(_in_python(str(error))) from error


def _let_go() -> None:
    """Free a model that was loaded here: the next call may need the room, and cycles keep it until they are found."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _in_python(said: str) -> str:
    """A refusal of the command line in the words of a call: its keys are arguments here, or what one does oneself."""
    for typed, called in IN_PYTHON.items():
        said = said.replace(typed, called)
    return said


def _adopted(model: Any, tokenizer: Any, plan: Plan, remarks: tuple[RunWarning, ...]) -> TorchBackend:
    """The caller's own model, on the device that it is on."""
    from kvbench.measuring.environment import device_uuid
    from kvbench.measuring.sensors import open_sensors
    from kvbench.models.loading import adopt
    from kvbench.models.own import adopt_own
    from kvbench.running.torch_backend import TorchBackend

    device = _device_of(model)
    if _is_transformers(model):
        loaded = adopt(model, tokenizer, plan.model_name, remarks)
    else:
        loaded = adopt_own(model, plan.model_name, f"model={plan.config.model.target}", device)
    return TorchBackend(loaded, device, open_sensors(device_uuid(device)))


def _without_tokenizer(
    model: Any, config: Config, prompts: Prompts | None
) -> tuple[Any, Prompts, tuple[RunWarning, ...]]:
    """What stands in for a tokenizer, the prompts as token ids, and what the record should say about them."""
    from kvbench.models.tokenizers import RANDOM_PROMPTS, RANDOM_TOKENS, WITHOUT_TEXT, NoTokenizer, random_prompts

    if prompts is not None:
        return NoTokenizer(), prompts, (WITHOUT_TEXT,)
    vocab_size = model.config.get_text_config().vocab_size
    tokens, count = config.workload.prompt_tokens or RANDOM_TOKENS, config.workload.batch_size
    return NoTokenizer(), Prompts(token_ids=random_prompts(vocab_size, tokens, count)), (RANDOM_PROMPTS,)


def _device_of(model: Any) -> torch.device:
    import torch

    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def _as_found(model: Any) -> Iterator[None]:
    """In eval mode while it is measured, and with its own attention and mode afterwards."""
    from kvbench.models.signature import attention_of

    was_training = getattr(model, "training", None)
    own_attention = attention_of(model) if _is_transformers(model) else None
    try:
        if was_training is not None:
            model.eval()
        yield
    finally:
        if was_training is not None:
            model.train(was_training)
        if own_attention is not None and attention_of(model) != own_attention:
            model.set_attn_implementation(own_attention)
