"""A run, or a table of runs, in the terminal."""
