"""What the parts of the console have in common: colours, which only repeat what words say, and the width."""

MOST_COLUMNS = 4  # arms side by side on eighty characters
STYLES = {"VALID": "green", "FASTER": "green", "INVALID": "red", "SLOWER": "red", "AMBIGUOUS": "yellow"}
GREYED = "dim"
