"""The arms that a configuration asks for, whether it lists them or uses the shorthand keys."""

from __future__ import annotations

from dataclasses import replace

from kvbench.capabilities import CACHES, EAGER, MODE_ARMS, MODES, NO_CACHE, arm_conflict, device_conflict
from kvbench.capabilities.combinations import ArmSpec
from kvbench.config.schema import ArmConfig, Config
from kvbench.errors import ConfigError


def written_arms(config: Config) -> tuple[ArmConfig, ...]:
    """One entry per arm, its cache resolved: none, static where an engine repeats a step, else dynamic."""
    if config.arms is not None:
        return tuple(replace(arm, cache=arm.cache or _usual_cache(arm)) for arm in config.arms)
    return tuple(
        ArmConfig(
            mode=mode,
            cache=config.cache if MODES[mode].keeps_past else NO_CACHE,
            engine=config.engine,
            attention=config.attention,
            compile_mode=config.compile_mode,
            bucket=config.bucket if mode == "nocache" else None,
            cache_tokens=config.cache_tokens if MODES[mode].keeps_past else None,
        )
        for mode in MODE_ARMS.get(config.mode, (config.mode,))
    )


def device_type(config: Config) -> str | None:
    """The type of device that is asked for ("cpu", "cuda", "mps"); None when the machine decides."""
    return None if config.device == "auto" else config.device.partition(":")[0]


def modes_of(config: Config) -> tuple[str, ...]:
    """The mode of every arm."""
    return tuple(arm.mode for arm in written_arms(config))


def check_arms(config: Config) -> None:
    """Raise `ConfigError` for parts that make no arm, or none on the device that is asked for."""
    if config.arms is not None and not config.arms:
        raise ConfigError("arms=[]: name at least one arm, such as arms=[{mode: nocache},{mode: cached}]")
    arms = written_arms(config)
    device = device_type(config)
    for index, arm in enumerate(arms):
        conflict = arm_conflict(arm)
        if conflict is None and device is not None:
            conflict = device_conflict(arm, device)
        if conflict is None and arm.engine != EAGER:
            conflict = _whole_run_conflict(arm, config)
        if conflict is None and config.model.weights == "scripted" and arm.cache in CACHES and CACHES[arm.cache].lossy:
            conflict = f"cache={arm.cache}: the scripted model has no keys to quantise; use cache=dynamic or static"
        if conflict is None and config.scaling.lengths:
            longest = max(config.scaling.lengths) + config.workload.new_tokens
            conflict = too_short(arm, max(longest, min(config.scaling.lengths) + config.scaling.decode_tokens))
        elif conflict is None and config.workload.prompt_tokens is not None:
            conflict = too_short(arm, config.workload.prompt_tokens + config.workload.new_tokens)
        if conflict is not None:
            raise ConfigError(conflict if config.arms is None else f"arms[{index}]: {conflict}")
    chunk = config.workload.prefill_chunk
    lossy = next((arm.cache for arm in arms if arm.cache in CACHES and CACHES[arm.cache].lossy), None)
    if chunk is not None and lossy is not None:
        raise ConfigError(
            f"workload.prefill_chunk={chunk}: a quantised cache takes later pieces as new tokens, and its bytes"
            f" are not predicted then: use another cache than {lossy}"
        )


def too_short(arm: ArmSpec, needed_tokens: int) -> str | None:
    """Why a static cache of this length cannot hold the run, or None when it can."""
    if arm.cache_tokens is None or arm.cache_tokens >= needed_tokens:
        return None
    return (
        f"cache_tokens={arm.cache_tokens}: a static cache of that length is too short for the run, which needs"
        f" {needed_tokens} (prompt and new tokens)"
    )


def _whole_run_conflict(arm: ArmConfig, config: Config) -> str | None:
    """Why an engine that repeats a pass cannot serve this run, or None when it can."""
    if config.model.device_map is not None:
        return f"engine {arm.engine} repeats passes on one device: leave model.device_map={config.model.device_map} out"
    if config.frontier.axes is not None:
        return f"engine {arm.engine} would prepare every size that is tried: use engine=eager with frontier.axes"
    return None


def _usual_cache(arm: ArmConfig) -> str:
    if not MODES[arm.mode].keeps_past:
        return NO_CACHE
    return "dynamic" if arm.engine == EAGER else "static"
