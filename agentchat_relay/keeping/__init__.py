"""What an operator does with a relay's data as a whole, in a directory or a Postgres: back it up, restore it, move it,
look after it, export a space of it.
"""
