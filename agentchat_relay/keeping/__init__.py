"""What an operator does with a data directory: back it up, restore it, look after it, export a space of it."""
