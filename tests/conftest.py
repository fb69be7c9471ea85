"""What holds for all tests: drawn examples are the same in every run, and no test depends on how busy the machine is.

`pytest --hypothesis-profile=wide` draws new ones, and prints how to repeat a failure.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("wide", deadline=None, print_blob=True)
settings.load_profile("fixed")
