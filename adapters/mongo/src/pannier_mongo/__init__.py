"""The storage of pannier on MongoDB."""
