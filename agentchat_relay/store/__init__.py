"""Where everything lives: rows behind one small seam (`seam.py`), SQLite below it."""
