"""x."""

from kvbench.report.languages.english import SENTENCES as SENTENCES
