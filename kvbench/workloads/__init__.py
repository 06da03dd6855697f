"""What is decoded from: prompts out of files, and the bundled texts."""
