"""The documents' generated parts: keys of a recipe, objectives, the command line, lists of names.

A part stands in a Markdown file between ``<!-- generated: NAME -->`` and ``<!-- end -->``. ``make docs`` (``python -m
issl_engine.docs``) writes all of them anew from the code, and a test compares them with it.
"""
