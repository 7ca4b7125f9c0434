"""Many small learners that advance together, equal to Stable-Baselines3's (imports torch)."""
