"""The sentences of every language, by code."""
