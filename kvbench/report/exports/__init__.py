"""Runs in the formats of other programs and of other people: Markdown, csv, parquet, JSON, pictures."""
