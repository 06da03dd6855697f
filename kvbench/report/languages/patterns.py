"""The English sentences of a record, taken apart: every language has a template for each of these clauses.

A sentence is its clauses one after another, in this order; any of them may be missing. A clause has the wordings that
records hold, the current one first. `{step}` is a figure that the template of the same name shows, `{arm:name}` one of
another kind (`KINDS` of `kvbench/report/record_sentences.py`), `{:text}` words that no template shows.
"""

from __future__ import annotations

from collections.abc import Mapping

Clauses = Mapping[str, tuple[str, ...]]

# Why a comparison came out as it did.
DIAGNOSIS: Mapping[str, Clauses] = {
    "diagnosis.launch": {
        "both": (
            "Steps of both modes take {steps:figures}, and the device works {busy:figures} of them; the rest goes into"
            " launching kernels",
            "Steps of both arms take {steps:figures}, and the device works {busy:figures} of them; the rest goes into"
            " launching kernels",
            "Both modes spend {steps:figures} a step launching kernels that keep the device busy for {busy:figures}",
            "Both arms spend {steps:figures} a step launching kernels that keep the device busy for {busy:figures}",
        ),
        "one": (
            "A step of {arm:name} takes {step}, and the device works {busy} of it; the rest goes into launching"
            " kernels",
            "A step of {arm:name} spends {step} launching kernels that keep the device busy for {busy}",
        ),
        "calls": (
            "Calling operators, whatever they compute, takes an estimated {calls} of a {step} step of {arm:name}"
            " ({operations:number} operations)",
        ),
        "more-calls": (" and {calls} of a {step} step of {arm:name} ({operations:number} operations)",),
        "below": (
            ", which below about {tokens:number} tokens of context hides what the cache saves",
            "; below about {tokens:number} tokens the cache has nothing to save",
        ),
        "tried": (". In this run {mode:name} with engine={engine:word} takes {step} a step",),
        "arms": (". Try the arms {arms:arms}", ". Try the arm {arms:arms}"),
        "keys": (". Try {keys:keys}",),
        "fewer-launches": (". Fewer or larger launches would help: a compiled or captured step, or a larger batch",),
        "fewer-operations": (". Fewer or larger operations would help: a compiled step, or a larger batch",),
    },
    "diagnosis.first_visit": {
        "either": (
            "At a length not met before, {extra:number} of the {whole:number} {unit:word} that a step of either takes",
            "{extra:number} of the {whole:number} {unit:word} that a step of either takes at a length not met before",
        ),
        "both": (
            "At a length not met before, {extra:number} of the {whole:number} {unit:word} that a step of {arm:name}"
            " ({other:name}: {other_extra:number} of the {other_whole:number} {other_unit:word}) takes",
            "{extra:number} of the {whole:number} {unit:word} that a step of {arm:name} ({other:name}:"
            " {other_extra:number} of the {other_whole:number} {other_unit:word}) takes at a length not met before",
        ),
        "one": (
            "At a length not met before, {extra:number} of the {whole:number} {unit:word} that a step of {arm:name}"
            " takes",
            "{extra:number} of the {whole:number} {unit:word} that a step of {arm:name} takes at a length not met"
            " before",
        ),
        "cudnn": (" are cuDNN building a plan for it",),
        "attention": (" are its attention building something for it",),
        "alone": (" are paid for that length alone",),
        "allocations": (" come with {count:number} allocations on the device",),
        "always": (
            "; a decode meets a new length at every step",
            "; a real decode meets every length for the first time",
        ),
        "avoids": (". attention={attention:word} avoids it: {first} the first time",),
    },
    "diagnosis.preparing": {
        "compiling": ("Compiling took {time} of the first visit of {arm:name}",),
        "capturing": ("Capturing took {time} of the first visit of {arm:name}",),
        "building": ("Building its kernels took {time} of the first visit of {arm:name}",),
        "preparing": ("Preparing took {time} of the first visit of {arm:name}",),
        "more": (" and {time} of the first visit of {arm:name}",),
        "each-shape": (", once for each shape",),
        "paid-back": ("; against {other:name} that is paid back after about {steps:number} steps",),
    },
    "diagnosis.padding": {
        "all": (
            "Padding to multiples of {bucket:number} tokens adds {share} to what a step of {arm:name} submits: a"
            " smaller bucket adds less and prepares more shapes",
        ),
    },
    "diagnosis.all_logits": {
        "loop": ("The {arm:name} loop computes logits for every position",),
        "drops": (" and builds a cache that it drops",),
        "built-in": (", since this architecture offers nothing else",),
        "measured": (": {share} of its time",),
        "predicted": (": a predicted {share} of its arithmetic is for logits that nobody reads",),
    },
    "diagnosis.habit": {
        "one": ("The habit {habit:word} ({:text}) takes",),
        "several": ("The habits {habits:names} together take",),
        "share": (" {share} of a step [{low}, {high}]",),
        "nothing": (" nothing that shows: the whole interval lies within ±{band}",),
        "memory": (", and {memory} more at the peak of memory",),
    },
    "diagnosis.arithmetic": {
        "all": (
            "A step of {first:name} needs {flops}, one of {second:name} {less}: {factor:number} times the arithmetic"
            " for {times:number} times the time",
            "A step of {first:name} computes {flops}, one of {second:name} {less}: {factor:number} times the"
            " arithmetic for {times:number} times the time",
        ),
        "padding": (", without the {share} that padding adds to {arm:name}",),
        "bound": ("; {arm:name} is bound by computing, at {share} of this machine's rate (MFU)",),
    },
    "diagnosis.break_even": {
        "begin": ("Break-even: ",),
        "crosses": (
            "from about {tokens:number} tokens on a step of {candidate:name} is faster than one of {baseline:name}"
            " ({level} interval {low:number} to {high:number})",
        ),
        "knee": (
            "from about {tokens:number} tokens on, where a step of {baseline:name} outgrows its launches, a step of"
            " {candidate:name} is the faster one ({level} interval below {low:number} to {high:number})",
        ),
        "unclear": (
            "not told: over {low:number} to {high:number} tokens a step of {candidate:name} is not clearly faster or"
            " slower than one of {baseline:name}",
        ),
        "always": (
            "not within the range measured: a step of {candidate:name} is the faster one at every length,"
            " {low:number} to {high:number} tokens",
        ),
        "never": (
            "not within the range measured: a step of {candidate:name} is nowhere the faster one, {low:number} to"
            " {high:number} tokens",
        ),
        "since": ("a step of {candidate:name} is clearly faster from {tokens:number} tokens on, below it is not told",),
        "until": ("a step of {candidate:name} is clearly slower up to {tokens:number} tokens, beyond it is not told",),
        "interval-by-points": ("; the interval is by the points alone, which the laws miss",),
        "by-points": ("; by the points alone, which the laws miss",),
    },
    "diagnosis.growth": {
        "all": (
            "From {shortest:number} to {longest:number} tokens a step of {first:name} becomes {grown:number} times as"
            " long, one of {second:name} {other:number} times",
        ),
    },
    "diagnosis.proposals": {
        "nothing": ("{arm:name} found nothing to propose: every pass made one token, as those of {other:name} do",),
        "accepted": (
            "{share} of the proposed tokens are accepted, so that a pass of {arm:name} makes {per_pass:number} tokens"
            " on average",
        ),
        "time": ("; a pass takes {time} instead of {step} for a step of {other:name}",),
        "pays": (", which pays: {ratio} as fast",),
        "costs": (", which costs more than it saves: {ratio} as fast",),
        "draft": (". The draft's weights take another {bytes}",),
    },
    "diagnosis.shared_prefix": {
        "all": (
            "The {shared:number} tokens that all prompts begin with are computed once: prefills submit {once:number}"
            " tokens instead of {whole:number}",
        ),
        "time": (", and the time to the first token is {mine} instead of {theirs}",),
    },
    "diagnosis.reading": {
        "all": (
            "A step of {arm:name} reads {read} of weights and cache: at this machine's {rate} that is {least}; it"
            " takes {step} (MBU {used})",
        ),
        "near": (", near what the machine allows: only fewer bytes or more sequences for each reading would raise it",),
    },
    "diagnosis.communication": {
        "all": (
            "Of the {step} that a step of {arm:name} takes, {time} are communication between the {ranks:number} ranks"
            " ({share})",
        ),
        "other": ("; of the {other_step} of {other:name}, {other_time}",),
    },
    "diagnosis.rebuilding": {
        "all": ("Rebuilding the lost cache at {tokens:number} tokens takes {time}",),
        "paid-back": (" and is paid back after {steps:number} new tokens",),
    },
    "diagnosis.cache_bytes": {
        "one": ("The cache holds {held} of one sequence at the end of the run",),
        "many": ("The cache holds {held} of {sequences:number} sequences at the end of the run",),
        "whole-one": ("The cache is allocated whole, {held} for one sequence",),
        "whole-many": ("The cache is allocated whole, {held} for {sequences:number} sequences",),
        "token-of-each": (", {per_token} a token of each",),
        "token": (", {per_token} a token",),
        "higher": ("; the peak of memory is {apart} higher than without",),
        "lower": ("; the peak of memory is {apart} lower than without",),
    },
    "diagnosis.energy": {
        "cache-saves": ("The cache saves {share} of the energy per token",),
        "cache-adds": ("The cache adds {share} of the energy per token",),
        "saves": ("{arm:name} saves {share} of the energy per token",),
        "adds": ("{arm:name} adds {share} of the energy per token",),
        "instead": (": {mine} instead of {theirs}, idle power included",),
    },
    "diagnosis.random_weights": {
        "all": (
            "The weights are random: the times are those of the shape; the agreement would hardly notice a broken"
            " cache",
        ),
    },
    "diagnosis.no_ceilings": {
        "all": (
            "How far a step is from what this machine could do is not known: `{command:command}` measures that once",
        ),
    },
    "diagnosis.unlike_engines": {
        "all": ("This ratio is of the engine as well as of the cache: {baseline:name} against {candidate:name}",),
        "none": ("; no two arms compare like with like",),
        "like": (". Like with like, {fast:name} decodes {times:number} times as fast as {slow:name}",),
        "more": (" and {fast:name} decodes {times:number} times as fast as {slow:name}",),
    },
    "diagnosis.ambiguous": {
        "all": (
            "The interval spans {low:number} to {high:number} because the ratio varies by {spread} from block to block",
        ),
        "hardly": (
            "; more blocks alone will hardly give a verdict: quieten the machine, or decode more tokens a block",
            "; more blocks alone will hardly settle it: quieten the machine, or decode more tokens a block",
        ),
        "blocks": (
            "; if the estimate stays where it is, about {blocks:number} blocks give a verdict"
            " (measure.blocks={:number})",
            "; if its middle stays where it is, about {blocks:number} blocks settle it (measure.blocks={:number})",
        ),
    },
    "diagnosis.throttled": {
        "most": ("The device slowed itself down in {count:number} blocks",),
        "causes": (" ({causes:text})",),
        "rest": (": their times are not its own; cool it, or let it rest, and measure again",),
        "some": (
            "{count:number} of the blocks that count was throttled by the device, in which both modes are slower than"
            " it can be; the ratio compares within blocks",
            "{count:number} of the blocks that count were throttled by the device, in which both modes are slower"
            " than it can be; the ratio compares within blocks",
        ),
    },
    "diagnosis.few_blocks": {
        "all": (
            "An interval over {count:number} blocks does not cover what it says: {keys:keys} would",
            "An interval over {count:number} block does not cover what it says: {keys:keys} would",
        ),
    },
    "diagnosis.unused_cache": {
        "every": ("The {arm:name} loop submitted all tokens again at every step: its cache is not used",),
        "some": (
            "The {arm:name} loop submitted all tokens again at {again:number} of {steps:number} steps: its cache is"
            " not used",
        ),
    },
    "diagnosis.broken_promise": {
        "all": (
            "{count:number} of {passes:number} passes of {arm:name} submitted something else than the mode promises",
        ),
        "first": (" (first, pass {place:number}: submitted {tokens:number}, past {before:number} -> {after:number})",),
        "first-past": (
            " (first, pass {place:number}: submitted {tokens:number}, past {before:number} -> {after:number}, where a"
            " past of {right:number} tokens belongs)",
        ),
        "rest": (": its times are of another computation",),
    },
    "diagnosis.other_output": {
        "all": ("{candidate:name} does not compute what {baseline:name} computes",),
        "apart": (
            ": their logits are {apart:number} apart, relative to the largest, and rounding explains {allowed:number}",
        ),
        "parts": (
            ": free runs part at new token {token:number}, where the two best logits are {apart:number} apart, too far"
            " for rounding",
        ),
        "rest": (", so its speed buys another output",),
    },
}

_HOST_MOVED = {
    "operation": ("a small operation took {before} before the blocks and {after} after them ({change})",),
    "product": ("a small matrix product took {before} before the blocks and {after} after them ({change})",),
    "read": ("a read of {size} took {before} before the blocks and {after} after them ({change})",),
    "moved": (", so the host changed its speed during the run",),
    "remedy": (": close other programs, or measure again later",),
}
_UNLIKE = {
    "operation": (
        "a small operation took {now}, and {then} when `kvbench doctor --ceilings` measured this machine ({change})",
    ),
    "product": (
        "a small matrix product took {now}, and {then} when `kvbench doctor --ceilings` measured this machine"
        " ({change})",
    ),
    "read": (
        "a read of {size} took {now}, and {then} when `kvbench doctor --ceilings` measured this machine ({change})",
    ),
}

WARNINGS: Mapping[str, Clauses] = {
    "warning.noise": {
        "all": ("{arm:name}: a decode step varies by {spread} from block to block",),
        "stands-out": (
            ", and of {of:number} blocks {count:number} stands out, up to {most:number} times the median",
            ", and of {of:number} blocks {count:number} stand out, up to {most:number} times the median",
        ),
        "remedy": (": raise measure.blocks, or quieten the machine",),
    },
    "warning.random_weights": {
        "all": (
            "the weights are random: times and bytes are those of the real shape, but such a model hardly looks at its"
            " context, so the agreement verdict would hardly notice a broken cache",
        ),
    },
    "warning.clocks": {
        "all": (
            "the device's clock was between {low:number} and {high:number} MHz at the ends of the blocks: lock it"
            " (`nvidia-smi --lock-gpu-clocks`), or read the ratio, which compares within blocks",
        ),
    },
    "warning.power_cap": {
        "all": (
            "the device's power cap held its clock down in {count:number} of {of:number} blocks: the times are those"
            " of this cap",
        ),
    },
    "warning.memory_headroom": {
        "all": (
            "the device's memory was {full} full: near its end the allocator gives memory back and asks for it again,"
            " which costs time",
        ),
    },
    "warning.device_shared": {
        "all": (
            "{count:number} other process computes on the device: they share its time and memory",
            "{count:number} other processes compute on the device: they share its time and memory",
        ),
    },
    "warning.host_busy": {
        "all": (
            "other processes kept {cores:number} CPU cores busy during the blocks: they take time from the host's side"
            " of every step",
        ),
    },
    "warning.host_load": {
        "all": (
            "the load average was {load:number} on {cores:number} logical cores when the run began: other programs may"
            " have slowed it",
        ),
    },
    "warning.cpu_governor": {
        "all": (
            "the CPU's clock follows its load (governor {governor:word}), so short steps may run below full speed:"
            " `cpupower frequency-set -g performance` holds it",
        ),
    },
    "warning.on_battery": {
        "all": ("the machine runs on its battery, which may hold its clocks down: plug it in",),
    },
    "warning.debug_build": {
        "all": ("this torch is a debug build, several times slower than a release: install a release",),
    },
    "warning.host_moved": _HOST_MOVED,
    "warning.host_slow": {
        **_UNLIKE,
        "slower": (", so the host is slower than it was then: close other programs, or measure again later",),
    },
    "warning.host_fast": {
        **_UNLIKE,
        "faster": (
            ", so the host is faster than it was then: run `kvbench doctor --ceilings` again, the kept limits are out"
            " of date",
        ),
    },
    "warning.drift": {
        "slower": ("{arm:name} became {change} slower from the first blocks to the last",),
        "faster": ("{arm:name} became {change} faster from the first blocks to the last",),
        "rest": (
            " (Kendall's tau {tau:number}, p = {p:number}): its median is of no one state; the speed-up compares"
            " within blocks and hardly feels it",
        ),
    },
    "warning.tokens_vary": {
        "all": (
            "{arm:name}: a timed visit gave other tokens than the untimed pass, so its kernels are not deterministic"
            " or the run leaks state",
        ),
    },
    "warning.larger_error": {
        "all": (
            "{arm:name}: its rounding error is {ratio:number} times that of plain recompute, larger at {count:number}"
            " of {of:number} compared steps and rows: more than chance, though other kernels do as much",
        ),
    },
    "warning.quantised_cache": {
        "all": (
            "{arm:name}: its quantisation changes the likeliest token at {share} of the compared steps, so it writes"
            " another text: keep more bits, or a plain cache",
        ),
    },
    "warning.sensors_lost": {
        "all": ("the device's sensors fell silent during the blocks: whether it was throttled then is not known",),
    },
    "warning.stopping_cap": {
        "blocks": ("cap: {blocks:number} blocks measured before the target precision",),
        "budget": ("cap: {seconds} used before the target precision",),
        "many": ("cap: {blocks:number} blocks measured before the budget of {seconds} was used",),
    },
    "warning.no_text": {
        "all": ("no tokenizer was given: prompts are token ids, and the record has no texts",),
    },
    "warning.random_prompts": {
        "all": (
            "no tokenizer and no prompts were given: the prompts are random token ids of the vocabulary (seed"
            " {seed:number}); times are those of real prompts, what is written means nothing, and the record has no"
            " texts",
        ),
    },
    "warning.transformers_untested": {
        "all": (
            "transformers {found:word} is newer than {newest:word}, the newest that kvbench was tested with; pip"
            " install transformers=={:word} if this goes wrong",
        ),
    },
}

# What the checks say; those that pass are told from those that do not by their words.
CHECKS: Mapping[str, Clauses] = {
    "check.mode_proof": {
        "passed": ("{steps:number} steps submitted what their mode promises",),
    },
    "check.token_count": {
        "exactly": ("exactly {tokens:number} new tokens per sequence in {visits:number} visits",),
        "at-most": ("1 to {tokens:number} new tokens per sequence in {visits:number} visits",),
        "failed": ("{wrong:number} of {visits:number} visits gave another number of tokens than asked for",),
    },
    "check.decode_steps": {
        "all": ("no decode speed of {arm:name} in {count:number} of {of:number} blocks",),
        "ended": (": every sequence ended with its first token",),
        "no-time": (": the decode steps took no time",),
    },
    "check.blocks": {
        "all": ("{blocks:number} blocks measured, a verdict needs {least:number}",),
    },
    "check.agreement": {
        "arm": ("{arm:name} {output:output}",),
    },
    "check.rescore": {
        "arm": ("{arm:name} {output:output}",),
    },
    "check.ranks": {
        "same": ("all {ranks:number} ranks wrote the same tokens in {visits:number} generations",),
        "different": ("{count:number} generations of a rank had other tokens than rank 0's",),
    },
    "check.throttling": {
        "none": ("0 of {of:number} blocks throttled",),
        "all": ("{count:number} of {of:number} blocks throttled",),
        "repeated": (", after {repeated:number} were measured again",),
        "causes": (" ({causes:text})",),
    },
    "check.interruption": {
        "same": ("{interrupted:name} and {kept:name} wrote the same tokens",),
        "different": ("{interrupted:name} and {kept:name} wrote different tokens",),
        "rounding": (", within what rounding does",),
        "quantised": (", within what a quantised cache does",),
    },
    "check.frontier": {
        "all": ("{count:number} of {of:number} searches came to an edge or a limit",),
    },
    "check.audit_timed_tokens": {
        "same": ("{arm:name}: timed and untimed tokens are the same",),
        "different": ("{arm:name}: {count:number} timed visits gave other tokens than the untimed pass",),
    },
    "check.audit_same_arm_twice": {
        "arm": ("{arm:name}: against itself {ratio:interval}: {verdict:verdict}",),
    },
    "check.audit_fresh_prompts": {
        "arm": ("{arm:name}: a repeated prompt decodes {ratio:interval} as fast as a fresh one: {verdict:verdict}",),
    },
}

# How far the output of an arm is from the baseline's, where it is the same.
AGREEMENT: Mapping[str, Clauses] = {
    "agreement": {
        "not-checked": ("not checked (check.agreement=none, or the run ended before)",),
        "apart": ("largest relative logit difference {apart:number} over {steps:number} steps",),
        "error": (
            "error {ratio:number} times rounding's own, allowed {allowed:number}; at the two worst steps"
            " {worst:number} and {second:number}, allowed {worst_allowed:number} and {second_allowed:number}",
        ),
        "reference": ("; against the same model in {dtype:word}, over {over:number} steps",),
        "first-arm": ("; against the first arm, over {over:number} steps",),
        "batches": (" of {batches:number} batches",),
        "path": (" on one token path",),
        "logits": ("; largest relative logit difference {apart:number}",),
        "rounding": ("; rounding alone {noise:number}",),
        "orders": (" (the largest of {orders:number} other orders of summing: ",),
        "other-end": ("sums from the other end)",),
        "shuffled": ("sums in a shuffled order)",),
        "twice": ("twice the rows)",),
        "padding": ("{columns:number} columns of padding)",),
        "attention": ("{attention:word} attention)",),
        "allowed": (", allowed {limit:number}",),
        "flips": ("; the likeliest token differs {flips:number} times",),
        "same": ("; free runs give the same tokens",),
        "part": ("; free runs part at new token {token:number}",),
        "prompt": (" of prompt {prompt:number}",),
        "margin": (" where the two best logits are {margin:number} apart",),
        "near-tie": (": a near-tie",),
        "penalty": (": a near-tie of the scores after the penalty",),
        "draw": (": a draw that rounding tipped",),
    },
}

PATTERNS: Mapping[str, Clauses] = {**DIAGNOSIS, **WARNINGS, **CHECKS, **AGREEMENT}
