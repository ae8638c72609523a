"""The relay over HTTP: `app.py` lists every route."""
