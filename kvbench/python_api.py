"""`kvbench.measure`: the same measurement from Python, for a model that is already loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
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
from kvbench.errors import ConfigError, KvbenchError
from kvbench.plan import Prompts, make_plan
from kvbench.readiness import require_one_process, require_packages
from kvbench.records.evidence import RunWarning
from kvbench.records.run_record import RunRecord
from kvbench.records.samples import RunSamples
from kvbench.running.faults import fault_of
from kvbench.running.job import Emit, run_job
from kvbench.running.leases import leased
from kvbench.running.worker import STAYS, put_back

if TYPE_CHECKING:
    import torch

MODES = ("nocache", "cached")
COPIES = ("DataParallel", "DistributedDataParallel")  # torch's wrappers, by name: torch is not imported here


def measure(
    model: Any,
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
    attention: str = "auto",
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    name: str | None = None,
    on_event: Emit | None = None,
) -> RunRecord:
    """Measure a loaded transformers causal language model, or one of your own; the first of `modes` is the baseline.

    A model of your own (`kvbench.own_model`) brings its text along, so that `tokenizer` stays None.

    `prompts` are texts (default: the bundled ones) or lists of token ids, or `prompt_tokens` cuts the bundled text to a
    length. Without a tokenizer, prompts that are not given are random token ids, and the record says so. The other
    arguments are the configuration keys of the same names. Nothing is written to disk: the record is returned.
    `arms`, the general form of `modes` and `attention`, lists modes and mappings such as
    `{"mode": "cached", "cache": "static", "engine": "compiled"}`.
    `on_event` is told of progress and of every finished sample. The model is left as it was found, in eval mode.

    Raises `kvbench.errors.KvbenchError` as the command line would report it.
    """
    with _only_our_errors():
        require_one_process()
        _require_model(model)
        if arms is not None and (tuple(modes), attention) != (MODES, "auto"):
            raise ConfigError(
                "arms: not with modes or attention, which every arm has of its own: leave one of them out"
            )
        if prompts is not None and prompt_tokens is not None:
            raise ConfigError("prompts: has no effect beside prompt_tokens, which cuts the bundled text; leave one out")
        config = Config(
            model=_model_config(model, name or type(model).__name__),
            arms=_arms([{"mode": mode, "attention": attention} for mode in modes] if arms is None else arms),
            workload=WorkloadConfig(
                prompt_tokens=prompt_tokens,
                new_tokens=new_tokens,
                batch_size=batch_size,
                stop=stop if isinstance(stop, str) else list(stop),
            ),
            sampling=SamplingConfig(temperature, top_p, top_k, repetition_penalty, seed),
            stream=StreamConfig(interval=0),
            check=CheckConfig(agreement, reference),
            measure=MeasureConfig(blocks=blocks, warmup=warmup, energy_s=energy_s, step_lane=step_lane),
            audit=audit,
            launch="inline",
        )
        check(config)
        return _measured(model, tokenizer, config, _prompts(prompts), on_event)


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


def _model_config(model: Any, name: str) -> ModelConfig:
    if _is_transformers(model):
        return ModelConfig(name=name, weights="path", path="(loaded)")
    return ModelConfig(name=name, weights="python", target=f"{type(model).__module__}:{type(model).__name__}")


def _require_model(model: Any) -> None:
    if isinstance(model, str):
        raise ConfigError(
            f"model={model!r}: takes a loaded model; `kvbench model=hub model.id={model}` loads one by name"
        )
    if type(model).__name__ in COPIES:
        raise ConfigError(
            f"model: {type(model).__name__} splits every batch over copies of the model, which decoding with a cache"
            " does not do: pass the model inside, model.module"
        )


def _is_transformers(model: Any) -> bool:
    return hasattr(getattr(model, "config", None), "_attn_implementation")


def _measured(model: Any, tokenizer: Any, config: Config, prompts: Prompts | None, on_event: Emit | None) -> RunRecord:
    # Here, not at the top: `import kvbench` and the command line start without torch.
    from kvbench.measuring.environment import device_uuid
    from kvbench.measuring.sensors import open_sensors
    from kvbench.models.loading import adopt
    from kvbench.models.own import adopt_own
    from kvbench.running.torch_backend import TorchBackend, place_of

    require_packages(config)
    remarks: tuple[RunWarning, ...] = ()
    if tokenizer is None and _is_transformers(model):
        tokenizer, prompts, remarks = _without_tokenizer(model, config, prompts)
    plan = make_plan(config, prompts)
    samples = RunSamples()

    def emit(message: Any) -> None:
        if on_event is not None:
            on_event(message)
        samples.add(message)

    created_at = datetime.now(UTC).isoformat()
    with _as_found(model):
        device = _device_of(model)
        if _is_transformers(model):
            loaded = adopt(model, tokenizer, plan.model_name, remarks)
        else:
            loaded = adopt_own(model, plan.model_name, f"model={config.model.target}", device)
        backend = TorchBackend(loaded, device, open_sensors(device_uuid(device)))
        try:
            with leased(place_of(device), f"kvbench.measure of {plan.model_name}", emit):
                run_job(backend.session(plan), emit)
        except BaseException:
            put_back(backend, shared=True)  # what ended the run is what is told
            raise
        left_behind = put_back(backend, shared=True)
        if left_behind is not None:
            emit(RunWarning(code="worker_state", detail=f"{STAYS}: {left_behind}"))
    return assemble(plan, samples, run_id="in-process", created_at=created_at)


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
