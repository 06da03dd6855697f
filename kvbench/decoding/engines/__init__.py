"""How the operations of a pass get from Python to the device."""
