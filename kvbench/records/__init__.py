"""Samples and the parts of a record, the record of a run, its folder on disk, and the reading and writing of both."""
