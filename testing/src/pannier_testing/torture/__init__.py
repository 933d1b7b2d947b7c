"""
The torture rig: real workers on a real storage, mistreated by seed, and judged by what they wrote down themselves.

`plan` says what to do. `ground` is what all processes share; `witness` writes down each call of the storage; `roles`
are what the processes do; `crew` starts and replaces them, `faults` mistreat them, and `rig` puts it together.
`testimony` reads the journal, and `oracle` judges. `record` is what is kept of a run; `report` makes a page of many.
"""
