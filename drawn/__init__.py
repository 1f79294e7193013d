"""Drawn bins: the data of the demonstration and of the tests, in the layout of the public dataset."""
