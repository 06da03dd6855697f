"""What goes together, and why not: the one table that configuration, decoders and help pages ask."""

from kvbench.capabilities.attentions import ATTENTIONS, attention_conflict, takes_masks
from kvbench.capabilities.caches import CACHES, NO_CACHE, OWN_CACHE, CacheKind, static_length
from kvbench.capabilities.combinations import arm_conflict, device_conflict
from kvbench.capabilities.engines import (
    COMPILE_MODES,
    EAGER,
    ENGINES,
    USUAL_BUCKET,
    USUAL_COMPILE_MODE,
    usual_bucket,
    usual_compile_mode,
)
from kvbench.capabilities.identity import identity, in_words, label, unusual
from kvbench.capabilities.modes import (
    ALL_HABITS,
    HABITS,
    INTERRUPTED,
    MODE_ARMS,
    MODES,
    Habit,
    Mode,
    habits_of,
)
from kvbench.capabilities.packages import is_installed, missing_attention, missing_cache, missing_quantization
from kvbench.capabilities.weights import QUANTIZATIONS, Quantization, quantization_conflict

__all__ = [
    "ALL_HABITS",
    "ATTENTIONS",
    "CACHES",
    "COMPILE_MODES",
    "EAGER",
    "ENGINES",
    "HABITS",
    "INTERRUPTED",
    "MODES",
    "MODE_ARMS",
    "NO_CACHE",
    "OWN_CACHE",
    "QUANTIZATIONS",
    "USUAL_BUCKET",
    "USUAL_COMPILE_MODE",
    "CacheKind",
    "Habit",
    "Mode",
    "Quantization",
    "arm_conflict",
    "attention_conflict",
    "device_conflict",
    "habits_of",
    "identity",
    "in_words",
    "is_installed",
    "label",
    "missing_attention",
    "missing_cache",
    "missing_quantization",
    "quantization_conflict",
    "static_length",
    "takes_masks",
    "unusual",
    "usual_bucket",
    "usual_compile_mode",
]
