"""Recorded episodes: records, file formats, readers and writers."""
