"""What holds for all tests: Hypothesis draws fewer examples than it would, and never watches the clock."""

from hypothesis import settings

settings.register_profile("pannier", max_examples=50, deadline=None)  # a busy machine is no fault of an example
settings.load_profile("pannier")
