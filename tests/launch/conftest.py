"""Commands are called as functions here, several of them in one process."""

import pytest
from absl import flags


@pytest.fixture(scope="session", autouse=True)
def parsed_flags() -> None:
    """As if a command line had been read: each command imported so far has flags of its own that
    must be given, so that no line could satisfy all of them.
    """
    flags.FLAGS.mark_as_parsed()
