"""Ordinary and hostile documents, all made here, none fetched; the same bytes on every run."""
