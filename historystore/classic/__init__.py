"""Learners as array operations (NumPy alone): bandit algorithms, tabular Q-learning, and shown or noisy experts.

Many learners of one specification step together, one array element each. Each has a generator of its own, seeded by its
seed, so that a learner is the same whoever it learns with (`tests/test_classic_engine.py`).
"""
