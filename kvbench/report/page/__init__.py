"""The HTML report: one file for one run or thousands."""
