"""The catalogue of sentences, by code, with figures as arguments: another language is another catalogue.

Placeholders take a unit of `kvbench.text` (`{step_s:s}`), `|one|many` for a count with its noun, or Python's own
format. A sentence that says what was done wrong ends with what to change.
"""

from __future__ import annotations

from string import Formatter
from typing import Any, cast

from kvbench.text import SCALES, Unit, format_value
from kvbench.watching.findings import Finding

ENGLISH = {
    # The cache is used.
    "cache_used": (
        "The cache is used ({cache}): {positions:,} positions were submitted for {tokens:|token|tokens}, where a loop"
        " without one submits {without:,}. There is nothing to change."
    ),
    "beams": (
        "The cache is used ({cache}), by {beams} beams: {positions:,} positions were submitted in batches of {rows}."
        " Each token costs {beams} rows per step; if you don't need beams, set num_beams=1."
    ),
    "assisted": (
        "The cache is used, and each of the {steps:|step|steps} submits several tokens at once, as speculative decoding"
        " does: {tokens_per_step:.2f} tokens per step were kept. Below about 2, compare it with a plain loop."
    ),
    "past_inside": (
        "Each of the {steps:|step|steps} submits one token and hands no cache to the model, so it must keep its past"
        " inside. To check that it does, measure it with kvbench.measure, which compares the logits of both ways."
    ),
    # It is not.
    "nothing_passed": (
        "Your loop{site} passes no cache ({argument}=None): every step submits everything again,"
        " {positions:,} positions for {tokens:|token|tokens}, where {needed:,} would do. Call the model with"
        " use_cache=True, keep out.{argument}, and at the next step pass it as {argument} with the newest token only."
    ),
    "no_cache_argument": (
        "The model takes no cache, so your loop{site} submits everything again at every step: {positions:,} positions"
        " for {tokens:|token|tokens}, where {needed:,} would do. Give its forward pass a cache; kvbench/own_model.py"
        " shows the form that kvbench measures."
    ),
    "cache_dropped": (
        "The model builds a cache at every step and your loop{site} drops it: {positions:,} positions for"
        " {tokens:|token|tokens}, where {needed:,} would do. Keep out.{argument} and pass it as {argument} with the"
        " newest token only; if you want no cache, pass use_cache=False, so that none is built."
    ),
    "cache_off_in_generate": (
        "generate{site} runs with use_cache=False: every step submits everything again, {positions:,} positions for"
        " {tokens:|token|tokens}, where {needed:,} would do. Remove use_cache=False from the call, from"
        " model.generation_config and from model.config."
    ),
    "no_cache_in_generate": (
        "generate{site} keeps no cache although nothing told it to: every step submits everything again, {positions:,}"
        " positions for {tokens:|token|tokens}, where {needed:,} would do. The model hands back no cache: look for"
        " use_cache in its forward pass, and call model.eval() if it is in training mode."
    ),
    "text_beside_cache": (
        "Your loop{site} passes the cache and the whole text beside it: the cache already has these tokens, so the"
        " model reads them twice, computes {positions:,} positions where {needed:,} would do, and writes something"
        " else. Pass only the newest token: input_ids[:, -1:]."
    ),
    "new_cache_each_step": (
        "Your loop{site} hands an empty cache to every step, together with the whole text: {positions:,} positions for"
        " {tokens:|token|tokens}, where {needed:,} would do. Make the cache once, before the loop, and pass only the"
        " newest token."
    ),
    "cache_rebuilt": (
        "The cache is lost on the way: {whole_passes} of {steps:|step|steps} submitted the whole text again{site},"
        " {positions:,} positions where {needed:,} would do. Keep one cache from the prompt to the last token."
    ),
    "past_forgotten": (
        "Your loop{site} submits only the newest token and no cache, so that each of the {steps:|step|steps} sees that"
        " one token and nothing before it: the text is wrong. Pass {argument}=out.{argument} of the step before."
    ),
    "mixed": (
        "The steps{site} come by the text before them in different ways: of {passes:|pass|passes}, {whole_passes}"
        " submitted the whole text; {positions:,} positions were computed where {needed:,} would do. Submit the prompt"
        " once, then only the newest token with the cache."
    ),
    # One cache, several texts.
    "cache_shared": (
        "A cache that still held the {held:|token|tokens} of one text was handed to another text{site},"
        " {times:|time|times}: the model reads both as one. Make a new cache for every prompt, or reset this one."
    ),
    "cache_kept": (
        "A text of {submitted:|token|tokens} began behind the {held:|token|tokens} of the one before{site}, in the same"
        " cache. That is right for the next turn of a conversation, which costs only its new tokens; for another"
        " prompt, make a new cache."
    ),
    "history_beside_cache": (
        "A turn{site} submitted the whole conversation, {submitted:|token|tokens}, beside a cache that already held"
        " {held:,} of them: the model reads them twice. Pass only the tokens that the cache lacks."
    ),
    "prefix_again": (
        "{turns:|text begins|texts begin} with tokens that an earlier one had computed{site}: at least {repeated:,} of"
        " {submitted:,} prompt positions were computed again. Keep the cache from turn to turn and submit only the new"
        " tokens; for a shared system prompt, copy a cache that holds it."
    ),
    # Wrong or slower without need.
    "short_mask": (
        "The attention mask covers {length} of {whole} positions, so that a step does not see its whole past and the"
        " text is wrong. Extend it with every token: torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)."
    ),
    "computed_inside": (
        "A step was handed {submitted:|token|tokens} and computed {computed:,} positions inside the model: its cache"
        " saves nothing. Keep keys and values, not token ids, and project only what is new."
    ),
    "compiled_bypassed": (
        "None of the {passes:|pass|passes} went through torch.compile: methods such as generate are those of the"
        " module inside, which runs as it is. Compile in place: model.compile(), or"
        " model.forward = torch.compile(model.forward)."
    ),
    "gradients": (
        "{passes:|pass|passes} of decoding recorded gradients, which takes time and keeps every activation until the"
        " output is dropped. Decode under torch.inference_mode()."
    ),
    "training_mode": (
        "The model decodes in training mode, in which dropout changes the text. Call model.eval() first."
    ),
    "checkpointing": (
        "The model decodes in training mode with gradient checkpointing, beside which transformers keeps no cache,"
        " whatever use_cache says. Call model.eval() and decode under torch.inference_mode()."
    ),
    "all_logits_keep": (
        "Every step computes logits for all its positions and uses the last: {computed:,} rows of the vocabulary where"
        " {needed:,} would do, up to {bytes:bytes} per step. Pass logits_to_keep=1."
    ),
    "all_logits_model": (
        "Every step computes logits for all its positions and uses the last: {computed:,} rows of the vocabulary where"
        " {needed:,} would do, up to {bytes:bytes} per step. Apply the output layer to the last position only."
    ),
    "prompt_logits_keep": (
        "The prompt's pass computes logits for all {computed:,} positions, {bytes:bytes}, and decoding uses the last"
        " row. Pass logits_to_keep=1."
    ),
    "prompt_logits_model": (
        "The prompt's pass computes logits for all {computed:,} positions, {bytes:bytes}, and decoding uses the last"
        " row. Apply the output layer to the last position only."
    ),
    "host_reads": (
        "Your loop reads {per_step:.1f} values per step to Python{site}. On the CPU that costs little; on a GPU each"
        " read waits until the device is idle. Keep tokens in a tensor and read them once at the end, or every few"
        " steps for the stop token."
    ),
    "host_reads_on_device": (
        "Your loop reads {per_step:.1f} values per step from {device}{site}, and each read waits until the device is"
        " idle. Keep tokens in a tensor and read them once at the end, or every few steps for the stop token."
    ),
    "decoded_again": (
        "The tokenizer decoded {decoded:,} tokens in {decodes:,} calls for {tokens:|token|tokens} written: the text so"
        " far is made again at every tick. Decode only the newest tokens, from the last space or line break on."
    ),
    "encoded_again": (
        "A text was made into tokens {count:|time|times} in {steps:|step|steps}: text is decoded and encoded again on"
        " the way, which may also change the tokens. Append the new token's id instead."
    ),
    "moves": (
        "{per_step:.0f} tensors per step are sent to another device{site}, in the {looked}"
        " steps looked at. Create them on the"
        " model's device, or move them once before the loop."
    ),
    "casts": (
        "{per_step:.0f} tensors per step are converted to another type{site}, in the {looked}"
        " steps looked at. Convert the model and"
        " its inputs once, before the loop."
    ),
    "time_outside": (
        "{share:ratio} of the time passes outside the model: {outside_s:s} per step, beside {step_s:s} in it. A cache"
        " cannot shorten that; look at what the loop does between the passes (sampling, text, reads, printing)."
    ),
    # What the times say.
    "flat_steps": (
        "A step takes the same time whether it submits {few:.0f} positions ({few_s:s}) or {many:.0f} ({many_s:s}): at"
        " these lengths it goes into what every pass does whatever its length, launching operations and reading"
        " weights, and a cache by itself saves little. seen.measure() tells which; against launches try a compiled or"
        " captured step (engine=compiled, graph)."
    ),
    "saved_no_time": (
        "The cache is used, {positions:.1f} times fewer positions, and the time is the same: {with_s:s} per step with"
        " it, {without_s:s} without. At these lengths a step goes into launching operations and reading weights."
        " seen.measure() tells which; against launches try a compiled or captured step (engine=compiled, graph),"
        " against reading a larger batch."
    ),
    "saved_time": (
        "With the cache a step takes {with_s:s} in the model, without it {without_s:s}: {times:.2f} times as long, for"
        " {positions:.1f} times as many positions in all."
    ),
    "measured": (
        "For {tokens:|new token|new tokens} of the longest watched text, a loop with a cache takes {cached_s:s} on this"
        " machine; yours took {watched_s:s} in the model, {wall_s:s} in all."
    ),
    # No decoding.
    "training": (
        "{passes:|pass was|passes were} followed by a backward pass: this is training, which is not decoding. There is"
        " nothing to change: a KV cache has no use here."
    ),
    "training_builds_cache": (
        "{passes:|pass was|passes were} followed by a backward pass: this is training, which is not decoding, and the"
        " model built a cache that nobody uses. Pass use_cache=False."
    ),
    "single_passes": (
        "{passes:|pass|passes} over a whole text, which no decoding step followed: scoring, or a first token only. A"
        " cache has nothing to save there."
    ),
    "nothing_seen": (
        "No pass of this model was seen. Call it as model(...) and not as model.forward(...), watch the object that"
        " your code calls, and do not watch the replay of a captured CUDA graph."
    ),
    "only_errors": "All {passes:|pass|passes} of the model raised an error. Fix that first.",
}
EXPERIMENT = "What it costs: kvbench experiment={experiment}."


class _Figures(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec in SCALES:
            return format_value(value, cast(Unit, format_spec))
        if format_spec.startswith("|"):
            _, one, many = format_spec.split("|")
            return f"{value:,} {one if value == 1 else many}"
        return str(super().format_field(value, format_spec))


def sentence(finding: Finding, catalogue: dict[str, str] = ENGLISH) -> str:
    """The sentence for a finding."""
    text = _Figures().vformat(catalogue[finding.code], (), finding.arguments)
    if finding.experiment is None:
        return text
    return f"{text} {EXPERIMENT.format(experiment=finding.experiment)}"
