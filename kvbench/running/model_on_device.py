"""A loaded model on its device, with what was there before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvbench.decoding.forward import forward_of
from kvbench.measuring.memory import Footprint
from kvbench.measuring.sensors import DeviceSensors
from kvbench.models.loading import LoadedModel
from kvbench.models.own import OwnCausalLM
from kvbench.models.signature import attention_of

SPREAD = "the model is spread over several devices, and one device's sensors would tell a part"


class ModelOnDevice:
    """A loaded model and the device that it is on."""

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device,
        sensors: DeviceSensors,
        empty: Footprint | None = None,
        empty_rss_bytes: int = 0,
    ) -> None:
        self.loaded = loaded
        self.device = device
        self.sensors = sensors
        self.empty = empty
        self.empty_rss_bytes = empty_rss_bytes  # of this process before it had the model
        self.forward = forward_of(loaded.model)
        self.own_attention = attention_of(loaded.model)

    @property
    def is_spread(self) -> bool:
        """Whether parts of it are on other devices."""
        return len(set(getattr(self.loaded.model, "hf_device_map", {}).values())) > 1

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own model and none of transformers'."""
        return isinstance(self.loaded.model, OwnCausalLM)

    @property
    def unaccountable(self) -> str | None:
        """Why its device's sensors do not tell of all of it; None where they do."""
        return SPREAD if self.is_spread else None

    def text(self, ids: Sequence[int]) -> str:
        """What token ids say, without special tokens."""
        return str(self.loaded.tokenizer.decode(list(ids), skip_special_tokens=True))
