"""Make everything anew."""

from docs._make import MADE

for path, make in MADE.items():
    path.write_text(make())
