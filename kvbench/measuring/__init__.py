"""What measures: clocks, memory, sensors, environment, probes of a machine, energy, stopping rules."""
