"""A model ready to decode: its weights on the device, read or random, its tokenizer, and what is known about it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from kvbench.capabilities import QUANTIZATIONS
from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable
from kvbench.model_facts import ModelFacts, extends_context, facts_from_config
from kvbench.model_folder import ADAPTER, RESTORE, SAFETENSORS, Adapter, folder_format, instead_of_download
from kvbench.models.checkpoint import DTYPES, Checkpoint, label, open_checkpoint
from kvbench.models.devices import check_fit, free_bytes_everywhere, require_dtype, require_fit
from kvbench.models.folder_faults import CONFIG, TOKENIZER, WEIGHTS, blamed_on
from kvbench.models.hub import explained
from kvbench.models.sizing import (
    quantization_config,
    require_computing,
    require_quantization,
    weight_size,
)
from kvbench.models.tensor_parallel import distributed_config, require_shareable, shared
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.models.unsuited import adapter_facts, require_no_encoder, require_no_prompt_learning, without_peft
from kvbench.records.evidence import RunWarning
from kvbench.text import shortened

# Random weights at real size: the model's own initialisation, its large draws replaced by copies of one pool.
# Drawing 2.5 billion normals on two CPU cores takes over a minute, copying them out of a pool takes seconds. Only
# the source of the numbers changes: which parameter gets which spread, which norm is zero-centred, what is tied and
# what every buffer holds stays the decision of the architecture's own code, run where the model will live.


# A prime, so that no two rows of a matrix of any width are copies of the same stretch.
POOL_NUMBERS = 16_777_213
# Below it a draw costs less than it would lose in randomness.
SMALLEST_COPIED = 1 << 18


def random_model(
    config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, seed: int, *, trust_remote_code: bool = False
) -> Any:
    """A causal language model of this architecture with random weights, built on `device` in `dtype`.

    The same seed gives the same weights on the same kind of device. The global random state is left as it was.
    """
    with _seeded(device, seed), torch.device(device):
        # An accelerator draws faster than it copies.
        numbers = _NumbersFromPool(seed) if device.type == "cpu" else contextlib.nullcontext()
        with numbers:
            return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)


@contextlib.contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    accelerators = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(accelerators, device_type=accelerators[0].type if accelerators else "cuda"):
        torch.manual_seed(seed)
        yield


class _NumbersFromPool(TorchDispatchMode):
    """While active, large in-place draws (`normal_`, `uniform_`) copy from a pool of a prime number of draws."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(seed)
        self._pools: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        draws = {torch.ops.aten.normal_.default: self._normal, torch.ops.aten.uniform_.default: self._uniform}
        draw = draws.get(func)
        if draw is None or args[0].numel() < SMALLEST_COPIED or not args[0].is_contiguous():
            return func(*args, **kwargs)
        kwargs.pop("generator", None)
        draw(*args, **kwargs)
        return args[0]

    def _normal(self, target: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> None:
        self._fill(target, "normal", torch.randn, std, mean)

    def _uniform(self, target: torch.Tensor, low: float = 0.0, high: float = 1.0) -> None:
        self._fill(target, "uniform", torch.rand, high - low, low)

    def _fill(
        self, target: torch.Tensor, kind: str, draw: Callable[..., torch.Tensor], scale: float, shift: float
    ) -> None:
        pool = self._pool(kind, draw, target.dtype)
        flat = target.view(-1)
        start = int(torch.randint(len(pool), (), generator=self._generator))
        done = 0
        while done < len(flat):
            stretch = pool[start : start + len(flat) - done]
            torch.mul(stretch, scale, out=flat[done : done + len(stretch)])
            done += len(stretch)
            start = 0
        if shift:
            flat.add_(shift)

    def _pool(self, kind: str, draw: Callable[..., torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        if (kind, dtype) not in self._pools:
            self._pools[kind, dtype] = draw(POOL_NUMBERS, generator=self._generator).to(dtype)
        return self._pools[kind, dtype]


# Loading without chatter: progress bars and log lines of the libraries would tear the live display.


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Errors only, and no bars, from transformers and the hub's client; both are put back as they were."""
    levels = transformers_logging.get_verbosity(), hub_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if bars[0]:
            transformers_logging.enable_progress_bar()
        if bars[1]:
            enable_progress_bars()


# A model ready to decode, stored, random or a caller's own, and what is known about it.


@dataclass(frozen=True)
class LoadedModel:
    """From `load`: `model` is in eval mode and wants no gradients; `load_s` starts with the first look at the hub."""

    model: Any
    tokenizer: Any
    facts: ModelFacts
    load_s: float
    unused_tensors: tuple[str, ...] = ()  # in the checkpoint, but not of this architecture
    remarks: tuple[RunWarning, ...] = ()
    plan: dict[str, str] = field(default_factory=dict)  # by which its layers are shared out over ranks


def load(spec: ModelConfig, device: torch.device) -> LoadedModel:
    """Load what `spec` names onto `device`, or over all devices with `spec.device_map`.

    With `spec.tensor_parallel` this rank's part of it; the ranks must have met.

    Raises `ModelUnavailable` for anything that the user can mend, `DeviceUnavailable` for a dtype that the device
    lacks, `Infeasible` when the weights are predicted not to fit; nothing has been allocated then.
    """
    started = time.perf_counter()
    require_dtype(spec.dtype, device)
    require_quantization(spec.quantization, device)
    name = label(spec)
    with quietly(), explained(name, spec.revision, instead_of_download(spec)):
        checkpoint = open_checkpoint(spec)
        if checkpoint.folder is not None:
            require_no_encoder(checkpoint.config, name)
        described = name if checkpoint.folder or not spec.architecture else f"model.architecture of {spec.name}"
        with blamed_on(checkpoint.folder, CONFIG, described):
            dtype = checkpoint.dtype(_wanted_dtype(spec), device)
            plan = _plan(spec, checkpoint)
            _check_memory(spec, checkpoint, dtype, device)
        quantization = quantization_config(spec.quantization, dtype)
        unused: tuple[str, ...] = ()
        remarks: tuple[RunWarning, ...] = ()
        if checkpoint.folder is None:
            with blamed_on(None, (), described):
                model = random_model(
                    checkpoint.config, dtype, device, spec.seed, trust_remote_code=spec.trust_remote_code
                )
            if quantization is not None:
                model = _quantised(model, quantization, device)
            if plan:
                # Drawn whole on every rank, from one seed: the shards are those of one model, whatever the ranks.
                model = shared(model.config, model.state_dict(), spec.tensor_parallel, type(model), dtype)
            tokenizer: Any = _stand_in_tokenizer(checkpoint.config)
        else:
            with blamed_on(checkpoint.folder, WEIGHTS, name):
                model, unused = _stored_model(spec, checkpoint.folder, device, quantization)
            remarks = _put_on(model, checkpoint.adapter, name)
            tokenizer = _tokenizer(_folder_of_tokenizer(checkpoint), spec)
    _lay_out(model)
    model.requires_grad_(False).eval()
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the weights have arrived, not only been sent
    facts = _facts(model, spec.name, spec.weights, spec.id, checkpoint.revision)
    if remarks:
        facts = replace(facts, adapter=adapter_facts(model))
    require_computing(spec.quantization, model)  # after the facts: a pass moves scales out of the parameters
    return LoadedModel(model, tokenizer, facts, time.perf_counter() - started, unused, remarks, plan=plan)


def split(spec: ModelConfig, text: str) -> list[str]:
    """A text as the model's tokenizer splits it, special tokens among them; the weights are not looked for.

    Raises `ModelUnavailable` for a model or a tokenizer that cannot be had.
    """
    name = label(spec)
    with quietly(), explained(name, spec.revision, instead_of_download(spec)):
        if spec.weights == "random":
            tokenizer = _stand_in_tokenizer(open_checkpoint(spec).config)
        elif spec.weights == "hub":
            tokenizer = AutoTokenizer.from_pretrained(
                str(spec.id), revision=spec.revision, trust_remote_code=spec.trust_remote_code
            )
        else:
            tokenizer = _tokenizer(_folder_of_tokenizer(open_checkpoint(spec)), spec)
        return [tokenizer.decode([token]) for token in tokenizer(text)["input_ids"]]


def _folder_of_tokenizer(checkpoint: Checkpoint) -> Path | None:
    """The adapter's own folder where it brings a tokenizer, else the model's."""
    adapter = checkpoint.adapter
    own = adapter is not None and any((adapter.folder / name).is_file() for name in TOKENIZER)
    return adapter.folder if adapter is not None and own else checkpoint.folder


def _tokenizer(folder: Path | None, spec: ModelConfig) -> Any:
    with blamed_on(folder, TOKENIZER, label(spec)):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # some classes make one out of nothing
            raise ModelUnavailable(f"the tokenizer of {label(spec)} has no words: it lacks tokenizer.json; {RESTORE}")
        tokenizer.decode(tokenizer.encode("a"))  # what tokenizer_config.json says is looked at only when it is used
        return tokenizer


EXTENDED = (
    "its rotary positions are rescaled as the text grows (dynamic NTK), beyond the context that the config states"
)
WITHOUT_WRAPPER = RunWarning(
    code="peft_wrapper",
    detail="the model is measured without PEFT's wrapper: the adapter's layers are in the model, and what the wrapper"
    " itself does at each call is not timed",
)


def adopt(model: Any, tokenizer: Any, name: str, remarks: tuple[RunWarning, ...] = ()) -> LoadedModel:
    """A model and tokenizer that the caller has loaded, with the facts that follow from its config and parameters.

    The model is not touched. Nothing was loaded, so `load_s` is 0 and `facts.source` is "path". PEFT's wrapper is left
    out. Raises `ModelUnavailable` for one that does more than its layers in the model do.
    """
    inside, adapter = without_peft(model), adapter_facts(model)
    if adapter is not None:
        remarks = (*remarks, _applied(adapter))
    if inside is not model:
        remarks = (*remarks, WITHOUT_WRAPPER)
    return LoadedModel(inside, tokenizer, replace(_facts(inside, name, "path"), adapter=adapter), 0.0, remarks=remarks)


def _put_on(model: Any, adapter: Adapter | None, name: str) -> tuple[RunWarning, ...]:
    """Apply an adapter that lies in a folder, unless transformers has; what the record should say of it."""
    if adapter is None:
        return ()
    with blamed_on(adapter.folder, (ADAPTER,), name):
        require_no_prompt_learning(adapter.folder, name)
        if not getattr(model, "_hf_peft_config_loaded", False):
            missing = sorted(getattr(model.load_adapter(str(adapter.folder)), "missing_keys", ()))
            if missing:
                raise ModelUnavailable(
                    f"the adapter {name} lacks {len(missing)} tensors that its {ADAPTER} asks for, such as"
                    f" {missing[0]}: one of the two is wrong"
                )
    found = adapter_facts(model)
    return () if found is None else (_applied(found),)


def _applied(adapter: Mapping[str, Any]) -> RunWarning:
    rank = "" if adapter["rank"] is None else f" of rank {adapter['rank']}"
    base = adapter["base"] or "a base that it does not name"
    return RunWarning(
        code="adapter",
        detail=f"an adapter ({adapter['type']}{rank}) of {shortened(base)} is applied: every step computes its layers"
        " too, so the figures are not those of the base",
    )


def _wanted_dtype(spec: ModelConfig) -> str:
    # The embedded model decodes in float32 wherever it runs, so that its figures compare.
    return "float32" if spec.weights == "embedded" and spec.dtype == "auto" else spec.dtype


def _plan(spec: ModelConfig, checkpoint: Checkpoint) -> dict[str, str]:
    """The plan by which the model is shared out over ranks, empty for one device."""
    if spec.tensor_parallel == 1:
        return {}
    return require_shareable(
        checkpoint.config, spec.tensor_parallel, label(spec), trust_remote_code=spec.trust_remote_code
    )


def _check_memory(spec: ModelConfig, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
    bits = QUANTIZATIONS[spec.quantization].bits
    size = checkpoint.predicted_size(dtype, bits=bits, trust_remote_code=spec.trust_remote_code)
    needed = size.bytes if size else checkpoint.stored_bytes()
    what = f"{label(spec)} in {_name(dtype) if bits is None else spec.quantization}"
    if bits is not None and checkpoint.folder is None:
        whole = checkpoint.predicted_size(dtype, trust_remote_code=spec.trust_remote_code)
        needed += whole.bytes if whole else 0
        what += ", beside the random weights that it is made from"
    if spec.tensor_parallel > 1:
        what += f", shared out over {spec.tensor_parallel} ranks"
        share = -(-needed // spec.tensor_parallel)
        drawn = needed if checkpoint.folder is None else 0  # random weights are drawn whole before they are cut
        on_host = device.type == "cpu"  # which all ranks share
        require_fit((drawn + share) * (spec.tensor_parallel if on_host else 1), device, what)
    elif spec.device_map is None:
        require_fit(needed, device, what)
    else:
        check_fit(needed, free_bytes_everywhere(), what, "all devices together")


def _quantised(model: Any, quantization: Any, device: torch.device) -> Any:
    """A model that was built in memory, taken through the road of stored ones: building ignores quantisation."""
    return type(model).from_pretrained(
        None,
        config=model.config,
        state_dict=model.state_dict(),
        quantization_config=quantization,
        dtype=model.dtype,
        device_map=device,
    )


def _stand_in_tokenizer(config: Any) -> Any:
    end = getattr(config, "eod_token", None)
    return byte_tokenizer(config.get_text_config().vocab_size, None if end is None else ("<eod>", end))


def _lay_out(model: Any) -> None:
    """Channels last for weights of four dimensions, Yuan's convolutions: their matrix is then a view of the weight."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _stored_model(
    spec: ModelConfig, folder: Path, device: torch.device, quantization: Any | None
) -> tuple[Any, tuple[str, ...]]:
    """The model and the names of the tensors that it has no place for."""
    wanted = _wanted_dtype(spec)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=DTYPES.get(wanted, "auto"),
        # Straight onto an accelerator; on the CPU no map is needed but by quantisers, nor the packages behind it.
        **(
            {"distributed_config": distributed_config(spec.tensor_parallel)}
            if spec.tensor_parallel > 1
            else {"device_map": spec.device_map or (None if device.type == "cpu" and quantization is None else device)}
        ),
        **({} if quantization is None else {"quantization_config": quantization}),
        use_safetensors=folder_format(folder) == SAFETENSORS,
        trust_remote_code=spec.trust_remote_code,
        output_loading_info=True,
    )
    model, report = loaded
    # transformers would decode on with random numbers in their place.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelUnavailable(
            f"the weights of {label(spec)} lack {len(missing)} tensors that its config.json asks for, such as"
            f" {missing[0]}: one of the two is wrong"
        )
    return model, tuple(sorted(report["unexpected_keys"]))


def _facts(model: Any, name: str, source: str, id: str | None = None, revision: str | None = None) -> ModelFacts:
    size = weight_size(model)
    facts = facts_from_config(
        model.config,
        name=name,
        source=source,
        id=id,
        revision=revision,
        dtype=_name(model.dtype),
        parameters=size.parameters,
        weight_bytes=size.bytes,
    )
    if not extends_context(model.config):
        return facts
    return replace(facts, max_context=None, null_reasons={**facts.null_reasons, "max_context": EXTENDED})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
