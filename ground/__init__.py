"""What every room stands on: whole files, names of files, registries, menus, options, text.

`files` writes a file whole and hashes it, `file_names` makes file names from any names,
`registry` finds a class by its name, `menu` loads names on first use, `options` checks values by
annotations, `text` makes one-line messages. The room knows nothing of audio, vectors or
detectors, and imports nothing heavy.
"""
