"""The daily account of every instance of every account."""
