"""A loaded model on its device, with what was there before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kvbench.decoding.forward import forward_of
from kvbench.measuring.memory import Footprint
from kvbench.measuring.sensors import DeviceSensors
from kvbench.model_facts import ModelFacts
from kvbench.models.loading import LoadedModel
from kvbench.models.own import OwnCausalLM
from kvbench.models.signature import attention_of
from kvbench.models.tensor_parallel import of_one_rank
from kvbench.running.team import ALONE, Team

SPREAD = "parts of the model wait on the host or on a disk, of which no device's sensors tell"


def places_of(model: Any) -> tuple[str, ...]:
    """Where accelerate has put a model's layers, such as "cuda:0" or "disk"; nothing for one that it has not spread."""
    found = set(getattr(model, "hf_device_map", {}).values())
    return tuple(sorted(f"cuda:{place}" if isinstance(place, int) else str(place) for place in found))


class ModelOnDevice:
    """A loaded model and the device that it is on."""

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device,
        sensors: DeviceSensors,
        empty: Footprint | None = None,
        empty_rss_bytes: int = 0,
        team: Team = ALONE,
    ) -> None:
        self.loaded = loaded
        self.device = device
        self.sensors = sensors
        self.empty = empty
        self.empty_rss_bytes = empty_rss_bytes  # of this process before it had the model
        self.team = team  # the ranks that hold it together
        self.forward = forward_of(loaded.model)
        self.own_attention = attention_of(loaded.model)

    @property
    def is_spread(self) -> bool:
        """Whether parts of it are on other devices, or with other ranks."""
        return self.team.size > 1 or len(places_of(self.loaded.model)) > 1

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """The devices that this process has parts of it on."""
        places = places_of(self.loaded.model)
        is_over_gpus = self.device.type == "cuda" and len(places) > 1 and self.unaccountable is None
        return tuple(map(torch.device, places)) if is_over_gpus else (self.device,)

    @property
    def rank_facts(self) -> ModelFacts:
        """What is known of the part that this process decodes."""
        return of_one_rank(self.loaded.facts, self.team.size)

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own model and none of transformers'."""
        return isinstance(self.loaded.model, OwnCausalLM)

    @property
    def unaccountable(self) -> str | None:
        """Why its device's sensors do not tell of all of it; None where they do."""
        places = places_of(self.loaded.model)
        return SPREAD if len(places) > 1 and not all(place.startswith("cuda") for place in places) else None

    def text(self, ids: Sequence[int]) -> str:
        """What token ids say, without special tokens."""
        return str(self.loaded.tokenizer.decode(list(ids), skip_special_tokens=True))
