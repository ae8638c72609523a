"""The contents of files: the seam, a directory and a bucket behind it, and what keeps a content from being lost."""
