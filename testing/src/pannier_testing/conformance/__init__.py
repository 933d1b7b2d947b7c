"""
The tests of the contract: a module a section, named by its letter; a function a rule, marked with `rule`.

Run them on a storage with `pytest --pyargs pannier_testing.conformance --pannier-storage URL`.
"""
