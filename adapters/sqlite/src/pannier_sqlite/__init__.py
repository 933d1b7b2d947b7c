"""The storage of pannier that is one SQLite file."""
