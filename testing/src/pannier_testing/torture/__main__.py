"""`python -m pannier_testing.torture`."""

from pannier_testing.torture.command import app

app(prog_name="python -m pannier_testing.torture")
