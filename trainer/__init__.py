"""Fine-tune BERT-family models: `python -m trainer --help`."""
