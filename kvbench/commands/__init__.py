"""The command line, one file a command. A run is what there is without a subcommand."""

EXIT_INTERRUPTED = 130  # Ctrl-C
EXIT_PARTLY_UNREADABLE = 2  # of what reads runs: some were left out

SUBCOMMANDS = {
    "report": "build one HTML report over any number of runs",
    "compare": "new runs against old ones: a verdict for every pair, and an exit code for a pipeline",
    "show": "a run or a folder of runs in the terminal",
    "export": "runs as csv, json, parquet, md or pytest-benchmark, charts as svg or png",
    "doctor": "what this machine can measure, what is missing and how to get it",
}
