"""The part of a record that says in words why a comparison came out as it did."""

from __future__ import annotations

from kvbench.records.part import Part


class Sentence(Part):
    """One plain sentence, the kind of finding that it is, and the JSON pointers of the figures that it rests on."""

    code: str
    text: str
    evidence: tuple[str, ...]
