"""The command line, one file a command. A run is what there is without a subcommand."""

EXIT_INTERRUPTED = 130  # Ctrl-C
LAST = "last"  # in the place of a path: the newest run
EXIT_PARTLY_UNREADABLE = 2  # of what reads runs: some were left out

SUBCOMMANDS = {
    "report": "one HTML report over any number of runs",
    "compare": "new runs against old ones; the exit code is for a pipeline",
    "show": "a run or a folder of runs in the terminal",
    "export": "runs as csv, json, parquet, md …, charts as svg or png",
    "query": "SQL over any number of runs, through DuckDB",
    "push": "runs as a data set of the Hugging Face Hub, redacted",
    "explain": "a picture of what each mode submits for a prompt of yours",
    "watch": "what a script of your own submits to its model",
    "rescore": "log-probabilities of your own against one pass over the text",
    "doctor": "what can be measured on this machine, and what is missing",
    "help": "one key, group or choice explained: help KEY, help all",
}
