"""A source copied into a few large tar files (shards), which disks and networks read faster than a million small ones.

FOLDER/train-000000.tar  train-000000.json  ...  test-000000.tar  ...  index.json  pack.json

The same source and settings give the same bytes, also after an interruption.
"""
