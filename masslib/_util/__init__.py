"""What every room uses and none of them is about: files, checks, progress, tables."""
