"""What is recorded meanwhile: clocks, lanes, blocks, memory, sensors, environment."""
