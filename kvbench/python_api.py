"""`kvbench.measure`: the same measurement from Python, for a model that is already loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kvbench.analysis.assemble import assemble
from kvbench.config.checks import check
from kvbench.config.packages import require_packages
from kvbench.config.schema import (
    ArmConfig,
    CheckConfig,
    Config,
    MeasureConfig,
    ModelConfig,
    SamplingConfig,
    StreamConfig,
    WorkloadConfig,
)
from kvbench.config.spelling import ARM_KEYS, unknown_arm_key
from kvbench.errors import ConfigError
from kvbench.measuring.readings import HostReading, Watching
from kvbench.measuring.samples import RunSamples
from kvbench.plan import Prompts, make_plan
from kvbench.records.schema import RunRecord
from kvbench.running.job import Emit, Progress, Text, run_job

if TYPE_CHECKING:
    import torch

MODES = ("nocache", "cached")


def measure(
    model: Any,
    tokenizer: Any = None,
    prompts: str | Sequence[str] | None = None,
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

    `prompts` are texts (default: the bundled ones), or `prompt_tokens` cuts the bundled text to a length. The other
    arguments are the configuration keys of the same names. Nothing is written to disk: the record is returned.
    `arms`, the general form of `modes` and `attention`, lists modes and mappings such as
    `{"mode": "cached", "cache": "static", "engine": "compiled"}`.
    `on_event` is told of progress and of every finished sample. The model is left as it was found, in eval mode.

    Raises `kvbench.errors.KvbenchError` as the command line would report it.
    """
    texts = (prompts,) if isinstance(prompts, str) else None if prompts is None else tuple(prompts)
    if arms is not None and (tuple(modes), attention) != (MODES, "auto"):
        raise ConfigError("arms: not with modes or attention, which every arm has of its own: leave one of them out")
    if texts is not None and prompt_tokens is not None:
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
    return _measured(model, tokenizer, config, texts, on_event)


def _arms(written: Sequence[str | Mapping[str, Any]]) -> list[ArmConfig]:
    arms = [{"mode": arm} if isinstance(arm, str) else arm for arm in written]
    for index, arm in enumerate(arms):
        for name in arm:
            if name not in ARM_KEYS:
                raise unknown_arm_key(f"arms[{index}]", name)
    return [ArmConfig(**arm) for arm in arms]


def _model_config(model: Any, name: str) -> ModelConfig:
    if _is_transformers(model):
        return ModelConfig(name=name, weights="path", path="(loaded)")
    return ModelConfig(name=name, weights="python", target=f"{type(model).__module__}:{type(model).__name__}")


def _is_transformers(model: Any) -> bool:
    return hasattr(getattr(model, "config", None), "_attn_implementation")


def _measured(
    model: Any, tokenizer: Any, config: Config, texts: tuple[str, ...] | None, on_event: Emit | None
) -> RunRecord:
    # Here, not at the top: `import kvbench` and the command line start without torch.
    from kvbench.measuring.environment import device_uuid
    from kvbench.measuring.sensors import open_sensors
    from kvbench.models.loading import adopt
    from kvbench.models.own_loading import adopt_own
    from kvbench.running.torch_backend import TorchBackend

    require_packages(config)
    plan = make_plan(config, Prompts(texts) if texts is not None else None)
    samples = RunSamples()

    def emit(message: Any) -> None:
        if on_event is not None:
            on_event(message)
        if not isinstance(message, (Progress, Text, HostReading, Watching)):
            samples.add(message)

    created_at = datetime.now(UTC).isoformat()
    with _as_found(model):
        device = _device_of(model)
        if _is_transformers(model):
            loaded = adopt(model, tokenizer, plan.model_name)
        else:
            loaded = adopt_own(model, plan.model_name, f"model={config.model.target}", device)
        backend = TorchBackend(loaded, device, open_sensors(device_uuid(device)))
        run_job(plan, backend.session(plan), emit)
    return assemble(plan, samples, run_id="in-process", created_at=created_at)


def _device_of(model: Any) -> torch.device:
    import torch

    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def _as_found(model: Any) -> Iterator[None]:
    """In eval mode while it is measured, and with its own attention and mode afterwards."""
    was_training = getattr(model, "training", None)
    own_attention = model.config._attn_implementation if _is_transformers(model) else None
    try:
        if was_training is not None:
            model.eval()
        yield
    finally:
        if was_training is not None:
            model.train(was_training)
        if own_attention is not None and model.config._attn_implementation != own_attention:
            model.set_attn_implementation(own_attention)
