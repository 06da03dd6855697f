"""What a worker may keep from one run to the next: the model's weights, and nothing that its profiler leaves behind.

Put back after every run: what was hung onto the model or set on it (attention, generation settings, hooks, a replaced
`forward`, lengths that transformers keeps), torch's settings and modes, the generators' states, the profiler's hooks,
compiled code and recorded graphs, memory that the allocators hold, and Python's garbage. Then all of that is looked
at again, and what is not as it was is said; the worker that it is said of is replaced. So is every worker that has
compiled or captured a step (`leaves_compiled_code` in worker.py): taking the code back was not enough. Not looked at is
what a model writes into a buffer or a list of its own in place.

What nothing can take from a process stays: loaded libraries and kernels, and plans that libraries have built. They make
first visits (`cold`) of a later run cheaper, not blocks, which come after visits of the same shapes. A record says
how many runs its worker had measured before (`environment.worker.earlier_runs`).
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules import module as torch_module
from torch.profiler import ProfilerActivity, profile

from kvbench.measuring.probes import launch_rounds_s
from kvbench.text import format_value

# torch's profiler on a GPU, and getting rid of what it leaves behind.
# A profile attaches CUPTI to the driver, and CUPTI stays when the profile ends: every later launch of the process
# is slower, which made the next point of a sweep 20 to 60 % slower. Kineto detaches it when TEARDOWN_CUPTI is 1 at
# the end of a profile. It reads the variable each time, so that setting it here reaches a process that loaded torch
# long ago. The detaching happens later, in another thread and at the next call of the driver: a profile that has
# begun by then loses its events. So profiles of one run end with the variable at 0, and `remove_hooks` makes one
# more, an empty one, whose end detaches for all of them.


TEARDOWN = "TEARDOWN_CUPTI"
NO_LAZY_START = "DISABLE_CUPTI_LAZY_REINIT"  # with it kineto attaches CUPTI again as soon as it is detached
CALLS, BETWEEN_S = 20, 0.01  # of the driver, each a chance for kineto to detach
TRIES = 5
# Times as long as before the first profile, of the fastest round each: something is still attached. A host that
# became slower for as long as all tries last looks the same, which costs a new worker and no wrong figure.
SLOWER = 1.15

_launch_before_s: dict[torch.device, float] = {}  # by device, since profiles may have left hooks


def device_profile(device: torch.device) -> Any:
    """A profile of a device's kernels, not yet begun; `remove_hooks` must follow before anything else is timed."""
    if device not in _launch_before_s:
        _launch_before_s[device] = min(launch_rounds_s(device))
    return _Profile(activities=[ProfilerActivity.CUDA], acc_events=True)


class _Profile(profile):
    """Ends without detaching, whatever kineto's own default is: the next profile may begin at once."""

    def stop(self) -> None:
        with _set(TEARDOWN, "0"):
            super().stop()


def remove_hooks() -> str | None:
    """Detach what profiles have left behind in this process; what shows that something stays, if it does."""
    if not _launch_before_s:
        return None
    device, before_s = _launch_before_s.popitem()  # CUPTI is detached from all of them at once
    _launch_before_s.clear()
    now_s = before_s
    for _ in range(TRIES):
        _detach(device)
        now_s = min(launch_rounds_s(device))
        if now_s <= SLOWER * before_s:
            return None
    return (
        f"launching a small operation takes {format_value(now_s, 's')} since torch's profiler ran and took"
        f" {format_value(before_s, 's')} before: its hooks stay, or the host has become slower"
    )


def _detach(device: torch.device) -> None:
    last = profile(activities=[ProfilerActivity.CUDA], acc_events=True)
    last.start()  # without CUDA 12.6 torch itself sets the variables here, so that ours come after it
    _call_driver(device)
    with _set(TEARDOWN, "1"), _set(NO_LAZY_START, None):
        last.stop()
        for _ in range(CALLS):  # the thread that detaches reads the variables too
            time.sleep(BETWEEN_S)
            _call_driver(device)


def _call_driver(device: torch.device) -> None:
    torch.zeros(8, device=device).add_(1.0)
    torch.cuda.synchronize(device)


@contextmanager
def _set(name: str, value: str | None) -> Iterator[None]:
    """An environment variable for a while; None: not set."""
    before = os.environ.pop(name, None)
    try:
        if value is not None:
            os.environ[name] = value
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


# The state of the process and of the loaded model, put back after a run and looked at again.


KEPT_BYTES = 2**28  # of device memory beyond the weights: what libraries take for themselves, once in a process
MOST_NAMED = 4  # differences in one sentence

MKLDNN: Any = torch.backends.mkldnn
CUDNN: Any = torch.backends.cudnn

# Settings of the whole process, each with how it is read and set.
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "CPU threads": (torch.get_num_threads, torch.set_num_threads),
    "default type": (torch.get_default_dtype, torch.set_default_dtype),
    "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    # Before the settings below, which it sets as well.
    "float32 precision": (lambda: _float32_precision(), lambda value: _set_float32_precision(value)),
    "float32 products": (
        lambda: torch.backends.cuda.matmul.fp32_precision,
        lambda value: setattr(torch.backends.cuda.matmul, "fp32_precision", value),
    ),
    "float32 products on a CPU": (
        lambda: MKLDNN.matmul.fp32_precision,
        lambda value: setattr(MKLDNN.matmul, "fp32_precision", value),
    ),
    "float32 convolutions": (
        lambda: CUDNN.conv.fp32_precision,
        lambda value: setattr(CUDNN.conv, "fp32_precision", value),
    ),
    "cuDNN's search": (
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
    ),
    "SDPA flash": (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    "SDPA efficient": (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    "SDPA math": (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    "SDPA cuDNN": (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    "garbage collection": (gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    "garbage thresholds": (gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds)),
}


class WorkerState:
    """The state of this process and of a loaded model when it is made: before the first run."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._settings = {name: read() for name, (read, _) in SETTINGS.items()}
        self._modes = _modes()
        self._global_hooks = {name: dict(hooks) for name, hooks in _global_hooks().items()}
        self._parts = {name: (part, _Attributes(part)) for name, part in _parts(model)}
        self._versions = _versions(model)
        self._random = _random(device)
        self._device_bytes = _device_bytes(device)

    def differences(self) -> tuple[str, ...]:
        """What is not as it was, by name."""
        found = [name for name, (read, _) in SETTINGS.items() if read() != self._settings[name]]
        found += [name for name, depth in _modes().items() if depth != self._modes[name]]
        found += [
            f"torch's {name}" for name, hooks in _global_hooks().items() if dict(hooks) != self._global_hooks[name]
        ]
        found += [f"{name}.{key}" for name, (part, before) in self._parts.items() for key in before.changed(part)]
        if _versions(self._model) != self._versions:
            found.append("the weights")
        return tuple(found)

    def put_back(self, *, shared: bool = False) -> str | None:
        """Put everything back; in words, what is not as it was all the same.

        In a `shared` process, a caller's own, compiled code and memory may be the caller's: they are left alone.
        """
        # Modes first: what is done under them would be seen by them. Hooks of the driver last, when no graph is left.
        while torch._C._len_torch_dispatch_stack() > self._modes["dispatch modes"]:
            torch.utils._python_dispatch._pop_mode()
        while torch._C._len_torch_function_stack() > self._modes["function modes"]:
            torch.overrides._pop_mode()
        for name, (read, write) in SETTINGS.items():
            if read() != self._settings[name]:
                write(self._settings[name])
        for name, hooks in _global_hooks().items():
            _refill(hooks, self._global_hooks[name])
        for part, before in self._parts.values():
            before.restore(part)
        _set_random(self._random)
        if not shared and "torch._dynamo" in sys.modules:
            torch._dynamo.reset()  # its graphs too
        gc.collect()
        _empty_allocator(self._device, shared=shared)
        attached = remove_hooks()
        found = list(self.differences())
        if not shared and _device_bytes(self._device) > self._device_bytes + KEPT_BYTES:
            found.append("memory of the device")
        named = ", ".join(found[:MOST_NAMED]) + (
            f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        )
        return "; ".join(filter(None, (attached, named and f"not as before the run: {named}"))) or None


def _float32_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch's older and newer settings contradict each other
        return None


def _set_float32_precision(value: str | None) -> None:
    if value is not None:
        torch.set_float32_matmul_precision(value)


class _Attributes:
    """The attributes of an object and what its dicts hold: hooks, buffers, replaced methods, settings."""

    def __init__(self, part: Any) -> None:
        self._values = dict(vars(part))
        self._dicts = {name: dict(value) for name, value in self._values.items() if isinstance(value, dict)}

    def changed(self, part: Any) -> list[str]:
        now = vars(part)
        names = dict.fromkeys([*self._values, *now])
        return [name for name in names if not self._is_as_before(name, now)]

    def restore(self, part: Any) -> None:
        now = vars(part)
        for name in self.changed(part):
            if name in self._values:
                now[name] = self._values[name]
                if name in self._dicts:
                    _refill(now[name], self._dicts[name])
            else:
                del now[name]

    def _is_as_before(self, name: str, now: dict[str, Any]) -> bool:
        if name not in now or name not in self._values:
            return False
        if name in self._dicts:
            return now[name] is self._values[name] and _same_items(now[name], self._dicts[name])
        return _same(now[name], self._values[name])


def _same(value: Any, before: Any) -> bool:
    """The same object, or an equal one of a kind whose equality means that."""
    return value is before or (type(value) is type(before) and isinstance(value, (int, float, str)) and value == before)


def _same_items(items: dict[Any, Any], before: dict[Any, Any]) -> bool:
    return items.keys() == before.keys() and all(_same(value, before[key]) for key, value in items.items())


def _refill(kept: dict[Any, Any], content: dict[Any, Any]) -> None:
    """Make a dict hold what it held, in place: others refer to it."""
    if not _same_items(kept, content):
        kept.clear()
        kept.update(content)


def _parts(model: Any) -> Iterator[tuple[str, Any]]:
    """The model's modules by name, their configurations, and how it generates."""
    seen: set[int] = set()
    modules = model.named_modules() if isinstance(model, torch.nn.Module) else ()
    for name, module in modules:
        for part, what in ((module, ""), (getattr(module, "config", None), ".config")):
            if hasattr(part, "__dict__") and id(part) not in seen:
                seen.add(id(part))
                yield f"model{'.' if name else ''}{name}{what}", part
    settings = getattr(model, "generation_config", None)
    if hasattr(settings, "__dict__"):
        yield "model.generation_config", settings


def _modes() -> dict[str, int]:
    return {
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "function modes": torch._C._len_torch_function_stack(),
    }


def _global_hooks() -> dict[str, dict[Any, Any]]:
    """Hooks on all modules of the process."""
    found = {name: value for name, value in vars(torch_module).items() if name.startswith("_global_")}
    return {name.removeprefix("_"): value for name, value in found.items() if isinstance(value, dict)}


def _versions(model: Any) -> list[tuple[str, int]]:
    """How often each weight was written to; a type of its own, such as a quantised one, may do as it likes."""
    if not isinstance(model, torch.nn.Module):
        return []
    plain = [(name, each) for name, each in model.named_parameters() if type(each) is torch.nn.Parameter]
    return [(name, each._version) for name, each in plain if not each.is_inference()]


def _random(device: torch.device) -> tuple[tuple[torch.device, torch.Tensor], ...]:
    host = (torch.device("cpu"), torch.get_rng_state())
    return (host, (device, torch.cuda.get_rng_state(device))) if device.type == "cuda" else (host,)


def _set_random(states: tuple[tuple[torch.device, torch.Tensor], ...]) -> None:
    for device, state in states:
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)


def _empty_allocator(device: torch.device, *, shared: bool) -> None:
    if device.type != "cuda":
        return
    if not shared and hasattr(torch._C, "_cuda_clearCublasWorkspaces"):
        # One for each stream that a graph was captured on; a caller's graphs may still use theirs.
        torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()


def _device_bytes(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
