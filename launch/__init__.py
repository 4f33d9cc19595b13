"""Command-line tools: `python -m launch.NAME --help` says what each one does."""
