"""Recordings on disk: data sets, layouts, audio files, demo data."""
