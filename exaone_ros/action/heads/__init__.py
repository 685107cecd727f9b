"""Heads: whatever turns an observation into a chunk of actions.

`base.ActionHead` is the seam that a trained VLA fits into.
"""
