#!/usr/bin/env bash
# What action.yml runs: base and head of a pull request in alternating processes, then the verdict for people.
#
# Reads BASE, HEAD, OVERRIDES (one per line), PAIRS, RELEVANCE, SETUP, PYTHON_OF_CHECKOUT and RESULTS. Writes the table to
# GITHUB_STEP_SUMMARY and RESULTS/comment.md, the page to RESULTS/report.html, and `verdict`, `exit-code`, `comment` and
# `report` to GITHUB_OUTPUT. Ends with the exit code of `kvbench compare`: 0 only where both sides were measured and no
# row is slower; anything unexpected is a failure with its reason.
set -euo pipefail

PAIRS=${PAIRS:-10} RELEVANCE=${RELEVANCE:-0.05} RESULTS=${RESULTS:-kvbench-ab}
SUMMARY=${GITHUB_STEP_SUMMARY:-/dev/null} OUTPUT=${GITHUB_OUTPUT:-/dev/null}
COMMENT=$RESULTS/comment.md
code=1 # until something better is known

# shellcheck disable=SC2317 # the trap calls it
finish() {
    local ended=$?
    trap - EXIT
    [ "$ended" -eq 0 ] || [ "$code" -ne 0 ] || code=$ended
    mkdir -p "$RESULTS"
    [ -s "$COMMENT" ] || printf '### Decoding speed: no verdict\n\nThe comparison ended early (exit code %s): see the log of the job.\n' "$code" >"$COMMENT"
    cat "$COMMENT" >>"$SUMMARY"
    {
        echo "verdict=${verdict:-NONE}"
        echo "exit-code=$code"
        echo "comment=$COMMENT"
        if [ -s "$RESULTS/report.html" ]; then echo "report=$RESULTS/report.html"; fi
    } >>"$OUTPUT"
    exit "$code"
}
trap finish EXIT
: "${BASE:?the revision to compare with is missing: outside of pull requests the input base names it}"
: "${HEAD:?the revision to judge is missing}"

# A shallow checkout has the head alone.
for revision in "$BASE" "$HEAD"; do
    git cat-file -e "$revision^{commit}" 2>/dev/null || git fetch --quiet --no-tags --depth=1 origin "$revision"
done
base=$(git rev-parse --verify "$BASE^{commit}")
head=$(git rev-parse --verify "$HEAD^{commit}")

overrides=()
while IFS= read -r line; do
    [ -z "$line" ] || overrides+=("$line")
done <<<"${OVERRIDES:-}"
options=(--pairs "$PAIRS" --relevance "$RELEVANCE" --results "$RESULTS/runs")
[ -z "${SETUP:-}" ] || options+=(--setup "$SETUP")
[ -z "${PYTHON_OF_CHECKOUT:-}" ] || options+=(--python "$PYTHON_OF_CHECKOUT")

mkdir -p "$RESULTS"
table=$RESULTS/table.md errors=$RESULTS/errors.log
code=0
{
    python -m kvbench compare --ab-revisions "${options[@]}" "$base" "$head" -- "${overrides[@]}" 2>&1 >&3 |
        tee "$errors" >&2
} 3>"$table" || code=$?

if [ ! -s "$table" ]; then
    [ "$code" -ne 0 ] || code=4 # a pass without a table is none
    verdict=NONE
    {
        printf '### Decoding speed: no verdict (exit code %s)\n\n```text\n' "$code"
        tail -n 3 "$errors"
        printf '```\n'
    } >"$COMMENT"
    exit "$code"
fi
# The last line of the table is the verdict over all rows: "SLOWER over 1 row(s) …".
verdict=$(tail -n 1 "$table" | cut -d ' ' -f 1)
case "$verdict:$code" in
    SAME:0 | FASTER:0 | SLOWER:1 | AMBIGUOUS:5) ;;
    *:2 | *:4) verdict=INVALID ;; # the table speaks of what could be read
    *) # the table and the exit code contradict each other
        echo "unexpected: verdict $verdict with exit code $code" >&2
        verdict=INVALID code=4
        ;;
esac
python -m kvbench report "$RESULTS/runs/base" "$RESULTS/runs/new" --redact --output "$RESULTS/report.html" >/dev/null
{
    printf '### Decoding speed: %s\n\n' "$verdict"
    cat "$table"
    # shellcheck disable=SC2016 # Markdown's
    printf '\nBase `%s`, head `%s`, %s processes a side in turns on one machine.\n' "${base:0:12}" "${head:0:12}" "$PAIRS"
} >"$COMMENT"
exit "$code"
