"""A worker keeps the model's weights from run to run, and nothing else."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compiling import only_traced
from torch.utils._python_dispatch import TorchDispatchMode

from kvbench.config.compose import load_config, sources
from kvbench.measuring.environment import found_compiler
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.plan import Plan, make_plan
from kvbench.records.evidence import RunWarning
from kvbench.records.samples import Prepared, UntimedPass
from kvbench.running.torch_backend import UNTIMED, environment_of
from kvbench.running.torch_session import TorchSession
from kvbench.running.worker import Workshop, leaves_compiled_code
from kvbench.running.worker_state import WorkerState

Change = Callable[[Any], Any]
CPU = torch.device("cpu")


class Counting(TorchDispatchMode):
    """A mode that does nothing but be there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Redirecting(torch.overrides.TorchFunctionMode):
    """The same one level above."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def hook(*_: Any) -> None:
    """Does nothing, which takes time all the same."""


def longer_lengths(model: Any) -> None:
    """As transformers' rotary embeddings do when they meet a longer context."""
    model.model.rotary_emb.register_buffer("inv_freq", model.model.rotary_emb.inv_freq * 2, persistent=False)


# What a run could leave behind, and what it is called then.
LEFT_BEHIND: dict[str, tuple[Change, str]] = {
    "hook": (lambda model: model.model.layers[1].register_forward_hook(hook), "model.model.layers.1._forward_hooks"),
    "hook before": (lambda model: model.register_forward_pre_hook(hook), "model._forward_pre_hooks"),
    "hook on all modules": (
        lambda _: torch.nn.modules.module.register_module_forward_hook(hook),
        "torch's global_forward_hooks",
    ),
    "dispatch mode": (lambda _: Counting().__enter__(), "dispatch modes"),
    "function mode": (lambda _: Redirecting().__enter__(), "function modes"),
    "threads": (lambda _: torch.set_num_threads(torch.get_num_threads() + 1), "CPU threads"),
    "type": (lambda _: torch.set_default_dtype(torch.float64), "default type"),
    "gradients": (lambda _: torch.set_grad_enabled(False), "gradients"),
    "sdpa": (lambda _: torch.backends.cuda.enable_flash_sdp(False), "SDPA flash"),
    "products": (lambda _: torch.set_float32_matmul_precision("high"), "float32 products"),
    "collector": (lambda _: gc.disable(), "garbage collection"),
    "attention": (
        lambda model: model.set_attn_implementation("eager"),
        "model.config._attn_implementation_internal",
    ),
    "generation": (lambda model: setattr(model.generation_config, "max_length", 3), "generation_config.max_length"),
    "static length": (lambda model: setattr(model, "_previous_max_cache_length", 64), "_previous_max_cache_length"),
    "forward": (lambda model: setattr(model, "forward", hook), "model.forward"),
    "training": (lambda model: model.train(), "model.training"),
    "buffer": (longer_lengths, "model.model.rotary_emb._buffers"),
}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Whatever a test leaves in this process is not left to the next one."""
    state = WorkerState(None, CPU)
    yield
    assert state.put_back(shared=True) is None


@pytest.fixture
def model(tiny_model: Callable[..., Any]) -> Any:
    return tiny_model("llama", vocab_size=300)


@pytest.mark.parametrize("what", LEFT_BEHIND)
def test_what_a_run_leaves_behind_is_seen_and_put_back(model: Any, what: str) -> None:
    state = WorkerState(model, CPU)
    assert () == state.differences()
    leave, name = LEFT_BEHIND[what]
    leave(model)
    assert any(found.endswith(name) for found in state.differences())
    assert state.put_back(shared=True) is None
    assert () == state.differences()


def test_a_hook_that_is_put_back_does_not_run(model: Any) -> None:
    state, seen = WorkerState(model, CPU), []
    model.register_forward_hook(lambda *_: seen.append(1))
    state.put_back(shared=True)
    model(torch.ones(1, 3, dtype=torch.long))
    assert [] == seen


def test_hooks_that_were_there_before_stay(model: Any) -> None:
    seen: list[int] = []
    model.register_forward_hook(lambda *_: seen.append(1))
    state = WorkerState(model, CPU)
    model.register_forward_hook(lambda *_: seen.append(2))
    state.put_back(shared=True)
    model(torch.ones(1, 3, dtype=torch.long))
    assert [1] == seen


def test_the_generators_go_on_from_where_they_were(model: Any) -> None:
    state = WorkerState(model, CPU)
    expected = torch.rand(3)
    torch.manual_seed(5)
    state.put_back(shared=True)
    assert torch.equal(expected, torch.rand(3))


def test_weights_that_were_written_to_cannot_be_put_back_and_are_told_of(model: Any) -> None:
    state = WorkerState(model, CPU)
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    assert "not as before the run: the weights" == state.put_back(shared=True)


def test_code_that_torch_compiled_goes_only_where_it_may(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo

    resets: list[int] = []
    monkeypatch.setattr(torch._dynamo, "reset", lambda: resets.append(1))
    state = WorkerState(model, CPU)
    state.put_back(shared=True)
    assert [] == resets
    state.put_back()
    assert [1] == resets


@pytest.fixture
def folder(tiny_model: Callable[..., Any], tmp_path: Path) -> str:
    place = tmp_path / "tiny"
    tiny_model("llama", vocab_size=300, num_hidden_layers=1).save_pretrained(place)
    byte_tokenizer(300).save_pretrained(place)
    return str(place)


@pytest.fixture
def plan_of(folder: str) -> Callable[..., Plan]:
    def make(*overrides: str) -> Plan:
        quick = ["model=path", f"model.path={folder}", "device=cpu", "workload.prompt_tokens=6", "stream.interval=0"]
        quick += ["workload.new_tokens=4", "measure.blocks=1", "measure.energy_s=0", "check.agreement=none"]
        return make_plan(load_config([*quick, *overrides], sources()))

    return make


POINTS = {
    "habits": ("arms=[{mode: nocache},{mode: nocache, habit: all}]", "stream.interval=1"),
    "generate": ("arms=[{mode: generate_nocache},{mode: generate, cache: static}]",),
    "static": (
        "arms=[{mode: nocache},{mode: cached, cache: static}]",
        "check.agreement=few",
        "check.reference=float64",
    ),
    "attention": ("attention=eager", "check.agreement=full", "shapes.hidden_states=true"),
    "several attentions": ("arms=[{mode: nocache, attention: math},{mode: cached, attention: eager}]",),
    "trace": ("trace.probabilities=true", "audit=true", "measure.blocks=5", "workload.batch_size=2"),
    "interrupted": ("arms=[{mode: nocache},{mode: interrupted}]", "interrupt.message=abc"),
    "compiled": (
        "arms=[{mode: cached, cache: static, engine: compiled, compile_mode: default}]",
        "measure.step_lane=false",
    ),
    "sampling": ("sampling.temperature=0.7", "sampling.top_p=0.9", "sampling.repetition_penalty=1.2"),
}


def run(workshop: Workshop, plan: Plan) -> list[Any]:
    heard: list[Any] = []
    is_fit = workshop.measure(plan, heard.append)
    stayed = [each for each in heard if isinstance(each, RunWarning) and each.code == "worker_state"]
    assert ([], not leaves_compiled_code(plan)) == (stayed, is_fit)
    return heard


def tokens(heard: list[Any]) -> list[Any]:
    return [each.tokens for each in heard if isinstance(each, UntimedPass)]


def differences(workshop: Workshop) -> tuple[str, ...]:
    assert workshop._backend is not None
    return workshop._backend._state.differences()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("compiler", ["traced", pytest.param("generated code", marks=pytest.mark.slow)])
def test_points_leave_the_one_after_them_as_it_would_be_alone(
    plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    if compiler == "traced":
        only_traced(monkeypatch)
    workshop = Workshop()
    first = run(workshop, plan_of())
    model = workshop._backend.loaded.model  # type: ignore[union-attr]
    for name, overrides in POINTS.items():
        if "compiled" not in name or found_compiler("cpu"):
            run(workshop, plan_of(*overrides))
            assert () == differences(workshop), name
    third = run(workshop, plan_of())
    assert model is workshop._backend.loaded.model  # type: ignore[union-attr]
    assert tokens(first) == tokens(third)


def test_another_number_of_threads_is_not_left_to_the_next_point(plan_of: Callable[..., Plan]) -> None:
    own, workshop = torch.get_num_threads(), Workshop()
    seen = [run(workshop, plan_of(*threads)) for threads in ((), ("threads=3",), ())]
    counts = [each.environment["threads"] for heard in seen for each in heard if isinstance(each, Prepared)]
    assert [own, 3, own] == counts


def test_asking_about_another_point_changes_no_threads(plan_of: Callable[..., Plan]) -> None:
    own = torch.get_num_threads()
    assert 3 == environment_of(plan_of("threads=3").config)["threads"]
    assert own == torch.get_num_threads()


def test_a_run_says_how_many_its_worker_saw_before(plan_of: Callable[..., Plan]) -> None:
    workshop = Workshop()
    heard = [*run(workshop, plan_of()), *run(workshop, plan_of())]
    prepared = [each for each in heard if isinstance(each, Prepared)]
    assert [0, 1] == [each.environment["worker"]["earlier_runs"] for each in prepared]


def test_what_cannot_be_put_back_is_a_warning_and_ends_the_worker(
    plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shapes(session: TorchSession) -> Any:
        with torch.no_grad():
            session.model.loaded.model.lm_head.weight.mul_(1.0)
        return UNTIMED.shapes(session)

    monkeypatch.setattr("kvbench.running.torch_backend.UNTIMED", replace(UNTIMED, shapes=shapes))
    workshop, heard = Workshop(), []
    assert not workshop.measure(plan_of(), heard.append)
    (warned,) = [each for each in heard if isinstance(each, RunWarning) and each.code == "worker_state"]
    assert warned.detail.endswith("so measure anything else in a new one: not as before the run: the weights")


def test_a_run_that_fails_leaves_nothing_behind_either(
    plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shapes(session: TorchSession) -> Any:
        Counting().__enter__()
        session.model.loaded.model.register_forward_hook(hook)
        raise RuntimeError("in the middle")

    workshop = Workshop()
    run(workshop, plan_of())
    monkeypatch.setattr("kvbench.running.torch_backend.UNTIMED", replace(UNTIMED, shapes=shapes))
    with pytest.raises(RuntimeError, match="in the middle"):
        workshop.measure(plan_of(), lambda _: None)
    assert () == differences(workshop)


def test_a_failure_to_put_back_is_a_warning_and_loses_no_run(
    plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("profiler is already enabled")

    heard: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(WorkerState, "put_back", broken)
        assert not Workshop().measure(plan_of(), heard.append)
    (warned,) = [each.detail for each in heard if isinstance(each, RunWarning) and each.code == "worker_state"]
    assert warned.endswith("putting it back failed (profiler is already enabled)")


def test_the_precision_of_float32_products_is_put_back(plan_of: Callable[..., Plan]) -> None:
    workshop = Workshop()
    run(workshop, plan_of())
    torch.set_float32_matmul_precision("high")
    assert workshop._backend is not None
    assert workshop._backend.put_back() is None
    assert "highest" == torch.get_float32_matmul_precision()
