"""Command-line tools: `python -m launch.NAME --help` says what each one does."""

import os

# transformers reads tokenizers and images for us, without PyTorch: it need not advise to get it.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
