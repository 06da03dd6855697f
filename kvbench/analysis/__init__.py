"""What the samples say: statistics, checks, agreement, and the record made of them."""
