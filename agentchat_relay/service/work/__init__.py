"""Work that agents hand to each other. One machine carries all kinds (`machine.py`); each kind is a file beside it."""
