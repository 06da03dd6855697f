"""The real thing: a transformers model on a device, prepared for one plan."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from kvbench.capabilities import attention_conflict, takes_masks
from kvbench.decoding.forward import make_batch
from kvbench.decoding.protocol import Unobserved
from kvbench.errors import KvbenchError
from kvbench.measuring.clocks import Clock, DeviceClock, HostClock
from kvbench.measuring.environment import device_uuid, torch_environment
from kvbench.measuring.memory import MemoryMeter
from kvbench.measuring.sensors import DeviceSensors, NullSensors, open_sensors
from kvbench.model_facts import rope_switch
from kvbench.models.draft import Draft, load_draft
from kvbench.passes import Interruptions
from kvbench.plan import Plan
from kvbench.records.samples import Prepared
from kvbench.running import preconditions
from kvbench.running.arm_decoders import ArmDecoders
from kvbench.running.model_on_device import ModelOnDevice
from kvbench.running.prompt_batches import PromptBatches, message_ids, tokenise
from kvbench.running.sessions import Untimed


class TorchSession:
    """A `Session` on a loaded model: what functions over a run need, and nothing that they do.

    Raises `BadInput` when the plan does not fit the model, `Infeasible` when it does not fit the memory.
    """

    def __init__(self, model: ModelOnDevice, plan: Plan, untimed: Untimed) -> None:
        loaded, device = model.loaded, model.device
        self.plan = plan
        self.model = model
        self.untimed = untimed
        self.team = model.team
        self.meter = MemoryMeter(device, model.sensors, model.empty, model.devices)
        self.clock: Clock = HostClock() if device.type == "cpu" else DeviceClock(device)
        places = self.team.gathered((socket.gethostname(), device_uuid(device), loaded.facts.weight_bytes))
        self.sensors: DeviceSensors = _sensors_of(model, places)
        preconditions.require_model(plan, model)
        self.stop_ids = preconditions.stop_ids_of(plan, loaded)
        prompts = tokenise(plan, loaded.tokenizer)
        token_ids = [prompt["token_ids"] for prompt in prompts]
        interruptions = Interruptions(plan.interrupt_steps, message_ids(plan, loaded.tokenizer))
        preconditions.require_prompts(plan, model, token_ids, interruptions)
        self.batches = PromptBatches(
            token_ids,
            plan.config.workload.batch_size,
            plan.config.workload.new_tokens,
            interruptions,
            loaded.facts.max_context,
            partial(make_batch, device=device),
        )
        preconditions.require_batches(plan, model, self.batches, interruptions)
        self.draft: Draft | None = None
        if any(arm.mode == "assisted" for arm in plan.arms):
            self.draft = load_draft(plan.config, loaded, device)
            preconditions.require_draft(plan, self.draft, token_ids)
        self.decoders = ArmDecoders(model, plan, interruptions, preconditions.pad_id_of(loaded), self.draft)
        self.prepared = Prepared(
            model={
                **asdict(loaded.facts),
                # Ranks hold some weights each for itself, so that together they hold more than the model has.
                "weight_bytes": _sum_of([held for _, _, held in places]),
                "ranks": self.team.size,
                "attention": model.own_attention,
                "computes_all_logits": model.forward.full_logits,
                "rope_switch": None if model.is_own else rope_switch(loaded.model.config),
            },
            environment={
                **torch_environment(device, model.sensors),
                **({"device_uuids": _uuids_of(model, places)} if model.is_spread else {}),
            },
            prompts=tuple(prompts),
            batches=self.batches.members,
            interruptions=interruptions,
            load_s=loaded.load_s,
            unused_tensors=loaded.unused_tensors,
            remarks=loaded.remarks,
        )


Places = Sequence[tuple[str, str | None, int | None]]  # of the ranks: host, device's UUID, bytes of weights


def _uuids_of(model: ModelOnDevice, places: Places) -> tuple[str | None, ...]:
    """The devices that the model is on, with whatever rank."""
    return tuple(uuid for _, uuid, _ in places) if model.team.size > 1 else tuple(map(device_uuid, model.devices))


def _sensors_of(model: ModelOnDevice, places: Places) -> DeviceSensors:
    """Those of every device that the model is on. Rank 0 reads them all, as far as they are in its host."""
    if model.unaccountable is not None:
        return NullSensors(model.unaccountable)
    if len({host for host, _, _ in places}) > 1:
        return NullSensors("the ranks are on several hosts, and one host's sensors would tell a part")
    uuids = [uuid for _, uuid, _ in places]
    return model.sensors if len(places) == 1 or None in uuids else open_sensors(*uuids)


def _sum_of(values: Sequence[int | None]) -> int | None:
    return None if None in values else sum(value for value in values if value is not None)


def other_attentions(session: TorchSession, arm: int) -> tuple[str, ...]:
    """One attention besides an arm's own that can decode it, or none.

    Found by trying a step, since availability depends on type, shape and device.
    """
    model, spec, batch = session.model, session.plan.arms[arm], session.batches[0]
    if model.is_own or spec.repeats:
        return ()
    masked = batch.mask is not None or getattr(model.loaded.model.config, "separates_documents", False)
    device_type = model.device.type
    for name in ("math",) if device_type == "cpu" else ("flash", "efficient", "math"):
        conflict = attention_conflict(name, device_type) is not None
        if conflict or name == spec.attention or (masked and not takes_masks(name, device_type)):
            continue
        try:
            decoder = session.decoders.plain(arm, attention=name)
            decoder.prepare(None)
            decoder.run(batch, 2, Unobserved())
        except (KvbenchError, RuntimeError, ValueError):  # no such kernel for this model
            continue
        return (name,)
    return ()
