"""What every room stands on: whole files, names of files, registries, options, plain text.

`files` writes a file whole and hashes it, `file_names` makes file names from any names,
`registry` finds a class by its name, `options` checks values by annotations, `text` makes
one-line messages. It knows nothing of audio, vectors or detectors, and imports nothing heavy.
"""
