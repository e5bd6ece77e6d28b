"""Turn a checkpoint into a verified bundle: `python -m export --help`."""
