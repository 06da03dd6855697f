"""When a key has an effect: the conditions that the fields of the schema name, each with its sentence.

Those about the parts of an arm are in `kvbench.arm`.
"""

from __future__ import annotations

from kvbench.capabilities import INTERRUPTED
from kvbench.options import Condition, with_weights, without_weights

# Below these a draw could only give the likeliest token, but for rounding.
GREEDY_TEMPERATURE = 1e-5
GREEDY_TOP_P = 1e-8

# Where the model comes from.
_UNSHAPED = Condition(
    lambda config, _: not (config.model.weights == "random" and config.model.architecture),
    "with random weights of a given model.architecture",
    "choose model=hub or model=path instead of a ready model",
)
_NO_FOLDER = Condition(
    lambda config, _: config.model.path is None or config.model.weights != "random",
    "beside model.path, which random weights take their shape from",
)
NAMES_A_REPOSITORY = (with_weights("hub", "random", remedy="choose model=hub"), _UNSHAPED, _NO_FOLDER)
NAMES_A_FOLDER = (with_weights("path", "random", remedy="choose model=path"), _UNSHAPED)
READS_A_CONFIG = (with_weights("hub", "path", "random", remedy="choose model=hub or model=path"), _UNSHAPED)
SHARED_LAYERS = (without_weights("python", remedy="choose another model"),)
STORED_WEIGHTS = (with_weights("hub", "path", "embedded"),)
RANDOM_WEIGHTS = (with_weights("random", remedy="set model.weights=random"),)
OWN_MODEL = (with_weights("python", remedy="choose model=python"),)
SCRIPTED = (with_weights("scripted", remedy="choose model=scripted"),)
SEEDED_MODEL = (with_weights("random", "scripted", remedy="set model.weights=random"),)
REAL_MODEL = (without_weights("scripted", remedy="choose another model"),)
_COMPUTED = without_weights("scripted", "python", remedy="choose another model")
QUANTIZABLE = (_COMPUTED,)

# What the arms are.
SHORTHAND = (
    Condition(
        lambda config, _: config.arms is None,
        "beside a list of arms, each of which has its own",
        "write it there, or take the list away with arms=null",
    ),
)
INTERRUPTED_ARM = (
    Condition(
        lambda _, arms: any(arm.mode in INTERRUPTED for arm in arms),
        "without an interrupted arm",
        "set mode=interrupted or mode=resumed",
    ),
)


def _with_mode(mode: str) -> tuple[Condition, ...]:
    return (
        Condition(
            lambda _, arms: any(arm.mode == mode for arm in arms), f"without an arm of mode {mode}", f"set mode={mode}"
        ),
    )


DRAFTED = _with_mode("assisted")
LOOKED_UP = _with_mode("prompt_lookup")

# What kind of run it is.
SCALING = (
    Condition(
        lambda config, _: config.scaling.lengths is not None,
        "without scaling.lengths",
        "choose experiment=scaling or set scaling.lengths",
    ),
)
FRONTIER = (
    Condition(
        lambda config, _: config.frontier.axes is not None,
        "without frontier.axes",
        "choose experiment=frontier or set frontier.axes",
    ),
)


def _axis(name: str) -> Condition:
    return Condition(
        lambda config, _: name in (config.frontier.axes or ()),
        "with frontier.axes={config.frontier.axes}",
        f"name {name} there",
    )


CONTEXT_AXIS = (*FRONTIER, _axis("context"))
BATCH_AXIS = (*FRONTIER, _axis("batch"))
GIVEN_BATCH = (
    Condition(
        lambda config, _: config.frontier.axes != ["batch"], "with frontier.axes=[batch], which tries batch sizes"
    ),
)
ONE_LENGTH = (
    Condition(
        lambda config, _: config.scaling.lengths is None,
        "with scaling.lengths, which cut the bundled text",
        "set scaling.lengths=null",
    ),
)
CUT_PROMPTS = (
    Condition(
        lambda config, _: config.workload.prompt_tokens is not None,
        "without workload.prompt_tokens, which cuts the prompts out of the bundled text",
        "set workload.prompt_tokens",
    ),
    Condition(
        lambda config, _: config.workload.batch_size > 1, "with a single sequence", "set workload.batch_size above 1"
    ),
)
TIMED = (
    Condition(
        lambda config, _: config.frontier.axes is None,
        "with frontier.axes, which tries sizes and times nothing",
        "set frontier.axes=null",
    ),
)
TRANSFORMERS_MEASURED = (*QUANTIZABLE, *TIMED)
REAL_MEASURED = (*REAL_MODEL, *TIMED)
ORDERED = (
    *TIMED,
    Condition(
        lambda config, arms: len(arms) > 1 or config.audit, "with a single arm, whose blocks have no order to draw"
    ),
)
COMPARED = (
    *TIMED,
    Condition(
        lambda config, arms: len(arms) > 1 or config.check.reference != "none",
        "with a single arm, which has none to agree with",
        "use mode=both, or set check.reference",
    ),
)
TRACED = (
    Condition(
        lambda config, _: config.trace.probabilities, "without trace.probabilities=true", "set trace.probabilities=true"
    ),
)

# What is decoded from, and how the next token is chosen.
CHAT = (
    _COMPUTED,
    Condition(
        lambda config, _: config.workload.prompt_tokens is None and config.scaling.lengths is None,
        "with workload.prompt_tokens or scaling.lengths, which cut the bundled text",
    ),
)
WARM = (
    *REAL_MODEL,
    Condition(
        lambda config, _: config.sampling.temperature >= GREEDY_TEMPERATURE,
        "at sampling.temperature={config.sampling.temperature:g}, which takes the likeliest token",
        "set sampling.temperature above 0",
    ),
)
DRAWS = (
    *WARM,
    Condition(
        lambda config, _: config.sampling.top_p >= GREEDY_TOP_P,
        "at sampling.top_p={config.sampling.top_p:g}, which takes the likeliest token",
        "set a higher sampling.top_p",
    ),
)


def _stopping(*rules: str) -> tuple[Condition, ...]:
    return (
        *TIMED,
        Condition(
            lambda config, _: config.measure.stopping in rules,
            "with measure.stopping={config.measure.stopping}",
            f"set measure.stopping={' or '.join(rules)}",
        ),
    )


TO_PRECISION = _stopping("precision")
TO_A_BUDGET = _stopping("budget", "precision")
KILLABLE = (
    Condition(
        lambda config, _: config.launch == "worker",
        "with launch=inline, where nothing could end the run",
        "use launch=worker",
    ),
    Condition(
        lambda config, _: config.frontier.axes is None, "with frontier.axes, where frontier.timeout_s ends a single try"
    ),
)
