"""`kvbench.measure`: the same measurement from Python, for a model that is already loaded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kvbench.analysis.assemble import assemble
from kvbench.config.checks import check
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
from kvbench.measuring.samples import HostReading, RunSamples, Watching
from kvbench.plan import Prompts, make_plan
from kvbench.records.schema import RunRecord
from kvbench.running.job import Emit, Progress, Text, run_job


def measure(
    model: Any,
    tokenizer: Any,
    prompts: str | Sequence[str] | None = None,
    *,
    modes: Sequence[str] = ("nocache", "cached"),
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
    """Measure a loaded transformers causal language model; the first of `modes` is the baseline.

    `prompts` are texts (default: the bundled ones), or `prompt_tokens` cuts the bundled text to a length. The other
    arguments are the configuration keys of the same names. Nothing is written to disk: the record is returned.
    `on_event` is told of progress and of every finished sample. The model is left as it was found, in eval mode.

    Raises `kvbench.errors.KvbenchError` as the command line would report it.
    """
    texts = (prompts,) if isinstance(prompts, str) else None if prompts is None else tuple(prompts)
    config = Config(
        model=ModelConfig(name=name or type(model).__name__, weights="path", path="(loaded)"),
        arms=[ArmConfig(mode=mode, attention=attention) for mode in modes],
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


def _measured(
    model: Any, tokenizer: Any, config: Config, texts: tuple[str, ...] | None, on_event: Emit | None
) -> RunRecord:
    # Here, not at the top: `import kvbench` and the command line start without torch.
    from kvbench.measuring.environment import device_uuid
    from kvbench.measuring.sensors import open_sensors
    from kvbench.models.loading import adopt
    from kvbench.running.torch_session import TorchBackend

    plan = make_plan(config, Prompts(texts) if texts is not None else None)
    device = next(model.parameters()).device
    own_attention, was_training = model.config._attn_implementation, model.training
    samples = RunSamples()

    def emit(message: Any) -> None:
        if on_event is not None:
            on_event(message)
        if not isinstance(message, (Progress, Text, HostReading, Watching)):
            samples.add(message)

    sensors = open_sensors(device_uuid(device))
    backend = TorchBackend(adopt(model.eval(), tokenizer, plan.model_name), device, sensors)
    created_at = datetime.now(UTC).isoformat()
    try:
        run_job(plan, backend.session(plan), emit)
    finally:
        model.train(was_training)
        if model.config._attn_implementation != own_attention:
            model.set_attn_implementation(own_attention)
    return assemble(plan, samples, run_id="in-process", created_at=created_at)
