"""Why an arm does not compute what the first arm computes: the place where it begins, in sentences."""

from __future__ import annotations

from kvbench.records.agreement_figures import CacheDifference, FaultPlace


def fault_cause(place: FaultPlace) -> str:
    """Where the difference begins, what was seen there, and what may be behind it."""
    return f"{_where(place)}: {_what(place)}"


def _where(place: FaultPlace) -> str:
    at = "at the prefill" if place.step == 0 else f"at new token {place.step}"
    text = f"It begins {at} of prompt {place.sequence + 1}, with {place.context:,} tokens"
    if place.edge:
        text += f", at {place.edge}"
    if place.only_padded_rows:
        text += ", and in padded rows alone"
    return text if place.every_step else f"{text}, and not at every step after it"


def _what(place: FaultPlace) -> str:
    match place.kind:
        case "random":
            return "this arm does not compute the same twice (dropout left on, or random numbers in a pass)"
        case "rotary_length":
            return (
                "one more token changes the keys of those before it, since the rotary embeddings depend on the length;"
                " a cache keeps keys of the shorter length, so that it and recompute rightly differ here"
            )
        case "looks_ahead":
            return (
                f"one more token changes the {_part(place.cache)} of those before it: the attention looks ahead, so no"
                " cache can hold them"
            )
        case "window":
            return (
                f"a cache that keeps every token agrees: the window of {place.window or 0:,} tokens in the model's"
                " config makes this cache forget tokens to which the model attends; cache=full keeps them"
            )
        case "cache" if place.cache is not None:
            return _held(place.cache) + _chunked(place)
        case "unseen":
            return f"the model could not be looked into there ({place.unseen})"
    text = (
        "what the cache holds is right, so the step itself computes otherwise: its positions, its mask, its attention"
    )
    return text + _chunked(place)


def _chunked(place: FaultPlace) -> str:
    if place.chunk is None:
        return ""
    return (
        f"; this model does not compute a prompt in chunks of {place.chunk} tokens as it does in one pass: leave"
        " workload.prefill_chunk out"
    )


def _held(found: CacheDifference) -> str:
    # A state, or a tensor of a model's own cache, goes by the name it has there.
    named = found.positions is None and "." in found.part
    what = f"its tensor {found.part} differs" if named else f"{found.part} of layer {found.layer} differ"
    text = f"{what} from what a single pass over all tokens builds"
    if found.positions is not None and found.first_position is not None and found.last_position is not None:
        text += _positions(found.positions, found.first_position, found.last_position, found.tokens or 0)
    if found.kind:
        text += f"; {found.kind}"
        text += f", as if kept in another type than {found.held}" if found.kind == "they are rounded" else ""
    elif found.part == "keys":
        text += "; the values are right, so it is their positions or what is done to keys alone"
    return text


def _positions(count: int, first: int, last: int, tokens: int) -> str:
    if count == 1:
        return f" at position {first}"
    if count < last - first + 1:
        return f" at {count} positions from {first} to {last}"
    if last + 1 < tokens:
        return f" at positions {first} to {last}"
    return f" from position {first} on" if first else " at every position"


def _part(found: CacheDifference | None) -> str:
    return f"{found.part} of layer {found.layer}" if found is not None else "keys and values"
