"""From one process to many machines: ranks are started, watched, checked before training, and named when they fail.

supervisor  →  groups of ranks (this machine's; another's through a remote shell and its agent)  →  ranks
"""
