"""Imitations of platforms; each does what the real one was seen to do, and says where that was seen."""
