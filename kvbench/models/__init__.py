"""What is decoded: loading, facts, and the embedded model."""
