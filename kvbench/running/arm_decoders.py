"""From an arm of a plan to what decodes it."""

from __future__ import annotations

from collections.abc import Callable

from kvbench.capabilities import MODES, habits_of
from kvbench.decoding.generate import Generate
from kvbench.decoding.habits import Habits
from kvbench.decoding.loops import CachedLoop, InterruptedLoop, Loop, NoCacheLoop
from kvbench.decoding.protocol import Chooser, Decoder
from kvbench.decoding.sampling import Forced, Sampler, generate_arguments
from kvbench.decoding.setting import TorchSetting
from kvbench.decoding.tracing import Trace, TracedDecoder, TracingChooser, WatchedDecoder
from kvbench.interruptions import Interruptions
from kvbench.plan import Plan
from kvbench.running.model_on_device import ModelOnDevice

LOOPS: dict[str, Callable[..., Loop]] = {
    "nocache": NoCacheLoop,
    "nocache_naive": NoCacheLoop,
    "cached": CachedLoop,
    "interrupted": InterruptedLoop,
    "resumed": CachedLoop,
}


class ArmDecoders:
    """Makes decoders for the arms of one plan, with the plan's sampling settings; `pad_id` fills rows after their end.

    A decoder with a forced path follows it instead of sampling.
    """

    def __init__(self, model: ModelOnDevice, plan: Plan, interruptions: Interruptions, pad_id: int) -> None:
        self._model = model
        self._plan = plan
        self._interruptions = interruptions
        self._pad_id = pad_id

    def plain(self, arm: int, forced: Forced | None = None, attention: str | None = None) -> Decoder:
        """The decoder that is timed; `attention` takes the place of the arm's own."""
        return self._made(arm, forced or Sampler(self._plan.config.sampling), forced, attention)

    def traced(self, arm: int, forced: Forced | None = None) -> Decoder:
        """A decoder that also tells the confidence of each token."""
        trace = Trace(self._plan.config.trace.top_k)
        if self._plan.arms[arm].mode in LOOPS:
            chooser = TracingChooser(forced or Sampler(self._plan.config.sampling), trace)
            return TracedDecoder(self._made(arm, chooser), trace)
        return TracedDecoder(WatchedDecoder(self.plain(arm, forced), self._model.loaded.model, trace), trace)

    def _made(self, arm: int, chooser: Chooser, forced: Forced | None = None, attention: str | None = None) -> Decoder:
        spec, config = self._plan.arms[arm], self._plan.config
        setting = TorchSetting(attention or spec.attention, self._model.own_attention, config.sampling.seed)
        if MODES[spec.mode].ours:
            return LOOPS[spec.mode](
                self._model.forward,
                chooser,
                setting,
                self._pad_id,
                habits=Habits(habits_of(spec.mode, spec.habit), self._model.text, max(1, config.stream.interval)),
                interruptions=self._interruptions,
            )
        arguments = generate_arguments(config.sampling)
        return Generate(
            self._model.loaded.model, arguments, setting, self._pad_id, use_cache=spec.keeps_past, forced=forced
        )
