"""What a configuration needs of this machine's packages: the one look at the machine before anything is loaded."""

from __future__ import annotations

from kvbench.capabilities import CACHES, missing_attention, missing_cache, missing_quantization
from kvbench.config.arms import written_arms
from kvbench.config.schema import Config
from kvbench.errors import ConfigError
from kvbench.library_versions import too_old


def require_packages(config: Config) -> None:
    """Raise `ConfigError` for a choice whose package is not installed, or for a library that is too old.

    Apart from `check`, since a configuration is right or wrong wherever it is read.
    """
    missing = None if config.model.weights == "scripted" else too_old()
    missing = missing or missing_quantization(config.model.quantization)
    for arm in written_arms(config):
        missing = missing or missing_attention(arm.attention)
        if arm.cache in CACHES:
            missing = missing or missing_cache(arm.cache)
    if missing is not None:
        raise ConfigError(missing)
