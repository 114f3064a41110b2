"""The compared methods, one folder each, behind one protocol (base.py)."""
