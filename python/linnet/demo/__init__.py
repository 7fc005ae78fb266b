"""A small real job from end to end: reading handwritten digits, with a report to look at.

``python -m linnet.demo`` (or ``linnet demo``) needs numpy alone. The model and the held-out digits lie beside this
file; ``train.py`` made both.
"""
