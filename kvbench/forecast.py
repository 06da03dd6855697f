"""What a run will need, told before it begins: memory by formula, time by earlier runs. No torch.

Nothing is guessed: where a figure has no basis it is absent, with the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvbench.analysis.keys import NO_MATTER
from kvbench.cache_layers import DTYPE_BYTES
from kvbench.config.compose import to_dict
from kvbench.config.schema import Config
from kvbench.errors import BadInput, RecordError
from kvbench.model_costs import Decoding, facts_from_mapping, peak_bytes
from kvbench.model_facts import ModelFacts, facts_from_config
from kvbench.model_folder import cached_folder, read_object, weight_files
from kvbench.plan import Plan
from kvbench.readiness import found_folder
from kvbench.records.run_record import RunRecord
from kvbench.records.store import read_record, record_paths

UNTIMED_PASSES = 3.0  # generations of each arm besides warm-up and blocks: the first one, the text, memory and proof


@dataclass(frozen=True)
class Past:
    """What is kept of an earlier run: how long it took, over what, and the model's facts."""

    run_id: str
    created_at: str
    config: dict[str, Any]  # without what does not change figures
    model: dict[str, Any]
    arms: tuple[str, ...]
    device: str  # the name of the hardware
    prompt: int  # tokens of the longest
    prompts: int
    generations: float  # of each arm
    seconds: float
    step_s: tuple[float, ...]  # of each arm


@dataclass(frozen=True)
class Forecast:
    """Bytes at the fullest moment and seconds of one run, each with what it rests on; None where nothing is known.

    Seconds are the least and the most: steps without a cache take between as long as they took and, where arithmetic
    decides, as much longer as the context is.
    """

    bytes: int | None
    bytes_basis: str
    seconds: tuple[float, float] | None
    seconds_basis: str


def past_runs(results_dir: Path) -> list[Past]:
    """The runs below a folder that came to their end, newest first. Records are read one at a time."""
    found = []
    for path in record_paths([results_dir]) if results_dir.is_dir() else ():
        try:
            past = _past(read_record(path))
        except RecordError:
            continue
        if past is not None:
            found.append(past)
    return sorted(found, key=lambda past: past.created_at, reverse=True)


def _past(record: RunRecord) -> Past | None:
    workload, config = record.workload, dict(record.config)
    if record.status not in ("ok", "invalid") or workload is None or record.model is None or not record.arms:
        return None
    measure = config.get("measure") or {}
    return Past(
        run_id=record.run_id,
        created_at=record.created_at,
        config={key: value for key, value in config.items() if key not in NO_MATTER},
        model=dict(record.model),
        arms=tuple(arm.label for arm in record.arms),
        device=str(record.environment.get("device_name")),
        prompt=max(workload.prompt_tokens, default=0),
        prompts=len(workload.prompt_tokens),
        generations=int(measure.get("blocks", 0)) + int(measure.get("warmup", 0)) + UNTIMED_PASSES,
        seconds=sum(phase.seconds for phase in record.phases) + (record.arms[0].cold.load_s or 0.0),
        step_s=tuple(arm.itl_s.value or 0.0 for arm in record.arms),
    )


def forecast(plan: Plan, past: Sequence[Past]) -> Forecast:
    """What a plan will need, by the facts of its model and the runs that came before it."""
    of_model = [run for run in past if run.model.get("name") == plan.model_name]
    memory, memory_basis = _memory(plan, of_model)
    seconds, seconds_basis = _seconds(plan, of_model)
    return Forecast(memory, memory_basis, seconds, seconds_basis)


def _memory(plan: Plan, of_model: Sequence[Past]) -> tuple[int | None, str]:
    if plan.config.frontier.axes is not None:
        return None, "a frontier takes all that there is"
    if plan.config.model.weights == "scripted":
        return None, "the scripted model holds nothing"
    facts, basis = _facts(plan.config, of_model)
    if facts is None:
        return None, basis
    new_tokens, rows = plan.config.workload.new_tokens, plan.config.workload.batch_size
    prompt, how = _prompt_tokens(plan)
    on_host = plan.config.device == "cpu"
    peaks = [
        peak_bytes(facts, Decoding(arm, _attention(arm.attention), new_tokens, on_host), rows, prompt + new_tokens)
        for arm in plan.arms
    ]
    known = [peak for peak in peaks if peak is not None]
    if len(known) < len(peaks):
        return None, "no formula for an arm, or for this architecture"
    return max(known), f"{basis}{how}"


def _attention(name: str) -> str:
    return "sdpa" if name == "auto" else name


def _prompt_tokens(plan: Plan) -> tuple[int, str]:
    """Tokens of the longest prompt; of texts their bytes, which no tokenizer makes more tokens of."""
    if plan.prompts.lengths:
        return max(plan.prompts.lengths), ""
    return max((len(text.encode()) for text in plan.prompts.texts), default=0), ", at most: prompts counted in bytes"


def _facts(config: Config, of_model: Sequence[Past]) -> tuple[ModelFacts | None, str]:
    """The model's facts by an earlier run in the same type, else by the folder that it will be read from."""
    wanted = (config.model.dtype, config.model.quantization)
    for run in of_model:
        model = run.config.get("model")
        if isinstance(model, dict) and (model.get("dtype"), model.get("quantization")) == wanted:
            return facts_from_mapping(run.model), f"the weights of {run.run_id}"
    if config.model.quantization != "none":
        return None, "no earlier run with these quantised weights"
    try:
        folder = found_folder(config.model)
        if folder is None and config.model.weights == "hub":
            folder = cached_folder(str(config.model.id), config.model.revision)
        if folder is None or config.model.weights == "random":
            return None, "no earlier run of this model, and its files are not here"
        shape = read_object(folder / "config.json")
        stored = sum(file.stat().st_size for file in weight_files(folder))
    except (BadInput, ValueError, OSError) as error:
        return None, str(error)
    stated = str(shape.get("dtype") or shape.get("torch_dtype") or _first_type(weight_files(folder)) or "float32")
    dtype = stated if config.model.dtype == "auto" else config.model.dtype
    if not stored or stated not in DTYPE_BYTES or dtype not in DTYPE_BYTES:
        return None, "the size of its weights is not known"
    weights = stored * DTYPE_BYTES[dtype] // DTYPE_BYTES[stated]
    facts = facts_from_config(shape, name=folder.name, source=config.model.weights, dtype=dtype, weight_bytes=weights)
    return facts, "the files of its folder"


SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
LARGEST_HEADER = 100_000_000  # bytes, as the format has it


def _first_type(files: Sequence[Path]) -> str | None:
    """The type of the first tensor of a safetensors file, by its header."""
    for path in files:
        if path.suffix != ".safetensors":
            continue
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= LARGEST_HEADER else {}
        types = [each["dtype"] for name, each in header.items() if name != "__metadata__"]
        return SAFETENSORS_TYPES.get(types[0]) if types else None
    return None


def _seconds(plan: Plan, of_model: Sequence[Past]) -> tuple[tuple[float, float] | None, str]:
    labels = tuple(arm.label for arm in plan.arms)
    alike = [run for run in of_model if run.arms == labels and run.config.get("device") == plan.config.device]
    if plan.config.frontier.axes is not None:
        alike = []
    config = {key: value for key, value in to_dict(plan.config).items() if key not in NO_MATTER}
    for run in alike:
        if run.config == config:
            return (run.seconds, run.seconds), f"as {run.run_id} on {run.device}"
    wanted = _size(plan)
    scaled = [run for run in alike if _kind(run.config) == _kind(config)]
    if wanted is None or not scaled:
        return None, "no earlier run of this model, these arms and this device in results_dir"
    nearest = min(scaled, key=lambda run: _distance(run, wanted))
    tokens = float((nearest.config.get("workload") or {}).get("new_tokens") or 1)
    ratio = wanted.tokens / (nearest.generations * nearest.prompts * tokens)
    basis = f"{nearest.run_id} on {nearest.device}, by the tokens decoded"
    if nearest.prompt != wanted.prompt:
        basis += f" (its prompt has {nearest.prompt} tokens, this one {wanted.prompt})"
    longer = (wanted.prompt + plan.config.workload.new_tokens / 2) / (nearest.prompt + tokens / 2)
    whole = sum(nearest.step_s) or 1.0
    growing = sum(step_s for arm, step_s in zip(plan.arms, nearest.step_s, strict=True) if not arm.keeps_past) / whole
    ends = nearest.seconds * ratio, nearest.seconds * ratio * (1 + growing * (longer - 1))
    return (min(ends), max(ends)), basis


@dataclass(frozen=True)
class _Size:
    prompt: int
    tokens: float  # new tokens of an arm's sequences over the whole run
    rows: int


def _size(plan: Plan) -> _Size | None:
    """How much a run decodes; None where its stopping rule decides."""
    measure, workload = plan.config.measure, plan.config.workload
    if measure.stopping != "fixed":
        return None
    prompts = len(plan.prompts.lengths) * plan.prompts.copies or plan.prompts.count
    generations = measure.blocks + measure.warmup + UNTIMED_PASSES
    return _Size(_prompt_tokens(plan)[0], generations * prompts * workload.new_tokens, workload.batch_size)


def _kind(config: dict[str, Any]) -> Any:
    """What makes two runs take their time in the same way."""
    measure = config.get("measure") or {}
    lanes = tuple(measure.get(key) for key in ("step_lane", "stopping", "energy_s"))
    kinds = tuple((config.get(group) or {}).get(key) for group, key in (("scaling", "lengths"), ("frontier", "axes")))
    return lanes, kinds, config.get("audit"), (config.get("workload") or {}).get("batch_size")


def _distance(run: Past, wanted: _Size) -> float:
    return abs(math.log((run.prompt + 1) / (wanted.prompt + 1)))


def in_all(forecasts: Iterable[Forecast]) -> tuple[tuple[float, float], int, int | None]:
    """Least and most seconds of those that have a basis, how many have none, and the most bytes that are known."""
    least, most_s, unknown, most = 0.0, 0.0, 0, None
    for each in forecasts:
        if each.seconds is None:
            unknown += 1
        else:
            least, most_s = least + each.seconds[0], most_s + each.seconds[1]
        most = max(most or 0, each.bytes) if each.bytes is not None else most
    return (least, most_s), unknown, most
