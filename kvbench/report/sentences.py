"""What the page says in sentences of its own: one entry per code, with the figures as named arguments.

A second language is a second mapping with the same codes. Sentences that rest on figures of the record (the diagnosis,
checks, warnings) come from the record itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

ENGLISH: Mapping[str, str] = MappingProxyType(
    {
        # The page around the runs.
        "page.loads-nothing": "This page is one file and loads nothing. Built {built_at} by kvbench {version}.",
        "page.unknown": (
            "An em dash stands for a value that could not be measured; its reason is in the table of all figures."
        ),
        "page.no-script": "Sorting, filtering and zooming need JavaScript; every chart is also drawn without it.",
        "page.skip": "Skip to the answer",
        "page.theme": "Theme: switch between light and dark",
        # Names of sections.
        "heading.answer": "Answer",
        "heading.glance": "At a glance",
        "heading.picture": "What each step computes",
        "heading.why": "Why",
        "heading.memory": "Memory",
        "heading.growth": "How a step grows with the context",
        "heading.sizes": "What fits",
        "heading.speed": "Speed in detail",
        "heading.output": "Is the output the same?",
        "heading.turns": "Interruptions",
        "heading.texts": "Text produced",
        "heading.confidence": "Token confidence",
        "heading.checks": "Checks and warnings",
        "heading.machine": "The machine during the run",
        "heading.figures": "All figures",
        "heading.setup": "Configuration and environment",
        "heading.repeat": "Repeat this run",
        "heading.runs": "Runs",
        "heading.charts": "Charts",
        "heading.table": "Table of runs",
        "heading.trend": "Over commits",
        "nav.speed": "Speed",
        "nav.output": "Output",
        "nav.texts": "Text",
        "nav.checks": "Checks",
        "nav.machine": "Machine",
        "nav.figures": "Figures",
        "nav.setup": "Setup",
        "nav.repeat": "Repeat",
        "nav.growth": "Growth",
        # The first screen.
        "title.arms": "{name}: {arms}",
        "title.many-arms": "{name}: {count} ways of decoding",
        "title.runs": "{count} runs of {names}",
        "title.many-runs": "{count} runs",
        "warnings.one": "1 warning",
        "warnings.many": "{count} warnings",
        "warnings.none": "no warnings",
        "interval.blocks": "{level} interval {low} to {high}, {blocks}",
        "blocks.one": "1 block",
        "blocks.many": "{count} blocks",
        "answer.FASTER": "{candidate} decodes {figure} as fast as {baseline}.",
        "answer.SLOWER": "{candidate} is slower: it decodes {figure} as fast as {baseline}.",
        "answer.SAME": "{candidate} decodes as fast as {baseline}: the difference is within ±{band}.",
        "answer.AMBIGUOUS": (
            "{candidate} decodes {figure} as fast as {baseline}, but the interval is too wide for a verdict: increase"
            " measure.blocks."
        ),
        "answer.fastest": "The fastest of {count} arms is {candidate}: it decodes {figure} as fast as {baseline}.",
        "answer.fastest-alike": (
            "{names} are the fastest of {count} arms and cannot be told apart; {candidate} decodes {figure} as fast as"
            " {baseline}."
        ),
        "answer.none-faster": "No arm is faster than {baseline}; the nearest of {count} is {candidate} at {figure}.",
        "answer.none-known": (
            "No arm is known to be faster than {baseline}: the intervals are too wide for a verdict. The nearest of"
            " {count} is {candidate} at {figure}."
        ),
        "answer.no-result": "This run has no result.",
        "answer.not-valid": "Not a result: {reason}.",
        "answer.mismatch": ("{names} does not compute what {baseline} computes, so there is no speed-up to report."),
        "answer.medians": (
            "The medians of the arms give {medians}: {figure} is the geometric mean of the ratios of single blocks,"
            " some of which stand out."
        ),
        "answer.some-not": "{candidate} is not a result: {reason}.",
        "answer.with-prefill": "End to end, prefill included: {figure}.",
        "status": "{word}, {warnings}",
        "answer.end-to-end": "Including the prefill it is {figure}.",
        "answer.over-all": "Over all lengths together {candidate} decodes {figure} as fast as {baseline} ({verdict}).",
        "answer.over-run": "Over the whole run {candidate} decodes {figure} as fast as {baseline} ({verdict}).",
        # Is the output the same?
        "output.IDENTICAL": "same output",
        "output.EQUAL_WITHIN_ROUNDING": "same output, up to rounding",
        "output.MISMATCH": "different output",
        "output.quantised cache": "differs by the cache's quantisation",
        "output.—": "not checked",
        "output.one": "Output: {word}.",
        "output.all": "Output of all {count} other arms against {baseline}: {word}.",
        "output.some": "Output of {names}: {word}.",
        "output.same-text": "All arms wrote the same text, so the difference shows in the logits alone.",
        "output.first-difference": "Prompt {prompt}: the texts differ from character {characters} on.",
        "output.cause": "Cause: {cause}.",
        "output.reference": (
            "{name} against the same model in {dtype}: largest relative logit difference {rel}, another likeliest token"
            " at {flips} of {steps} steps."
        ),
        "output.no-speed": "A speed-up does not count if the output differs or was not checked.",
        # At a glance.
        "glance.median": "Median over blocks, with its interval below.",
        "glance.star": "{star} marks the best arm, and those that cannot be told from it.",
        "glance.over-all": "All lengths together; what holds at each is further down.",
        "column.speedup": "speed-up",
        "column.verdict": "verdict",
        "column.output": "output",
        "column.ttft_s": "first token (TTFT)",
        "column.itl_s": "per token (ITL)",
        "column.decode_tokens_per_s": "decoding",
        "column.end_to_end_tokens_per_s": "end to end",
        "column.kv_cache_bytes": "KV cache",
        "column.peak_allocated_bytes": "peak memory",
        "glance.verdict": "whether the interval clears the band of no change",
        "glance.best": "best",
        "glance.speedup": "decode speed ÷ that of {baseline}",
        "glance.ttft_s": "from the prompt to the first new token",
        "glance.itl_s": "one decode step, which makes one token",
        "glance.decode_tokens_per_s": "new tokens per second after the first",
        "glance.end_to_end_tokens_per_s": "all new tokens, prefill included",
        "glance.kv_cache_bytes": "held by the cache at the end",
        "glance.peak_allocated_bytes": "highest use of device memory",
        "glance.output": "against {baseline}",
        "picture.of-the-run": (
            "In this run, for one sequence of {prompt} prompt and {new} new tokens, nocache computes {without}"
            " positions and cached {cached}."
        ),
        # Memory.
        "memory.cache": "The cache of {name} holds {cache} at the end of the run, beside {weights} of weights.",
        "memory.more": "{candidate} needs {figure} more memory at its peak than {baseline}.",
        "memory.less": "{candidate} needs {figure} less memory at its peak than {baseline}.",
        "memory.unknown": "How much more memory {candidate} needs at its peak than {baseline} is not known ({reason}).",
        # Speed in detail.
        "limits.step": "{name}: a step takes {step}; the hardware limit is {floor}{shares}{bound}.",
        "first.preparation": "{name}: {word} took {seconds}, once for each shape, during the first generation.",
        # Charts.
        "chart.speed": (
            "Tokens per second while decoding; longer is faster. Bars: median over blocks; whiskers: its interval."
        ),
        "chart.no-rates": "No rates: {reason}.",
        "chart.speedup": (
            "Decode speed relative to {baseline}. Faint dots: {blocks}, one by one; hollow: prefill included; grey: the"
            " band of ±{band} that counts as no change."
        ),
        "chart.no-ratio": "No ratio is known.",
        "chart.not-a-result": "{candidate} is not a result: {reason}.",
        "chart.agreement": (
            "Difference of each arm's logits from those of {baseline}, relative to the largest logit. All arms are fed"
            " the same tokens; step 0 is the prefill's token."
        ),
        "chart.memory-stack.device": "Device memory in use at the end of the arm's untimed pass.",
        "chart.memory-stack.host": (
            "The weights of the model with the cache beside them. The process itself, with Python and torch, takes"
            " another {rest}, which is not drawn."
        ),
        "chart.cache": (
            "Bytes held by the cache at each context length, counted from its tensors in an untimed pass, for all"
            " sequences of the largest batch together."
        ),
        "chart.no-cache-bytes": (
            "The cache's bytes are not known: the run ended before its memory pass, or the cache cannot be walked."
        ),
        "chart.latency": (
            "Time of one decode step by the number of tokens that it attends to. Lines: median over blocks; dots:"
            " single steps{beyond}."
        ),
        "chart.latency.beyond": " ({hidden} of {drawn} lie above the chart)",
        "chart.latency.first": "Hollow: the first generation, which also pays for what happens once.",
        "chart.ratio": "Below: speed-up over {baseline} at each length; above 1 is faster.",
        "chart.law": "Lines: the fitted laws over the measured range; markers: median over blocks with its interval.",
        "chart.law.decodes": "Small: steps of a real decode, hollow the first time, filled the second.",
        "chart.no-law": "No latency at any length: the run ended before its second block.",
        "chart.cumulative": "Time until so many new tokens are there, prefill included: the sum of the median steps.",
        "chart.cumulative.law": (
            "Time of so many new tokens after a prompt of {prompt} tokens, by the fitted laws, without the first token."
        ),
        "chart.cumulative.beyond": "Hollow: asks the law about longer contexts than were measured.",
        "chart.hollow-first": "Hollow: the first generation.",
        "chart.overtakes.never": "{candidate} has not taken less time than {baseline} by new token {count}.",
        "chart.overtakes.always": "{candidate} takes less time than {baseline} from the first step on.",
        "chart.overtakes.first-token": "{candidate} has taken less time than {baseline} from the first token on.",
        "chart.overtakes.from": "{candidate} has taken less time than {baseline} from new token {count} on.",
        "chart.distribution": (
            "Share of the single decode steps that took at most so long. A steep curve means steady latency; a long"
            " right end means slow outliers."
        ),
        "chart.step-time": "Mean decode step: median over blocks, whiskers are its interval.",
        "chart.step-time.device": "Hatched: the device waits for the host.",
        "chart.step-time.host": "Hatched: the host dispatches operations, an estimate.",
        "chart.step-time.compiled": "First generations that compile or capture are not drawn.",
        "chart.step-time.floor": "Upright line: the hardware limit, from the ceilings measured on this machine.",
        "chart.no-latency": "No latency: {reason}.",
        "chart.roofline": (
            "Arithmetic per byte read against the rate achieved. Dotted: what is left to the limit. Hollow: the"
            " prefill."
        ),
        "chart.no-roof": "Run `kvbench doctor --ceilings` to see how close this is to the hardware limit ({reason}).",
        "chart.no-step": "No step was measured.",
        "chart.frontier": (
            "Filled: found by trying; hollow: predicted; cross: the smallest size tried that did not fit."
        ),
        "chart.turns": "Time to the first token after each interruption; whiskers: its interval.",
        "chart.no-steps": (
            "The single decode steps were not kept (measure.step_lane=false, or the run ended before its first block)."
        ),
        "chart.device": "Read before and after every block.",
        "chart.memory-over-run": "Read from outside the measured process, all arms one after another.",
        # Texts.
        "texts.none": "No text was produced: the run ended before its untimed pass.",
        "texts.same": "All arms wrote the same text.",
        "texts.different": "The arms wrote different texts.",
        "texts.first": "The first {shown} of {count} prompts.",
        "texts.untimed": "From an untimed generation of the whole length.",
        "texts.after-end": "Grey: after the model's end token, where a chat would have stopped.",
        # Many runs.
        "overview.memory.one": "Memory at the peak: a candidate needs {cost} than its baseline.",
        "overview.memory.many": "Memory at the peak: a candidate needs between {cost} than its baseline.",
        "overview.more": "{figure} more",
        "overview.less": "{figure} less",
        "overview.chart.speed": "Longer is faster. Median over blocks; whiskers: its interval; {valid} valid runs.",
        "overview.chart.no-rate": "No valid run has a rate to show.",
        "overview.chart.left-out": "Runs that are not valid are left out: {count}.",
        "overview.chart.speedup": (
            "The largest speed-up is {best}, at {length} prompt tokens. Above 1 the candidate is faster; whiskers are"
            " the interval; runs that are not valid are left out."
        ),
        "overview.chart.unlike": "Runs that differ in more than their prompts are not joined by a line.",
        # Words around tables, charts and texts.
        "tool.numbers": "Numbers",
        "tool.numbers-of": "Numbers: {title}",
        "tool.log": "log scale",
        "tool.svg": "Download as SVG: {title}",
        "tool.png": "Download as PNG: {title}",
        "tool.copy": "copy",
        "tool.copy-of": "Copy {figure}",
        "tool.link": "Link to: {title}",
        "tool.parts": "Parts of {name}",
        "tool.verdict": "Verdict of {name}",
        "output.rests-on": "what the verdict rests on",
        "output.ends-here": "(ends here)",
        "texts.of": "Text of {arms}",
        "texts.prompt": "prompt",
        "texts.empty": "(empty)",
        "texts.ended": "ended by {reason}",
        "figures.figure": "figure",
        "figures.computed": "how it is computed",
        "figures.unknown": "Unknown here: {reasons}.",
        "column.arm": "arm",
        "column.name": "name",
        "column.value": "value",
        "checks.passed": "passed",
        "checks.failed": "failed",
        "checks.warning": "warning",
        "page.begun": "run {name}, begun",
        "page.download": "Download the record (run.json)",
        "page.too-large": "The record is too large to carry here; it is the run.json of this run's folder.",
        # Titles of charts, of their axes, and of the columns of their numbers.
        "chart-title.speed": "Decode speed by mode",
        "chart-title.speedup": "Speed-up, and the blocks behind it",
        "chart-title.frontier": "What fits",
        "chart-title.latency": "Decode step latency against context length",
        "chart-title.step-time": "Where the time of a decode step goes",
        "chart-title.roofline": "How close to the hardware limit",
        "chart-title.cache": "KV cache against context length",
        "chart-title.memory": "Memory over the run",
        "chart-title.speed-by-run": "Decode speed by run and mode",
        "chart-title.agreement": "Difference of the logits by step",
        "chart-title.device": "The device over the blocks",
        "chart-title.cumulative-by-law": "Time that so many new tokens take",
        "chart-title.memory-stack": "Where the memory is",
        "chart-title.speedup-by-prompt": "Speed-up against prompt length",
        "chart-title.turns": "Time to the first token after each interruption",
        "chart-title.cumulative": "Time until so many tokens are there",
        "chart-title.distribution": "Distribution of inter-token latency",
        "axis.new-over-base": "new ÷ base",
        "axis.commit": "commit",
        "axis.decode-tokens-s": "decode tokens/s",
        "axis.speed-up": "speed-up",
        "axis.step": "step (index of the new token)",
        "axis.largest-relative-difference": "largest relative difference",
        "axis.block": "block (index)",
        "axis.decode-step": "decode step",
        "axis.context-length": "context length (tokens)",
        "axis.new-tokens": "new tokens",
        "axis.time": "time",
        "axis.flop-per-byte-read": "FLOP per byte read",
        "axis.achieved": "achieved",
        "axis.memory": "memory",
        "axis.kv-cache": "KV cache",
        "axis.seconds-since-the-run-began": "seconds since the run began",
        "axis.prompt-tokens": "prompt tokens",
        "axis.first-token": "first token",
        "axis.share-of-steps": "share of steps",
        "axis.logarithmic": "logarithmic",
        "column.95-within": "95 % within",
        "column.allowed": "allowed",
        "column.along": "along",
        "column.another-likeliest-token-at": "another likeliest token at",
        "column.at": "at",
        "column.at-step": "at step",
        "column.at-tokens": "at {tokens} tokens",
        "column.cache": "cache",
        "column.decode-speed": "decode speed",
        "column.decode-step": "decode step",
        "column.end-to-end": "end to end",
        "column.error": "error",
        "column.exactly-0-at": "exactly 0 at",
        "column.first-context": "first context",
        "column.first-generation": "first generation",
        "column.flop-per-byte": "FLOP per byte",
        "column.found": "found",
        "column.from-to": "{low} to {high} tokens",
        "column.growth": "growth",
        "column.hardware-limit": "hardware limit",
        "column.interval": "interval",
        "column.largest-difference": "largest difference",
        "column.last-context": "last context",
        "column.law": "law",
        "column.least": "least",
        "column.longest-context": "longest context",
        "column.median": "median",
        "column.memory": "memory",
        "column.most": "most",
        "column.new-tokens": "{count} new tokens",
        "column.of-a-later-one": "of a later one",
        "column.of-the-limit": "of the limit",
        "column.pass": "pass",
        "column.peak": "peak",
        "column.predicted": "predicted",
        "column.reached": "reached",
        "column.remark": "remark",
        "column.rounding-alone": "rounding alone",
        "column.sensor": "sensor",
        "column.shortest-context": "shortest context",
        "column.speed-up": "speed-up",
        "column.texts-differ-from": "texts differ from",
        "column.together": "together",
        # Base against new.
        "compare.title": "{new} against {base}",
        "compare.verdict": "Verdict: {title}",
        "compare.SLOWER": "{new} is slower than {base}: {arms}.",
        "compare.FASTER": "{new} is faster than {base}: {arms}.",
        "compare.SAME": "{new} decodes as fast as {base}: no change beyond ±{band}.",
        "compare.AMBIGUOUS": "No verdict on {new} against {base} yet: {reason}.",
        "compare.INVALID": "{new} and {base} cannot be compared: {reason}.",
        "compare.no-kind": "{new} and {base} cannot be compared: they have no runs of one kind (compare_key).",
        "compare.rows": "{count} rows, {least} to {most}",
        "compare.caption": "Decode speed: geometric mean over processes, with its 95 % interval below.",
        "compare.base": "base: {name}",
        "compare.new": "new: {name}",
        "compare.ratio": "new ÷ base",
        "compare.processes": "processes, base and new",
        "alone.one": "1 run has no counterpart.",
        "alone.many": "{count} runs have no counterpart.",
        "chart.compare.title": "New over base",
        "chart.compare": (
            "New over base: to the right of 1 is faster; grey: the band of ±{band} that counts as no change; whiskers:"
            " 95 % interval."
        ),
        "chart.trend": (
            "Decode speed by commit, oldest first: geometric mean over the runs of a commit; whiskers: from the least"
            " to the most."
        ),
    }
)


def say(code: str, **figures: object) -> str:
    """The sentence of a code with its figures."""
    return ENGLISH[code].format(**figures)


def counted(code: str, count: int) -> str:
    """The sentence `code.one` or `code.many`."""
    return say(f"{code}.one") if count == 1 else say(f"{code}.many", count=f"{count:,}")


def joined(*sentences: str) -> str:
    """Sentences one after another, empty ones left out."""
    return " ".join(filter(None, sentences))


def listed(names: Sequence[str]) -> str:
    """Such as `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def percent(share: float) -> str:
    """A share such as `5 %`."""
    return f"{100 * share:g} %"


def output_word(agreement: str) -> str:
    """The verdict on an arm's output in plain words, such as `same output, up to rounding`."""
    code = f"output.{agreement}"
    return say(code) if code in ENGLISH else agreement
