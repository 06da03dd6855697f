"""Charts as plain data: what each shows, in a figure for plotly.js and in one sentence."""
