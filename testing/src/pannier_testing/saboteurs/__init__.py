"""
Storages that are wrong on purpose, so that anyone can audit the suite, and angels, which are odd but right.

A module a section of the contract, named as those of `pannier_testing.conformance`. Each saboteur is a class with one
small override, marked by a decorator of `making` with the rule whose test must fail on it; `angels` holds the angels.
`python -m pannier_testing.saboteurs` tries them all. Needs the adapters for memory and SQLite:
`pip install "pannier-testing[saboteurs]"`.
"""
